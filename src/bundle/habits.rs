//! What a model takes by habit: steps, guidance, size.
//!
//! The card decides. Where there is none, the pipeline's class and the model's published name do, since an export of a distilled
//! model says nowhere in its configuration how it was distilled.

use super::{Architecture, Bundle, Family};

/// Step counts and defaults of a bundle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Habits {
    /// The counts that a distilled model was trained for, ascending; empty for an undistilled one.
    pub trained_steps: Vec<usize>,
    /// Taken when the person names none.
    pub default_steps: usize,
    /// More is refused unless forced.
    pub largest_steps: usize,
    /// Taken when the person names none.
    pub guidance: f32,
    /// Whether the model was distilled without classifier-free guidance, so that a scale above 1 spoils the picture.
    pub without_guidance: bool,
    /// Where this is known from, for messages.
    pub source: String,
}

impl Habits {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut habits = Self::inferred(bundle);
        let Some(card) = &bundle.card else { return habits };
        if !card.steps.trained.is_empty() || card.steps.default.is_some() || card.steps.largest.is_some() {
            let mut trained = card.steps.trained.clone();
            trained.sort_unstable();
            trained.dedup();
            let longest = trained.last().copied();
            habits.default_steps = card.steps.default.or(longest).unwrap_or(habits.default_steps);
            habits.largest_steps = card.steps.largest.or(longest).unwrap_or(habits.largest_steps).max(habits.default_steps);
            habits.trained_steps = trained;
            habits.source = "the card".into();
        }
        let is_distilled = !card.steps.trained.is_empty() && !bundle.takes_guidance_embedding();
        if let Some(guidance) = card.guidance.default.or(is_distilled.then_some(1.0)) {
            habits.without_guidance = is_distilled && guidance <= 1.0;
            habits.guidance = guidance;
        }
        habits
    }

    fn inferred(bundle: &Bundle) -> Self {
        let own = |default_steps, largest_steps, source: &str| Self {
            trained_steps: Vec::new(),
            default_steps,
            largest_steps,
            guidance: 1.0,
            without_guidance: bundle.null_class.is_none(),
            source: source.to_owned(),
        };
        let longest = bundle.scheduler.as_ref().map_or(1000, crate::sampler::Config::num_train_timesteps);
        let architecture = match &bundle.family {
            Family::LatentDiffusion(architecture) => *architecture,
            Family::Vae { .. } | Family::Gan { .. } | Family::Flow { .. } => {
                return own(1, 1, "the family, which makes a picture in one pass");
            }
            Family::ContinuousFlow | Family::Score { .. } => return own(50, 1000, "the family's own defaults"),
            Family::Diffusion => return own(longest, longest, "the pipeline's own defaults"),
        };
        // A name is a path where it was exported from a folder, and only its end is the model's.
        let end = |path: &str| path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
        let name = match bundle.published_name.as_deref().map(end).filter(|name| !name.is_empty()) {
            Some(published) => format!("{published} {}", bundle.folder_name().to_lowercase()),
            None => bundle.folder_name().to_lowercase(),
        };
        let words: Vec<&str> = name.split(|letter: char| !letter.is_alphanumeric()).collect();
        let says = |word: &str| words.contains(&word);
        let distilled = |trained: &[usize], default, source: &str| Self {
            trained_steps: trained.to_vec(),
            default_steps: default,
            largest_steps: trained.last().copied().unwrap_or(default),
            guidance: 1.0,
            without_guidance: true,
            source: source.to_owned(),
        };
        if architecture == Architecture::Flux {
            // What has no input for a scale was distilled to need none, in few steps.
            return match bundle.takes_guidance_embedding() {
                true => Self { guidance: 3.5, without_guidance: false, ..own(28, longest, "the pipeline's own defaults") },
                false => Self {
                    trained_steps: vec![1, 2, 3, 4],
                    largest_steps: 4,
                    ..own(4, 4, "the transformer, which takes no guidance")
                },
            };
        }
        if architecture == Architecture::StableDiffusion3 {
            return match says("turbo") {
                true => distilled(&[1, 2, 3, 4, 5, 6, 7, 8], 4, "the name, which says turbo"),
                false => Self { guidance: 7.0, without_guidance: false, ..own(28, longest, "the pipeline's own defaults") },
            };
        }
        if matches!(architecture, Architecture::PixArtAlpha | Architecture::PixArtSigma) {
            let own_kind = bundle.scheduler.as_ref().map(crate::sampler::Config::kind);
            return match own_kind {
                _ if says("dmd") => distilled(&[1], 1, "the name, which says dmd"),
                Some(crate::sampler::Kind::Lcm) => distilled(&[1, 2, 3, 4, 5, 6, 7, 8], 4, "the sampler, a consistency model's"),
                _ => Self { guidance: 4.5, without_guidance: false, ..own(20, longest, "the pipeline's own defaults") },
            };
        }
        if architecture == Architecture::Sana {
            return Self { guidance: 4.5, without_guidance: false, ..own(20, longest, "the pipeline's own defaults") };
        }
        if architecture == Architecture::SanaSprint {
            let few = distilled(&[1, 2, 3, 4], 2, "the pipeline, which was distilled to a few steps");
            return Self { guidance: 4.5, without_guidance: false, ..few };
        }
        if architecture == Architecture::Wan {
            return match says("lightx2v") || says("distill") || says("distilled") {
                true => distilled(&[1, 2, 3, 4, 5, 6, 7, 8], 4, "the name, which says that it was distilled"),
                false => Self { guidance: 5.0, without_guidance: false, ..own(50, longest, "the pipeline's own defaults") },
            };
        }
        if architecture == Architecture::Ltx {
            return match says("distilled") {
                true => distilled(&[4, 5, 6, 7, 8], 8, "the name, which says distilled"),
                false => Self { guidance: 3.0, without_guidance: false, ..own(50, longest, "the pipeline's own defaults") },
            };
        }
        if bundle.is_latent_consistency() {
            return Self {
                guidance: 8.5,
                without_guidance: false,
                ..distilled(&[1, 2, 3, 4, 5, 6, 7, 8], 4, "the latent consistency denoiser")
            };
        }
        if says("turbo") && (says("sd") || says("sdxl")) {
            return distilled(&[1, 2, 3, 4], 1, "the name, which says turbo");
        }
        if says("turbo") {
            // Models tuned on top of a turbo model take more steps and some guidance, each its own.
            return Self {
                default_steps: 6,
                guidance: 2.0,
                without_guidance: false,
                trained_steps: Vec::new(),
                largest_steps: 20,
                source: "the name, which says turbo".into(),
            };
        }
        if says("lightning") {
            let steps = [1, 2, 4, 8]
                .into_iter()
                .find(|steps| name.contains(&format!("{steps}step")) || name.contains(&format!("{steps}-step")));
            return steps.map_or_else(
                || distilled(&[1, 2, 4, 8], 4, "the name, which says lightning"),
                |steps| distilled(&[steps], steps, "the name, which says lightning and its steps"),
            );
        }
        if says("lcm") {
            return Self {
                guidance: 1.5,
                without_guidance: false,
                ..distilled(&[1, 2, 3, 4, 5, 6, 7, 8], 4, "the name, which says lcm")
            };
        }
        let (default_steps, guidance) = match architecture {
            Architecture::StableDiffusionXl => (50, 5.0),
            _ => (50, 7.5),
        };
        Self {
            trained_steps: Vec::new(),
            default_steps,
            largest_steps: longest,
            guidance,
            without_guidance: false,
            source: "the pipeline's own defaults".into(),
        }
    }

    /// The counts that may be asked for, as text for messages.
    #[must_use]
    pub fn steps_text(&self) -> String {
        match self.trained_steps.as_slice() {
            [] => format!("1 to {}", self.largest_steps),
            [only] => format!("{only}"),
            [first @ .., last] => {
                let first: Vec<String> = first.iter().map(ToString::to_string).collect();
                format!("{} or {last}", first.join(", "))
            }
        }
    }

    /// Whether `steps` is one that the model can take.
    #[must_use]
    pub fn takes_steps(&self, steps: usize) -> bool {
        if self.trained_steps.is_empty() {
            (1..=self.largest_steps).contains(&steps)
        } else {
            self.trained_steps.contains(&steps)
        }
    }
}
