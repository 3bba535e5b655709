//! What one request, one client and all of them together may take.

use anyhow::Result;

use crate::refuse;

/// The server's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The largest body of a request in bytes; pictures in it are base64.
    pub body_bytes: usize,
    /// The longest prompt, in characters.
    pub prompt_characters: usize,
    /// The longest side of a picture that is made, in pixels.
    pub side_px: u32,
    /// The longest side of a picture that is handed in, in pixels.
    pub input_side_px: u32,
    /// The most pictures of one job.
    pub count: usize,
    /// The most steps of one job.
    pub steps: usize,
    /// The most frames of one clip.
    pub frames: usize,
    /// The most jobs that wait.
    pub queue: usize,
    /// The most jobs of one client that wait.
    pub queue_per_client: usize,
    /// The longest that a job may wait and run together, in seconds; a job may ask for less.
    pub deadline_s: f64,
    /// The most connections at a time.
    pub connections: usize,
    /// How long a client may leave the server waiting: for a request's head, for its body, for room to write to, in seconds.
    pub patience_s: f64,
    /// How many models stay in memory on one device; the one that was used longest ago gives way.
    pub resident_models: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            prompt_characters: 2_000,
            side_px: 2_048,
            input_side_px: 4_096,
            count: 8,
            steps: 1_000,
            frames: 240,
            queue: 64,
            queue_per_client: 32,
            deadline_s: 600.0,
            connections: 512,
            patience_s: 20.0,
            resident_models: 8,
        }
    }
}

impl Limits {
    /// Makes sure that they leave something to do.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): a limit is 0, or a time is no time.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("body", self.body_bytes),
            ("prompt", self.prompt_characters),
            ("side", self.side_px as usize),
            ("input side", self.input_side_px as usize),
            ("count", self.count),
            ("steps", self.steps),
            ("frames", self.frames),
            ("queue", self.queue),
            ("queue of a client", self.queue_per_client),
            ("connections", self.connections),
            ("resident models", self.resident_models),
        ];
        for (name, count) in counts {
            if count == 0 {
                refuse!("limit of {name}: is 0, expected 1 or more");
            }
        }
        for (name, time_s) in [("deadline", self.deadline_s), ("patience", self.patience_s)] {
            if !(time_s > 0.0 && time_s <= 86_400.0) {
                refuse!("limit of {name}: is {time_s} s, expected above 0 and at most a day");
            }
        }
        Ok(())
    }
}
