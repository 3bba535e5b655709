//! MP4 (ISO/IEC 14496-12) with one track of AV1; what made it is a box of Kiln's own at the end.

use anyhow::{Context, Result};
use mp4_atom::{
    Av01, Co64, Codec, Colr, Dinf, Dref, DrefEntry, Encode as _, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf, Moov, Mvhd, Stbl, Stsc,
    StscEntry, Stsd, Stss, Stsz, StszSamples, Stts, SttsEntry, Tkhd, Trak, Url, Visual, Vmhd,
};

use super::MP4_RECORD;
use super::av1::{Av1, COLOUR_PRIMARIES, Configuration, MATRIX, Packet, TRANSFER};
use super::writer::{ClipHead, Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;

/// A box of more than 4 GiB may follow: its size stands in 8 bytes behind its name.
const LARGE: u32 = 1;
const TRACK: u32 = 1;

pub(super) struct Mp4 {
    head: ClipHead,
    av1: Av1,
    configuration: Option<Configuration>,
    sizes: Vec<u32>,
    keys: Vec<u32>,
    begin: u64,
    length: u64,
}

impl Mp4 {
    pub(super) fn begin(head: ClipHead, sink: &mut Sink) -> Result<Self> {
        let brands = [b"iso6", b"isom", b"av01", b"mp41"].map(FourCC::new);
        let mut start = Vec::new();
        let [major, ..] = brands;
        Ftyp { major_brand: major, minor_version: 0, compatible_brands: brands.to_vec() }.encode(&mut start).context("mp4")?;
        let begin = start.len() as u64;
        start.extend(media_header(0));
        let length = start.len() as u64;
        sink.put(&start)?;
        Ok(Self { head, av1: Av1::new(head)?, configuration: None, sizes: Vec::new(), keys: Vec::new(), begin, length })
    }

    fn put(&mut self, packets: Vec<Packet>, sink: &mut Sink) -> Result<()> {
        for packet in packets {
            if self.configuration.is_none() {
                self.configuration = Some(self.av1.configuration(&packet)?);
            }
            self.sizes.push(u32::try_from(packet.data.len())?);
            if packet.is_key {
                self.keys.push(u32::try_from(self.sizes.len())?);
            }
            self.length += packet.data.len() as u64;
            sink.put(&packet.data)?;
        }
        Ok(())
    }

    /// What stands behind the frames: where each is and how long it is shown.
    fn movie(&self) -> Result<Moov> {
        let ClipHead { width, height, rate, .. } = self.head;
        let (width, height) = (u16::try_from(width)?, u16::try_from(height)?);
        let frames = u32::try_from(self.sizes.len())?;
        let (timescale, duration) = (rate.frames(), u64::from(frames) * u64::from(rate.seconds()));
        let configuration = self.configuration.as_ref().context("mp4: no frame was encoded")?;
        let codec = Codec::Av01(Av01 {
            visual: Visual { data_reference_index: 1, width, height, ..Visual::default() },
            av1c: configuration.to_box(),
            colr: Some(Colr::new(COLOUR_PRIMARIES.into(), TRANSFER.into(), MATRIX.into(), false)?),
            ..Av01::default()
        });
        let table = Stbl {
            stsd: Stsd { codecs: vec![codec] },
            stts: Stts { entries: vec![SttsEntry { sample_count: frames, sample_delta: rate.seconds() }] },
            stss: Some(Stss { entries: self.keys.clone() }),
            stsc: Stsc { entries: vec![StscEntry { first_chunk: 1, samples_per_chunk: frames, sample_description_index: 1 }] },
            stsz: Stsz { samples: StszSamples::Different { sizes: self.sizes.clone() } },
            co64: Some(Co64 { entries: vec![self.begin + media_header(0).len() as u64] }),
            ..Stbl::default()
        };
        let media = Mdia {
            mdhd: Mdhd { timescale, duration, language: "und".to_owned(), ..Mdhd::default() },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "kiln".to_owned() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: table,
                ..Minf::default()
            },
        };
        let header = Tkhd {
            track_id: TRACK,
            duration,
            enabled: true,
            in_movie: true,
            width: width.into(),
            height: height.into(),
            ..Tkhd::default()
        };
        Ok(Moov {
            mvhd: Mvhd { timescale, duration, rate: 1.into(), volume: 1.into(), next_track_id: TRACK + 1, ..Mvhd::default() },
            trak: vec![Trak { tkhd: header, mdia: media, ..Trak::default() }],
            ..Moov::default()
        })
    }
}

impl Encode for Mp4 {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let packets = self.av1.push(frame)?;
        self.put(packets, sink)
    }

    fn finish(mut self: Box<Self>, _: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()> {
        let packets = self.av1.finish()?;
        self.put(packets, sink)?;
        let mut end = Vec::new();
        self.movie()?.encode(&mut end).context("mp4")?;
        if let Some(provenance) = provenance {
            let json = provenance.to_json()?;
            let size = u32::try_from(8 + MP4_RECORD.len() + json.len())?;
            end.extend([&size.to_be_bytes()[..], b"uuid", &MP4_RECORD, json.as_bytes()].concat());
        }
        sink.put(&end)?;
        sink.overwrite(self.begin, &media_header(self.length - self.begin))
    }
}

/// The header of the box that holds the frames.
fn media_header(size: u64) -> Vec<u8> {
    [&LARGE.to_be_bytes()[..], b"mdat", &size.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use mp4_atom::{Any, ReadFrom};

    use super::*;
    use crate::output::clip::{ClipWriter, FrameRate};
    use crate::output::format::ClipFormat;

    #[test]
    fn the_boxes_say_where_each_frame_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        // Odd sides, and more frames than from one key to the next.
        let head = ClipHead::new(33, 17, 3, FrameRate::whole(2).unwrap());
        let mut writer = ClipWriter::create(&path, ClipFormat::Mp4, head).unwrap();
        for number in 0..13 {
            let pixels = (0..33 * 17 * 3).map(|index| (index / 7 + number * 5) as u8).collect();
            writer.push(&Picture::new(33, 17, 3, pixels).unwrap()).unwrap();
        }
        writer.finish(None).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let mut reader = Cursor::new(&bytes);
        let (mut movie, mut frames) = (None, None);
        while let Some(found) = Option::<Any>::read_from(&mut reader).unwrap() {
            match found {
                Any::Moov(found) => movie = Some(found),
                Any::Mdat(found) => frames = Some(found.data),
                _ => {}
            }
        }
        let (movie, frames) = (movie.unwrap(), frames.unwrap());
        let track = &movie.trak[0];
        let table = &track.mdia.minf.stbl;
        let StszSamples::Different { sizes } = &table.stsz.samples else { panic!("{:?}", table.stsz) };
        let (count, sum) = (sizes.len(), sizes.iter().map(|size| *size as usize).sum::<usize>());
        assert_eq!((count, sum), (13, frames.len()));
        assert_eq!(table.stss.as_ref().unwrap().entries, [1, 11]);
        assert_eq!(f64::from(u32::try_from(track.mdia.mdhd.duration).unwrap()) / f64::from(track.mdia.mdhd.timescale), 6.5);
        let begin = usize::try_from(table.co64.as_ref().unwrap().entries[0]).unwrap();
        assert_eq!(bytes[begin..begin + sum], frames);
        // A sequence header, not a delimiter, begins the first frame; the record of the configuration holds it.
        let Codec::Av01(codec) = &table.stsd.codecs[0] else { panic!("{:?}", table.stsd) };
        assert!(frames[0] >> 3 == 1 && frames.starts_with(&codec.av1c.config_obus));
        assert_eq!((codec.visual.width, codec.visual.height, codec.av1c.chroma_sample_position), (33, 17, 1));
    }
}
