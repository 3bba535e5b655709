//! What is asked for as a server takes it; what only this machine can do is refused.

use anyhow::Result;

use super::{Inputs, RequestArguments};
use crate::cli::film::Film;
use crate::client::Wish;
use crate::output::read_limited;
use crate::{refusal, refuse};

impl RequestArguments {
    /// The clip that they ask for, of a server whose model `name` makes clips or, as `makes_clips` says, pictures.
    pub(in crate::cli) fn distant_film(&self, name: &str, makes_clips: bool) -> Result<Option<Film>> {
        if makes_clips {
            return Ok(Some(self.clip.film(None)?.0));
        }
        match self.clip.given().iter().find(|(_, given)| *given) {
            Some((flag, _)) => refuse!("{flag}: is said of a clip, and the server's model {name} makes pictures; leave it out"),
            None => Ok(None),
        }
    }

    /// The job that they ask a server for, and the pictures that go in.
    pub(in crate::cli) fn wish(&self) -> Result<(Wish, Inputs)> {
        let device = &self.device;
        let of_this_machine = [
            ("--threads", device.threads.is_some()),
            ("--provider", device.provider.is_some()),
            ("--provider-library", device.provider_library.is_some()),
            ("--allow-fallback", device.allow_fallback),
            ("--precision", device.precision.is_some()),
            ("--safety", self.safety.safety.is_some()),
            ("--no-safety", self.safety.no_safety),
            ("--memory", self.memory.is_some()),
            ("--embedding", !self.embedding.is_empty()),
            ("--tile", self.tile.is_some()),
            ("--decoder", self.decoder.is_some()),
        ];
        if let Some((flag, _)) = of_this_machine.iter().find(|(_, given)| *given) {
            refuse!(
                "{flag}: is this machine's, and --server has another make the picture; `kiln serve` takes what its device needs"
            );
        }
        let of_no_server = [
            ("--from", self.from.is_some()),
            ("--spacing", self.spacing.is_some()),
            ("--shift", self.shift.is_some()),
            ("--timesteps", self.timesteps.is_some()),
            ("--sigmas", self.sigmas.is_some()),
            ("--tolerance", self.tolerance.is_some()),
            ("--eta", self.eta.is_some()),
            ("--rng", self.rng.is_some()),
            ("--style-mix", self.style_mix.is_some()),
            ("--control", self.control.is_some()),
            ("--control-scale", self.control_scale.is_some()),
        ];
        let of_clips = self.clip.given().into_iter().filter(|(flag, _)| *flag == "--interpolate");
        if let Some((flag, _)) = of_no_server.into_iter().chain(of_clips).find(|(_, given)| *given) {
            refuse!("{flag}: is not taken by a server; without --server this machine does it");
        }
        let inputs = Inputs::of(self.input.as_deref(), self.mask.as_deref(), None, None)?;
        // A picture that is none is told of before anything is sent.
        inputs.input()?;
        inputs.mask()?;
        let model = self.model.as_ref().map(|model| {
            let name = model.to_str().filter(|name| !name.contains(['/', '\\']));
            let told = || refusal!("--model {}: expected a name that the server has for a model", model.display());
            name.map(str::to_owned).ok_or_else(told)
        });
        let wish = Wish {
            prompt: self.prompt.clone().unwrap_or_default(),
            negative_prompt: self.negative.clone(),
            plain_prompt: self.plain_prompt,
            model: model.transpose()?,
            seed: self.seed,
            steps: self.steps,
            size: self.size,
            guidance: self.guidance,
            sampler: self.sampler.clone(),
            within_s: self.within.map(|within_ms| within_ms / 1_000.0),
            may_shrink: self.may_shrink,
            force: self.force,
            count: usize::try_from(self.count)?,
            frames: self.clip.frames,
            strength: self.strength,
            truncation: self.truncation,
            temperature: self.temperature,
            picture: self.input.as_deref().map(read_limited).transpose()?,
            mask: self.mask.as_deref().map(read_limited).transpose()?,
            previews: self.preview.is_some(),
        };
        Ok((wish, inputs))
    }
}
