//! AV1 (AOMedia's AV1 Bitstream & Decoding Process Specification, version 1.0.0), encoded by rav1e.
//!
//! Of 8 bits and 4:2:0, limited range, BT.709; the curve is sRGB's, which is what the pictures have. No frame is reordered, so each comes
//! out soon after it went in and its time is its number.

use anyhow::{Context as _, Result, anyhow, bail};
use rav1e::prelude::{
    ChromaSamplePosition, ChromaSampling, ColorDescription, ColorPrimaries, Config, Context, EncoderConfig, EncoderStatus,
    FrameType, MatrixCoefficients, PixelRange, Rational, SpeedSettings, TransferCharacteristics,
};

use super::colour::{BT709, Planes};
use super::writer::ClipHead;
use crate::output::picture::Picture;
use crate::refuse;

/// 0 to 10; slower ones gain little on clips of a few seconds.
const SPEED: u8 = 9;
/// 0 to 255; artefacts are hard to see at this quality.
const QUANTIZER: usize = 60;
/// A player may begin where a frame needs no other.
const KEY_FRAMES_S: u32 = 5;
/// The shortest and the longest side that the encoder takes.
const SIDES_PX: std::ops::RangeInclusive<u32> = 16..=65_535;
/// Open bitstream units: temporal delimiter and sequence header.
const DELIMITER: u8 = 2;
const SEQUENCE_HEADER: u8 = 1;
/// In a record of the configuration: `chroma_sample_position` of a sample at the left pixel, between two rows.
const CHROMA_AT_LEFT: u8 = 1;

/// What H.273 calls the colours: primaries of BT.709, the curve of sRGB, the matrix of BT.709.
pub(super) const COLOUR_PRIMARIES: u8 = 1;
pub(super) const TRANSFER: u8 = 13;
pub(super) const MATRIX: u8 = 1;

/// Makes sure that the encoder takes the sides.
pub(super) fn check((width, height): (u32, u32)) -> Result<()> {
    if !SIDES_PX.contains(&width) || !SIDES_PX.contains(&height) {
        let (shortest, longest) = SIDES_PX.into_inner();
        refuse!("clip: is {width}x{height}, mp4 and webm take sides of {shortest} to {longest}; use png, webp or gif");
    }
    Ok(())
}

/// An encoded frame.
pub(super) struct Packet {
    /// Open bitstream units, without the delimiter, which containers do without.
    pub(super) data: Vec<u8>,
    /// Whether it needs no other frame.
    pub(super) is_key: bool,
}

/// The encoder.
pub(super) struct Av1 {
    context: Context<u8>,
}

impl Av1 {
    pub(super) fn new(head: ClipHead) -> Result<Self> {
        let ClipHead { width, height, rate, .. } = head;
        let key_frames = u64::from((rate.frames() * KEY_FRAMES_S).div_ceil(rate.seconds()).max(1));
        let encoder = EncoderConfig {
            width: width as usize,
            height: height as usize,
            time_base: Rational { num: u64::from(rate.seconds()), den: u64::from(rate.frames()) },
            bit_depth: 8,
            chroma_sampling: ChromaSampling::Cs420,
            chroma_sample_position: ChromaSamplePosition::Vertical,
            pixel_range: PixelRange::Limited,
            color_description: Some(ColorDescription {
                color_primaries: ColorPrimaries::BT709,
                transfer_characteristics: TransferCharacteristics::SRGB,
                matrix_coefficients: MatrixCoefficients::BT709,
            }),
            low_latency: true,
            min_key_frame_interval: key_frames.min(12),
            max_key_frame_interval: key_frames,
            quantizer: QUANTIZER,
            speed_settings: SpeedSettings::from_preset(SPEED),
            ..EncoderConfig::default()
        };
        let context = Config::new().with_encoder_config(encoder).new_context().context("av1")?;
        Ok(Self { context })
    }

    /// Takes an opaque frame of three channels and gives what has become ready.
    pub(super) fn push(&mut self, picture: &Picture) -> Result<Vec<Packet>> {
        let planes = Planes::new(picture, BT709);
        let mut frame = self.context.new_frame();
        let [first, second] = &planes.chroma;
        let sources = [(&planes.luma, picture.width as usize), (first, planes.chroma_width), (second, planes.chroma_width)];
        for (plane, (source, width)) in frame.planes.iter_mut().zip(sources) {
            plane.copy_from_raw_u8(source, width, 1);
        }
        self.context.send_frame(frame).map_err(|status| anyhow!("av1 frame: {status}"))?;
        self.packets()
    }

    /// Gives what is left.
    pub(super) fn finish(&mut self) -> Result<Vec<Packet>> {
        self.context.flush();
        self.packets()
    }

    fn packets(&mut self) -> Result<Vec<Packet>> {
        let mut packets = Vec::new();
        loop {
            match self.context.receive_packet() {
                Ok(packet) => {
                    let units = units(&packet.data)?.into_iter().filter(|unit| unit.kind != DELIMITER);
                    let data = units.flat_map(|unit| unit.bytes.iter().copied()).collect();
                    packets.push(Packet { data, is_key: packet.frame_type == FrameType::KEY });
                }
                Err(EncoderStatus::Encoded) => {}
                Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return Ok(packets),
                Err(status) => bail!("av1: {status}"),
            }
        }
    }

    /// The record that containers keep of the stream that begins with `first`: AV1 Codec ISO Media File Format Binding, section 2.3.
    pub(super) fn configuration(&self, first: &Packet) -> Result<Configuration> {
        let sequence = units(&first.data)?.into_iter().find(|unit| unit.kind == SEQUENCE_HEADER);
        let sequence = sequence.context("av1: the stream begins without a sequence header")?.bytes.to_vec();
        let [_, profile_and_level, _, _] = *self.context.container_sequence_header() else {
            bail!("av1: the encoder's record is not of 4 bytes")
        };
        Ok(Configuration { profile_and_level, sequence })
    }
}

/// What a container says of the stream.
pub(super) struct Configuration {
    profile_and_level: u8,
    sequence: Vec<u8>,
}

impl Configuration {
    /// Gives the record's bytes: marker and version, profile and level, 8 bits with 4:2:0, no delay, the sequence header.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&[0x81, self.profile_and_level, 0b0000_1100 | CHROMA_AT_LEFT, 0][..], &self.sequence].concat()
    }

    /// Gives it as the muxer for MP4 takes it.
    pub(super) fn to_box(&self) -> mp4_atom::Av1c {
        mp4_atom::Av1c {
            seq_profile: self.profile_and_level >> 5,
            seq_level_idx_0: self.profile_and_level & 0b1_1111,
            chroma_subsampling_x: true,
            chroma_subsampling_y: true,
            chroma_sample_position: CHROMA_AT_LEFT,
            config_obus: self.sequence.clone(),
            ..mp4_atom::Av1c::default()
        }
    }
}

/// An open bitstream unit.
struct Unit<'b> {
    kind: u8,
    /// With its header.
    bytes: &'b [u8],
}

/// The units of a packet; the encoder gives each its size.
fn units(data: &[u8]) -> Result<Vec<Unit<'_>>> {
    let mut left = data;
    let mut units = Vec::new();
    while let Some(header) = left.first() {
        let mut length = 0_usize;
        let mut at = if header & 0b100 != 0 { 2 } else { 1 };
        for shift in (0..).step_by(7) {
            let byte = left.get(at).copied().filter(|_| shift < 35).context("av1: a unit without its size")?;
            at += 1;
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (bytes, rest) = left.split_at_checked(at + length).context("av1: a unit ends early")?;
        units.push(Unit { kind: header >> 3 & 0b1111, bytes });
        left = rest;
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    #[test]
    fn units_are_told_apart_and_never_read_beyond_the_packet() {
        let found =
            |data: &[u8]| units(data).map(|units| units.iter().map(|unit| (unit.kind, unit.bytes.len())).collect::<Vec<_>>());
        let long = [&[0x32, 0x80, 0x01][..], &[0; 128]].concat();
        let extended = [0x36, 0, 1, 9];
        assert_eq!(found(&[&[0x12, 0][..], &long, &extended].concat()).unwrap(), [(2, 2), (6, 131), (6, 4)]);
        for broken in [&[0x32][..], &[0x32, 2, 0], &[0x32, 0x80], &[0x36, 0], &[0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]] {
            assert!(found(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn refuses_sides_that_the_encoder_does_not_take() {
        for size in [(15, 64), (64, 15), (65_536, 64)] {
            let error = check(size).unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains("mp4 and webm take sides of 16 to 65535"), "{error}");
        }
        check((16, 17)).unwrap();
    }
}
