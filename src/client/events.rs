//! Reads what happens to a job out of a stream of server-sent events.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Of one event, in bytes; a preview is the largest.
const LARGEST_EVENT: usize = 64 << 20;

/// Why there are no pictures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Place {
    pub(super) url: String,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct End {
    pub(super) state: String,
    #[serde(default)]
    pub(super) pictures: Vec<Place>,
    #[serde(default)]
    pub(super) error: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct State {
    pub(super) state: String,
    pub(super) place: Option<usize>,
    pub(super) wait_s: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Step {
    pub(super) step: usize,
    pub(super) steps: usize,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Preview {
    pub(super) step: usize,
    pub(super) png: String,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum JobEvent {
    State(State),
    Step(Step),
    Preview(Preview),
    End(End),
}

/// Puts events together out of the pieces in which they come.
#[derive(Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// Takes a piece in.
    ///
    /// # Errors
    /// What has come is longer than any event.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<()> {
        if self.bytes.len() + piece.len() > LARGEST_EVENT {
            bail!("its event is larger than {} MiB", LARGEST_EVENT >> 20);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The next event that is whole; comments and events of a newer server are passed over.
    ///
    /// # Errors
    /// An event is not what a server of Kiln's says.
    pub(super) fn next(&mut self) -> Result<Option<JobEvent>> {
        while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            if let Some(event) = parse(&String::from_utf8_lossy(&block))? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

fn parse(block: &str) -> Result<Option<JobEvent>> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let (Some(name), Some(data)) = (field("event:"), field("data:")) else { return Ok(None) };
    fn read<T: DeserializeOwned>(name: &str, data: &str) -> Result<T> {
        serde_json::from_str(data).map_err(|error| anyhow::anyhow!("its event `{name}` is not understood: {error}"))
    }
    Ok(match name {
        "state" => Some(JobEvent::State(read(name, data)?)),
        "step" => Some(JobEvent::Step(read(name, data)?)),
        "preview" => Some(JobEvent::Preview(read(name, data)?)),
        "end" => Some(JobEvent::End(read(name, data)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = concat!(
            "event: state\ndata: {\"state\":\"queued\",\"place\":0,\"wait_s\":1.5}\n\n",
            ": alive\n\n",
            "event: news\ndata: {}\n\n",
            "event: step\ndata: {\"step\":1,\"steps\":4,\"left_s\":0.1}\n\n",
            "event: end\ndata: {\"state\":\"finished\",\"pictures\":[{\"n\":0,\"url\":\"/jobs/a/pictures/0\"}],\"error\":null}\n\n"
        );
        let mut counts = 0;
        for length in [1, 2, 7, text.len()] {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(length) {
                reader.push(piece).unwrap();
                while let Some(event) = reader.next().unwrap() {
                    found.push(event);
                }
            }
            let state = State { state: "queued".into(), place: Some(0), wait_s: Some(1.5) };
            let end = End { state: "finished".into(), pictures: vec![Place { url: "/jobs/a/pictures/0".into() }], error: None };
            assert_eq!(found, [JobEvent::State(state), JobEvent::Step(Step { step: 1, steps: 4 }), JobEvent::End(end)]);
            counts += 1;
        }
        assert_eq!(counts, 4);
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        let mut reader = Reader::default();
        reader.push(b"event: step\ndata: {\"step\":-1}\n\n").unwrap();
        assert!(reader.next().unwrap_err().to_string().contains("`step`"));
        assert!(reader.push(&vec![b'x'; LARGEST_EVENT + 1]).is_err());
    }
}
