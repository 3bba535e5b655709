//! How many frames a clip has, and in which windows it is made.

use anyhow::Result;

use super::Request;
use crate::bundle::{Bundle, Window};
use crate::output::FrameRate;
use crate::random::Device;
use crate::refuse;

/// Most frames of one clip: their latents are held together.
const MOST_FRAMES: usize = 1000;

/// The frames of a clip, fit for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    /// How many the clip has.
    pub count: usize,
    /// How many frames of latents they are.
    pub latents: usize,
    /// The windows in which the denoiser sees them; `None` where it sees all at once.
    pub window: Option<Window>,
    /// The window whose noise is used again for frames further on, so that windows agree; `None` where all noise is fresh.
    pub noise_window: Option<Window>,
    /// How many are shown in a second, of which some models are told.
    pub rate: FrameRate,
}

impl Frames {
    /// Frames of latents that go into one call of the denoiser.
    #[must_use]
    pub fn in_call(&self) -> usize {
        self.window.map_or(self.latents, |window| window.length)
    }

    /// The frames of each window: its first, and the one after its last.
    #[must_use]
    pub fn windows(&self) -> Vec<(usize, usize)> {
        let Some(Window { length, stride }) = self.window else { return vec![(0, self.latents)] };
        let mut places: Vec<(usize, usize)> =
            (0..=self.latents.saturating_sub(length)).step_by(stride.max(1)).map(|begin| (begin, begin + length)).collect();
        // Those that are left over get a window that ends with the clip.
        if places.last().is_none_or(|(_, end)| *end < self.latents) {
            places.push((self.latents.saturating_sub(length), self.latents));
        }
        places
    }
}

impl Request {
    /// The frames of a clip; `None` for a model of pictures.
    pub(super) fn resolve_frames(&self, bundle: &Bundle, warnings: &mut Vec<String>) -> Result<Option<Frames>> {
        let Some(shape) = &bundle.clip else {
            if self.frames.is_some() {
                refuse!("frames: model {} makes pictures one by one and no clips; leave them out", bundle.name());
            }
            return Ok(None);
        };
        if self.walk.is_some() {
            refuse!("walk: model {} makes clips, and a walk between two seeds is one of pictures", bundle.name());
        }
        if self.count > 1 {
            refuse!("count: is {}, and model {} makes one clip at a time", self.count, bundle.name());
        }
        if self.mask.is_some() {
            refuse!("mask: model {} makes clips, which begin with a whole picture; leave the mask out", bundle.name());
        }
        let given = Some(self.input_frames.len()).filter(|given| *given > 0);
        let count = self.frames.or(given).unwrap_or(shape.default_frames);
        if !(1..=MOST_FRAMES).contains(&count) {
            refuse!("frames: is {count}, expected 1 to {MOST_FRAMES}");
        }
        if let Some(given) = given.filter(|given| *given != count) {
            refuse!("frames: is {count}, and the clip to begin with has {given}; it becomes a clip of as many");
        }
        let unit = shape.frames_per_latent;
        if !(count - 1).is_multiple_of(unit) {
            let (below, above) = shape.near(count);
            refuse!("frames: is {count}, expected a multiple of {unit} and one more; the nearest are {below} and {above}");
        }
        let latents = (count - 1) / unit + 1;
        if let Some(fixed) = shape.fixed.filter(|fixed| latents < *fixed || (shape.window.is_none() && latents != *fixed)) {
            let frames = (fixed - 1) * unit + 1;
            let more = if shape.window.is_some() { " or more" } else { " only" };
            refuse!("frames: is {count}, and this export takes {frames}{more}");
        }
        let window = shape.window.filter(|_| latents > shape.whole);
        let noise_window = if self.input.is_some() || given.is_some() { None } else { shape.inner_window.or(window) };
        if noise_window.is_some() && self.random_device != Device::Cpu {
            refuse!(
                "frames: is {count}, and the windows of a long clip share noise that only the processor's random numbers give; \
                 leave --rng out"
            );
        }
        if !shape.trained.is_empty() && !shape.trained.contains(&count) && window.is_none() {
            let trained: Vec<String> = shape.trained.iter().map(ToString::to_string).collect();
            warnings.push(format!("the model was trained for {} frames, and {count} are made", trained.join(", ")));
        }
        let rate = self.frame_rate.map_or_else(|| FrameRate::whole(shape.frames_per_second), Ok)?;
        Ok(Some(Frames { count, latents, window, noise_window, rate }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> FrameRate {
        FrameRate::whole(8).unwrap()
    }

    #[test]
    fn windows_cover_every_frame_and_end_with_the_clip() {
        let frames = |latents, length, stride| {
            Frames { count: latents, latents, window: Some(Window { length, stride }), noise_window: None, rate: rate() }
                .windows()
        };
        assert_eq!(frames(12, 8, 2), [(0, 8), (2, 10), (4, 12)]);
        assert_eq!(frames(13, 8, 2), [(0, 8), (2, 10), (4, 12), (5, 13)]);
        assert_eq!(frames(25, 16, 4), [(0, 16), (4, 20), (8, 24), (9, 25)]);
        assert_eq!(frames(8, 8, 8), [(0, 8)]);
        let whole = Frames { count: 5, latents: 5, window: None, noise_window: None, rate: rate() };
        assert_eq!((whole.windows(), whole.in_call()), (vec![(0, 5)], 5));
    }
}
