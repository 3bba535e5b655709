//! WebM (RFC 9559, Matroska, with what WebM leaves of it) with one track of AV1; what made it is a tag at the end.
//!
//! An element of EBML (RFC 8794) is a number, a length and data. The head is written twice, the second time with what only the end knows;
//! its length does not depend on it.

use anyhow::Result;

use super::av1::{Av1, COLOUR_PRIMARIES, Configuration, MATRIX, Packet, TRANSFER};
use super::webm_names::{RECORD, SEGMENT, SIMPLE_TAG, TAG, TAG_NAME, TAG_STRING, TAGS};
use super::writer::{ClipHead, Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;

/// WebM counts time in milliseconds.
const TICKS_PER_SECOND: u32 = 1000;
/// A cluster ends before its blocks' times, counted from its own in 16 bits, run out.
const LONGEST_CLUSTER_TICKS: u64 = 30_000;

// The numbers of elements, as RFC 9559 has them.
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;
const CUES: u32 = 0x1C53_BB6B;

pub(super) struct WebM {
    head: ClipHead,
    av1: Av1,
    configuration: Option<Configuration>,
    /// The blocks of the cluster that is not full yet.
    cluster: Vec<u8>,
    cluster_begin: u64,
    /// When each cluster begins, and where it stands in the segment.
    cues: Vec<(u64, u64)>,
    frames: u64,
    length: u64,
}

/// What only the end knows: times in milliseconds, places from the segment's first byte.
#[derive(Default)]
struct Ends {
    segment_size: u64,
    duration: f64,
    cues_at: u64,
    tags_at: u64,
}

impl WebM {
    pub(super) fn begin(head: ClipHead) -> Result<Self> {
        let av1 = Av1::new(head)?;
        let (cluster, cues) = (Vec::new(), Vec::new());
        Ok(Self { head, av1, configuration: None, cluster, cluster_begin: 0, cues, frames: 0, length: 0 })
    }

    fn put(&mut self, packets: Vec<Packet>, sink: &mut Sink) -> Result<()> {
        for packet in packets {
            if self.configuration.is_none() {
                self.configuration = Some(self.av1.configuration(&packet)?);
                let start = self.start(&Ends::default())?;
                self.send(&start, sink)?;
            }
            let time = self.head.rate.begin(self.frames, TICKS_PER_SECOND);
            if packet.is_key || time - self.cluster_begin > LONGEST_CLUSTER_TICKS {
                self.end_cluster(sink)?;
                self.cluster_begin = time;
            }
            let offset = i16::try_from(time - self.cluster_begin)?.to_be_bytes();
            let flags = if packet.is_key { 0x80 } else { 0 };
            self.cluster.extend(element(0xA3, &[&[0x81, offset[0], offset[1], flags][..], &packet.data].concat()));
            self.frames += 1;
        }
        Ok(())
    }

    fn end_cluster(&mut self, sink: &mut Sink) -> Result<()> {
        if self.cluster.is_empty() {
            return Ok(());
        }
        self.cues.push((self.cluster_begin, self.place()));
        let blocks = std::mem::take(&mut self.cluster);
        let cluster = element(CLUSTER, &[number(0xE7, self.cluster_begin), blocks].concat());
        self.send(&cluster, sink)
    }

    fn send(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<()> {
        self.length += bytes.len() as u64;
        sink.put(bytes)
    }

    /// Where the next element of the segment will stand.
    fn place(&self) -> u64 {
        self.length - segment_begin()
    }

    /// Everything before the first cluster.
    fn start(&self, ends: &Ends) -> Result<Vec<u8>> {
        let ClipHead { width, height, rate, .. } = self.head;
        let app = format!("kiln {}", env!("CARGO_PKG_VERSION"));
        let info = element(
            INFO,
            &[
                number(0x2A_D7B1, 1_000_000),
                element(0x4489, &ends.duration.to_be_bytes()),
                element(0x4D80, app.as_bytes()),
                element(0x5741, app.as_bytes()),
            ]
            .concat(),
        );
        // Range: broadcast; chroma at the left pixel, between two rows.
        let colour = [
            number(0x55B1, MATRIX.into()),
            number(0x55B2, 8),
            number(0x55B7, 1),
            number(0x55B8, 2),
            number(0x55B9, 1),
            number(0x55BA, TRANSFER.into()),
            number(0x55BB, COLOUR_PRIMARIES.into()),
        ];
        // Progressive.
        let video = [number(0xB0, width.into()), number(0xBA, height.into()), number(0x9A, 2), element(0x55B0, &colour.concat())]
            .concat();
        let configuration = self.configuration.as_ref().map(Configuration::to_bytes).unwrap_or_default();
        let track = [
            number(0xD7, 1),
            number(0x73C5, 1),
            number(0x83, 1),
            number(0x9C, 0),
            number(0x23_E383, rate.begin(1, 1_000_000_000)),
            element(0x86, b"V_AV1"),
            element(0x63A2, &configuration),
            element(0xE0, &video),
        ];
        let tracks = element(TRACKS, &element(0xAE, &track.concat()));
        let seek = |id: u32, place: u64| {
            element(0x4DBB, &[element(0x53AB, &id.to_be_bytes()), element(0x53AC, &place.to_be_bytes())].concat())
        };
        let seeks = |info: u64, tracks: u64| {
            let seeks = [seek(INFO, info), seek(TRACKS, tracks), seek(CUES, ends.cues_at), seek(TAGS, ends.tags_at)];
            element(0x114D_9B74, &seeks.concat())
        };
        let info_at = seeks(0, 0).len() as u64;
        let seeks = seeks(info_at, info_at + info.len() as u64);
        Ok([document(), segment(ends.segment_size), seeks, info, tracks].concat())
    }
}

impl Encode for WebM {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let packets = self.av1.push(frame)?;
        self.put(packets, sink)
    }

    fn finish(mut self: Box<Self>, _: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()> {
        let packets = self.av1.finish()?;
        self.put(packets, sink)?;
        self.end_cluster(sink)?;
        let cues_at = self.place();
        let cues = self.cues.iter().flat_map(|(time, place)| {
            element(0xBB, &[number(0xB3, *time), element(0xB7, &[number(0xF7, 1), number(0xF1, *place)].concat())].concat())
        });
        let cues = element(CUES, &cues.collect::<Vec<u8>>());
        self.send(&cues, sink)?;
        let tags_at = self.place();
        let record = match provenance {
            Some(provenance) => {
                let texts = [element(TAG_NAME, RECORD.as_bytes()), element(TAG_STRING, provenance.to_json()?.as_bytes())];
                element(TAG, &[element(0x63C0, &[]), element(SIMPLE_TAG, &texts.concat())].concat())
            }
            None => Vec::new(),
        };
        self.send(&element(TAGS, &record), sink)?;
        let rate = self.head.rate;
        #[expect(clippy::cast_precision_loss, reason = "far fewer frames than 2⁵³")]
        let duration = self.frames as f64 * f64::from(TICKS_PER_SECOND) / f64::from(rate);
        let start = self.start(&Ends { segment_size: self.place(), duration, cues_at, tags_at })?;
        sink.overwrite(0, &start)
    }
}

/// What says that the file is WebM.
fn document() -> Vec<u8> {
    let parts = [
        number(0x4286, 1),
        number(0x42F7, 1),
        number(0x42F2, 4),
        number(0x42F3, 8),
        element(0x4282, b"webm"),
        number(0x4287, 4),
        number(0x4285, 2),
    ];
    element(0x1A45_DFA3, &parts.concat())
}

/// The head of the segment, which all else is within; its length stands in 8 bytes whatever it is.
fn segment(size: u64) -> Vec<u8> {
    [id(SEGMENT), (size | 1 << 56).to_be_bytes().to_vec()].concat()
}

/// Where the data of the segment begin.
fn segment_begin() -> u64 {
    (document().len() + segment(0).len()) as u64
}

/// The bytes of an element's number, which hold their own length.
fn id(id: u32) -> Vec<u8> {
    id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// An element with its length in as few bytes as there can be.
fn element(number: u32, data: &[u8]) -> Vec<u8> {
    let size = data.len() as u64;
    // All ones are kept for an unknown length.
    let width = (1..8).find(|width| size < (1 << (7 * width)) - 1).unwrap_or(8);
    let length = size | 1 << (7 * width);
    [&id(number), &length.to_be_bytes()[8 - width..], data].concat()
}

fn number(number: u32, value: u64) -> Vec<u8> {
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    element(number, if bytes.is_empty() { &[0] } else { &bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::clip::{ClipWriter, FrameRate};
    use crate::output::format::ClipFormat;

    #[test]
    fn lengths_take_as_few_bytes_as_there_can_be() {
        assert_eq!(element(0xA3, &[]), [0xA3, 0x80]);
        assert_eq!(element(0xA3, &[7; 126])[..2], [0xA3, 0xFE]);
        assert_eq!(element(0xA3, &[7; 127])[..3], [0xA3, 0x40, 0x7F]);
        assert_eq!(element(CLUSTER, &[7; 16_383])[..7], [0x1F, 0x43, 0xB6, 0x75, 0x20, 0x3F, 0xFF]);
        assert_eq!((number(0xD7, 0), number(0xD7, 258)), (vec![0xD7, 0x81, 0], vec![0xD7, 0x82, 1, 2]));
    }

    #[test]
    fn the_index_leads_to_the_elements() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.webm");
        let head = ClipHead::new(16, 16, 3, FrameRate::whole(2).unwrap());
        let mut writer = ClipWriter::create(&path, ClipFormat::WebM, head).unwrap();
        for number in 0..13 {
            writer.push(&Picture::new(16, 16, 3, vec![number * 9; 768]).unwrap()).unwrap();
        }
        writer.finish(None).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let begin = segment_begin() as usize;
        let size = u64::from_be_bytes(bytes[begin - 8..begin].try_into().unwrap());
        assert_eq!(size, (bytes.len() - begin) as u64 | 1 << 56);
        let seek = |id: u32| {
            let entry = [&[0x53, 0xAB, 0x84][..], &id.to_be_bytes(), &[0x53, 0xAC, 0x88]].concat();
            let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap() + entry.len();
            u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
        };
        for id in [INFO, TRACKS, CUES, TAGS] {
            assert_eq!(bytes[begin + seek(id)..][..4], id.to_be_bytes(), "{id:x}");
        }
        // Two clusters, for keys at 0 and 5 seconds; times in milliseconds.
        let cues = &bytes[begin + seek(CUES)..begin + seek(TAGS)];
        let clusters: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == CLUSTER.to_be_bytes()).collect();
        assert_eq!(clusters.len(), 2);
        for (time, at) in [0, 5000].into_iter().zip(&clusters) {
            let cue =
                [number(0xB3, time), element(0xB7, &[number(0xF7, 1), number(0xF1, (at - begin) as u64)].concat())].concat();
            assert!(cues.windows(cue.len()).any(|window| window == cue), "{time}");
        }
        let duration = [&[0x44, 0x89, 0x88][..], &6500.0_f64.to_be_bytes()].concat();
        assert!(bytes.windows(duration.len()).any(|window| window == duration));
    }
}
