//! Fills the gaps of a request from a bundle, and checks every value against it.

use std::hash::{BuildHasher, Hasher};

use anyhow::{Context, Result};

use super::family::check_path;
use super::levels::{with_patches, with_trained_timesteps};
use super::size::size_of;
use super::{LARGEST_COUNT, Request, Resolved, Task};
use crate::bundle::{Architecture, Bundle, Family};
use crate::{refuse, sampler, text};

/// Steps of a sampler that a pixel model was not published with, where the person names none.
const STEPS_OF_ANOTHER_SAMPLER: usize = 50;

impl Request {
    /// Fills the gaps from `bundle` and checks every value against it.
    ///
    /// # Errors
    /// All are the caller's fault: a prompt or count that is too long or large; steps or guidance that the model was not made for
    /// (unless forced); a size that is no multiple of the latents' or not the export's; a mask without an input, either of them
    /// without an encoder in the bundle; a strength out of range or too small for one step; an override the sampler does not take.
    pub fn resolve(&self, bundle: &Bundle) -> Result<Resolved> {
        text::check("prompt", &self.prompt)?;
        if let Some(negative) = &self.negative {
            text::check("negative prompt", negative)?;
        }
        self.check_weights(bundle)?;
        let count = match &self.walk {
            Some(walk) => {
                walk.check()?;
                walk.shares.len()
            }
            None => self.count.max(1),
        };
        let mut warnings = Vec::new();
        if count > LARGEST_COUNT {
            refuse!("count: is {count}, expected at most {LARGEST_COUNT}");
        }
        let class = self.resolve_class(bundle)?;
        let frames = self.resolve_frames(bundle, &mut warnings)?;
        let (width, height) = size_of(bundle, self.size, self.input.as_ref().or(self.input_frames.first()))?;
        let task = self.resolve_task(bundle, width, height, &mut warnings)?;
        let strength = self.resolve_strength(bundle, &task)?;
        let guidance = self.resolve_guidance(bundle)?;
        let (sampler, solver) = match &bundle.family {
            family if family.is_direct() => (self.resolve_no_sampler(bundle)?, None),
            family if family.is_integrated() => self.resolve_field(bundle)?,
            _ => (self.resolve_sampler(bundle, &task)?, None),
        };
        if solver.is_none() && self.sampler.tolerance.is_some() {
            refuse!("tolerance: is for the solvers of a continuous flow or a score network, such as --sampler dopri5");
        }
        let steps = self.resolve_steps(bundle, sampler.as_ref(), strength)?;
        // A latent consistency model shortens the teacher's way rather than its own; the others begin later on theirs.
        let shortened = bundle.is_latent_consistency().then(|| widen(strength));
        let mut run = sampler::Run { steps, strength: shortened, ..self.sampler.run.clone() };
        if let Some(config) = &sampler {
            check_path(bundle, config.kind())?;
            let is_own = self.sampler.choice.is_none() && self.sampler.config.is_none();
            run = with_trained_timesteps(&run, bundle).filter(|_| is_own).unwrap_or(run);
            let latents = frames.filter(|_| bundle.architecture() == Some(Architecture::Ltx)).map(|frames| frames.latents);
            run = with_patches(run, config, bundle, (width, height), latents);
            // Built once here for its own checks, so that a run that cannot be made is refused before anything is loaded.
            config.build(&run)?;
        }
        let negative = self.resolve_negative(bundle, guidance, &mut warnings);
        Ok(Resolved {
            prompt: self.prompt.clone(),
            negative,
            plain_prompt: self.plain_prompt || bundle.architecture().is_none_or(Architecture::is_transformer),
            seed: self.seed.unwrap_or_else(drawn_seed),
            random_device: self.random_device,
            steps,
            guidance,
            width,
            height,
            count,
            sampler,
            run,
            solver,
            class,
            truncation: self.resolve_truncation(bundle)?,
            style_mix: self.resolve_style_mix(bundle)?,
            temperature: self.resolve_temperature(bundle)?,
            walk: self.walk.clone(),
            frames,
            samples: self.resolve_samples()?,
            task,
            control: self.resolve_control(bundle, width, height)?,
            strength,
            warnings,
        })
    }

    /// Weights of words mean something to CLIP's encoders alone: a T5 was never trained to, and reads brackets as the letters they are.
    fn check_weights(&self, bundle: &Bundle) -> Result<()> {
        if self.plain_prompt || !bundle.takes_text() {
            return Ok(());
        }
        for (what, text) in [("prompt", Some(&self.prompt)), ("negative prompt", self.negative.as_ref())] {
            let Some(text) = text else { continue };
            if !bundle.architecture().is_some_and(Architecture::is_transformer) {
                text::parts(what, text)?;
            } else if text::has_numbers(text) {
                refuse!(
                    "{what}: has weights such as (word:1.3), and model {} reads sentences with a T5, which takes none; say in words what                      matters, or take --plain-prompt, which reads brackets as letters",
                    bundle.name()
                );
            }
        }
        Ok(())
    }

    fn resolve_negative(&self, bundle: &Bundle, guidance: f32, warnings: &mut Vec<String>) -> Option<String> {
        let negative = self.negative.as_ref()?;
        if bundle.takes_text() && guidance > 1.0 && !bundle.takes_guidance_embedding() {
            return Some(negative.clone());
        }
        if !negative.trim().is_empty() {
            warnings.push(format!(
                "the negative prompt has no effect: this run makes no pass without the prompt (guidance {guidance})"
            ));
        }
        None
    }

    /// A family of one pass has no sampler, and nothing of one may be asked for.
    fn resolve_no_sampler(&self, bundle: &Bundle) -> Result<Option<sampler::Config>> {
        if !self.sampler.to_map().is_empty() {
            refuse!("sampler: model {} makes a picture in one pass and has none; leave it out", bundle.name());
        }
        Ok(None)
    }

    fn resolve_guidance(&self, bundle: &Bundle) -> Result<f32> {
        let habits = &bundle.habits;
        let guidance = self.guidance.unwrap_or(habits.guidance);
        if !(0.0..=100.0).contains(&guidance) {
            refuse!("guidance: is {guidance}, expected 0 to 100");
        }
        if guidance != 1.0 && !bundle.takes_text() && bundle.null_class.is_none() {
            refuse!(
                "guidance: is {guidance}, and model {} has no way without a class to compare with; leave it out",
                bundle.name()
            );
        }
        if guidance < 1.0 && !bundle.takes_text() {
            refuse!("guidance: is {guidance}, expected 1 (none) or more");
        }
        if guidance > 1.0 && habits.without_guidance && !self.force {
            refuse!(
                "guidance: is {guidance}, and this model was distilled to work without (known from {}); leave it out; --force (a job's `force`) takes it all the same",
                habits.source
            );
        }
        Ok(guidance)
    }

    fn resolve_sampler(&self, bundle: &Bundle, task: &Task) -> Result<Option<sampler::Config>> {
        if let Some(method) = self.sampler.method {
            refuse!("sampler: `{method}` solves the equation of a continuous flow or a score network, and this is neither");
        }
        let own = match &self.sampler.config {
            Some(config) => config.clone(),
            None => bundle.repaired_scheduler(matches!(task, Task::Inpaint { .. }))?.context("the bundle has no sampler")?,
        };
        let Some(choice) = self.sampler.choice else {
            if let (Some(class), None) = (&bundle.unknown_scheduler, &self.sampler.config) {
                refuse!(
                    "sampler: the model's own is `{class}`, which Kiln has not; name another, such as --sampler {}",
                    sampler::Kind::DpmSolverMultistep.name()
                );
            }
            return Ok(Some(own));
        };
        if !own.suits(choice.kind) && !self.force {
            let fit: Vec<&str> = sampler::Kind::ALL.iter().filter(|kind| own.suits(**kind)).map(|kind| kind.name()).collect();
            refuse!(
                "sampler: `{}` would give noise with this model, whose own is `{}`; {} would do, and --force (a job's `force`) takes it all the same",
                choice.kind,
                own.kind(),
                fit.join(", ")
            );
        }
        own.with_choice(choice).map(Some)
    }

    fn resolve_steps(&self, bundle: &Bundle, sampler: Option<&sampler::Config>, strength: f32) -> Result<usize> {
        let habits = &bundle.habits;
        let run = &self.sampler.run;
        let kind = sampler.map(sampler::Config::kind);
        // Noise levels for `euler` end with the last one, which is no step.
        let levels = |sigmas: &Vec<f32>| sigmas.len() - usize::from(kind == Some(sampler::Kind::Euler) && !sigmas.is_empty());
        let given = run.timesteps.as_ref().map(Vec::len).or(run.sigmas.as_ref().map(levels));
        if given == Some(0) {
            refuse!("sigmas: holds no step for this sampler, expected two noise levels or more, of which the last is the end");
        }
        if let (Some(given), Some(steps)) = (given, self.steps.filter(|steps| Some(*steps) != given)) {
            refuse!("steps: is {steps}, and {given} timesteps or sigmas are given; leave one of the two out");
        }
        let makes_a_step = |steps: usize| bundle.is_latent_consistency() || steps_taken(bundle, steps, strength) > 0;
        let steps = given.or(self.steps).unwrap_or_else(|| {
            // A picture to begin with shortens the way: of the counts the model takes, the first that leaves a step.
            let mut steps = habits.default_steps;
            // An ancestral model's thousand steps are its own sampler's need; the others of pixels make do with fifty.
            let own = bundle.scheduler.as_ref().map(sampler::Config::kind);
            if bundle.family == Family::Diffusion && habits.trained_steps.is_empty() && kind != own {
                steps = steps.min(STEPS_OF_ANOTHER_SAMPLER);
            }
            while !makes_a_step(steps) && (steps < habits.largest_steps) {
                steps += 1;
                while !habits.takes_steps(steps) && steps < habits.largest_steps {
                    steps += 1;
                }
            }
            steps
        });
        if steps == 1 && kind == Some(sampler::Kind::ScoreSdeVe) {
            refuse!("steps: is 1, expected 2 or more for sampler `ve`: a single step would begin at the least noise level");
        }
        if steps == 0 {
            refuse!("steps: is 0, expected {}", habits.steps_text());
        }
        if !habits.takes_steps(steps) && given.is_none() && !self.force {
            let why = if habits.trained_steps.is_empty() {
                "more would only take time"
            } else {
                "another count spoils the picture of a distilled model"
            };
            refuse!(
                "steps: is {steps}, expected {} (known from {}): {why}; --force (a job's `force`) takes it all the same",
                habits.steps_text(),
                habits.source
            );
        }
        if !makes_a_step(steps) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of steps")]
            let needed = (1.0 / strength).ceil() as usize;
            refuse!("strength: {strength} of {steps} steps leaves none; take {needed} steps or more, or a greater strength");
        }
        Ok(steps)
    }
}

/// How many of `steps` are made when a picture is taken in at `strength`, as diffusers counts them: a part of a step is left out,
/// and made by the transformers' pipelines.
#[must_use]
pub fn steps_taken(bundle: &Bundle, steps: usize, strength: f32) -> usize {
    part_of_steps(steps, strength, bundle.architecture().is_some_and(Architecture::is_transformer))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a count of steps")]
fn part_of_steps(steps: usize, strength: f32, begun_is_made: bool) -> usize {
    let taken = (steps as f64 * widen(strength)).min(steps as f64);
    if begun_is_made { steps - (steps as f64 - taken) as usize } else { taken as usize }
}

/// 0.6 as a person wrote it, rather than the f32 next to it: the product with a count is cut off, and 5 × 0.6 is 3.
pub(crate) fn widen(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// A seed nobody chose. It stays below 2^32, so that it is short to write down and every tool takes it.
fn drawn_seed() -> u64 {
    // The standard library's hash keys come from the system's random source.
    let hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.finish() & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_taken_cuts_off_as_python_does() {
        for (steps, strength, expected) in
            [(5, 0.6, 3), (10, 0.7, 7), (50, 0.8, 40), (3, 0.3, 0), (1, 1.0, 1), (4, 0.25, 1), (7, 0.75, 5)]
        {
            assert_eq!(part_of_steps(steps, strength, false), expected, "{steps} at {strength}");
        }
        for (steps, strength, expected) in [(5, 0.6, 3), (7, 0.3, 3), (3, 0.3, 1), (4, 0.25, 1), (28, 0.6, 17), (4, 1.0, 4)] {
            assert_eq!(part_of_steps(steps, strength, true), expected, "{steps} at {strength}");
        }
    }
}
