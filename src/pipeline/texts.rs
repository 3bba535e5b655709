//! What a denoiser is told of a request's texts, by every family that reads.

use anyhow::{Context, Result};
use ndarray::Axis;

use super::job::Job;
use super::observer::Observer;
use crate::plan::GuidancePasses;
use crate::stage::{Conditioning, Reading, TextEncoders};

/// Encodes with one encoder after the other, so that with low memory only one is open.
pub(super) fn encode_texts(job: &mut Job<'_>, encoders: &TextEncoders, observer: &mut dyn Observer) -> Result<Conditioning> {
    let request = job.request;
    let guided = job.plan.guidance_passes != GuidancePasses::One;
    // Two text encoders are SDXL's mark; it was trained with zeros for no text.
    let has_two = job.bundle.is_xl();
    let takes_zeros = request.negative.is_none() && has_two && job.bundle.zeros_for_empty_prompt;
    let mut texts = vec![request.prompt.as_str()];
    if guided && !takes_zeros {
        texts.push(request.negative.as_deref().unwrap_or_default());
    }
    let mut parts = vec![Vec::new(); texts.len()];
    let reading = |text: usize| match (request.plain_prompt, text) {
        (false, _) => Reading::Weighted,
        // The instruction stands before what is wished for, not before what is not.
        (true, 0) => Reading::Instructed,
        (true, _) => Reading::Plain,
    };
    for role in encoders.roles() {
        job.open(role, observer)?;
        for (at, (text, parts)) in texts.iter().zip(&mut parts).enumerate() {
            parts.push(encoders.encode(role, text, reading(at), job.networks, job.cancel)?);
        }
        job.release(role);
    }
    let mut embeddings = parts.iter().map(|parts| encoders.joined(parts));
    let prompt = embeddings.next().context("no text was encoded")??;
    let negative = match embeddings.next() {
        Some(negative) => Some(negative?),
        None => guided.then(|| prompt.zeros_like()),
    };
    let control = match &request.control {
        // From [-1, 1] to [0, 1].
        Some(control) => {
            let picture = control.picture.to_tensor(3)?.mapv(|value| value / 2.0 + 0.5);
            Some((picture.insert_axis(Axis(0)).into_dyn(), control.scale))
        }
        None => None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "networks take f32")]
    let frame_rate = request.frames.map(|frames| f64::from(frames.rate) as f32);
    let size = (request.width, request.height);
    Ok(Conditioning { prompt, negative, guidance: request.guidance, size, control, image: None, first_frame: None, frame_rate })
}
