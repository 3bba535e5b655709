//! The customary text of what made a picture, which Stable Diffusion web UI began.

use std::fmt::Write as _;

use super::Provenance;

impl Provenance {
    /// Gives the customary text: prompt, negative prompt, and a line of settings.
    #[must_use]
    pub fn parameters(&self) -> String {
        let mut text = String::new();
        if let Some(prompt) = &self.prompt {
            text.push_str(prompt);
            text.push('\n');
        }
        if let Some(negative) = self.negative.as_ref().filter(|negative| !negative.is_empty()) {
            text.push_str("Negative prompt: ");
            text.push_str(negative);
            text.push('\n');
        }
        let Self { steps, sampler, guidance, seed, width, height, .. } = self;
        // Writing into a string does not fail.
        let _ = write!(text, "Steps: {steps}, Sampler: {}, CFG scale: {guidance}, Seed: {seed}", quoted(sampler));
        let _ = write!(text, ", Size: {width}x{height}");
        if let Some(strength) = self.strength {
            let _ = write!(text, ", Denoising strength: {strength}");
        }
        let _ = write!(text, ", Model: {}", quoted(&self.bundle.name));
        if let Some(hash) = self.bundle.sha256.as_ref().and_then(|hash| hash.get(..10)) {
            let _ = write!(text, ", Model hash: {}", quoted(hash));
        }
        let _ = write!(text, ", Version: {}", quoted(&format!("kiln {}", self.kiln)));
        text
    }
}

/// Puts a value in quotes where its letters would end it early.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n', '"']) { serde_json::Value::from(value).to_string() } else { value.to_owned() }
}
