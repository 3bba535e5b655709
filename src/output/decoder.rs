//! Reads pictures that a person hands in.
//!
//! In: a PNG, JPEG or WebP file, told apart by its content. Out: a [`Picture`] of 8 bits per channel, upright as its EXIF
//! orientation says, with opacity where the file has it. Grey, palette, 16-bit and CMYK files are converted; of an animation the
//! first picture is taken.
//!
//! Everything in such a file is hostile: its size, the size it declares and the memory it takes are limited before it is
//! decoded.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::picture::Picture;
use crate::{refusal, refuse};

/// The longest side of a picture that is read or made.
pub const LARGEST_SIDE_PX: u32 = 8192;
/// The largest picture file that is read.
pub const LARGEST_FILE_BYTES: u64 = 64 << 20;
/// What decoding may allocate: 8192 × 8192 pixels of 8 bytes.
pub(super) const LARGEST_DECODED_BYTES: u64 = 512 << 20;

impl Picture {
    /// Reads the picture file `path`.
    ///
    /// # Errors
    /// Each is a [`Refusal`](crate::error::Refusal): `path` is missing, a folder or unreadable, is larger than
    /// [`LARGEST_FILE_BYTES`], is neither PNG, JPEG nor WebP, is broken, or is larger than [`LARGEST_SIDE_PX`] on a side.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = read_limited(path)?;
        Self::read(&bytes, &path.display().to_string())
    }

    /// Decodes a picture file that is in memory; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(bytes: &[u8], name: &str) -> Result<Self> {
        Self::read_up_to(bytes, name, LARGEST_SIDE_PX)
    }

    /// Decodes a picture file that is in memory, of at most `side_px` pixels on a side and 8 bytes for each pixel.
    ///
    /// # Errors
    /// As [`open`](Self::open), with `side_px` for the largest side.
    pub fn read_up_to(bytes: &[u8], name: &str, side_px: u32) -> Result<Self> {
        let side_px = side_px.min(LARGEST_SIDE_PX);
        let format = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
            Ok(other) => refuse!("picture {name} is {}, expected PNG, JPEG or WebP", other.to_mime_type()),
            Err(_) if bytes.is_empty() => refuse!("picture {name} is empty, expected PNG, JPEG or WebP"),
            Err(_) => refuse!("picture {name} is no picture, expected PNG, JPEG or WebP"),
        };
        let decoded = decode(bytes, format, side_px).map_err(|error| explain(error, name, side_px))?;
        let (width, height) = (decoded.width(), decoded.height());
        if decoded.color().has_alpha() {
            Self::new(width, height, 4, decoded.into_rgba8().into_raw())
        } else {
            Self::new(width, height, 3, decoded.into_rgb8().into_raw())
        }
        .with_context(|| format!("picture {name}"))
    }
}

fn decode(bytes: &[u8], format: ImageFormat, side_px: u32) -> Result<DynamicImage, ImageError> {
    let decoded_bytes = (u64::from(side_px) * u64::from(side_px) * 8).min(LARGEST_DECODED_BYTES);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(side_px);
    limits.max_image_height = Some(side_px);
    limits.max_alloc = Some(decoded_bytes);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    // The decoder counts its own buffers only.
    let mut left = Limits::no_limits();
    left.max_alloc = Some(decoded_bytes);
    left.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut decoded = DynamicImage::from_decoder(decoder)?;
    decoded.apply_orientation(orientation);
    Ok(decoded)
}

pub(super) fn explain(error: ImageError, name: &str, side_px: u32) -> anyhow::Error {
    match error {
        ImageError::Limits(_) => {
            refusal!("picture {name} is too large, expected at most {side_px}x{side_px} pixels; scale it down first")
        }
        ImageError::Unsupported(_) => {
            refusal!("picture {name} is of a kind that this build does not read: {error}; every build reads PNG")
        }
        error => refusal!("picture {name} is broken: {error}"),
    }
}

/// Reads a file that a person named, up to [`LARGEST_FILE_BYTES`].
///
/// # Errors
/// A refusal: the file is not there, is a folder or is larger.
pub fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    // Opening a folder succeeds on some systems and the message of reading one helps nobody.
    if path.is_dir() {
        refuse!("picture {name} is a folder, expected a file");
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| refusal!("picture {name} is not readable: {error}"))?;
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        refuse!("picture {name} is larger than {} MiB; scale it down first", LARGEST_FILE_BYTES >> 20);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;
    use crate::error::is_refusal;
    use crate::output::{Format, encode};

    fn message(bytes: &[u8]) -> String {
        let error = Picture::read(bytes, "x").unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    fn png(colour: ExtendedColorType, width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(pixels, width, height, colour).unwrap();
        bytes
    }

    /// A PNG file that says it is `width` × `height` and ends there.
    fn header(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Sixteen);
        drop(encoder.write_header().unwrap());
        bytes
    }

    #[test]
    fn reads_what_it_writes_losslessly() {
        for channels in [3, 4] {
            let pixels = (0..5 * 7 * channels).map(|index| (index * 37 % 256) as u8).collect();
            let picture = Picture::new(5, 7, channels, pixels).unwrap();
            for format in [Format::Png, Format::WebP] {
                let bytes = encode(&picture, None, format).unwrap();
                assert_eq!(Picture::read(&bytes, "x").unwrap(), picture, "{format}");
            }
        }
    }

    #[test]
    fn reads_grey_and_sixteen_bits() {
        let grey = Picture::read(&png(ExtendedColorType::L8, 2, 1, &[0, 200]), "x").unwrap();
        assert_eq!(grey.pixels, [0, 0, 0, 200, 200, 200]);
        let grey_opacity = Picture::read(&png(ExtendedColorType::La8, 1, 1, &[9, 80]), "x").unwrap();
        assert_eq!((grey_opacity.channels, grey_opacity.pixels), (4, vec![9, 9, 9, 80]));
        let long = Picture::read(&png(ExtendedColorType::Rgb16, 1, 1, &[255, 255, 0, 0, 128, 128]), "x").unwrap();
        assert_eq!(long.pixels, [255, 0, 128]);
    }

    #[test]
    fn reads_a_jpeg_upright() {
        let picture = Picture::new(16, 8, 3, [[200; 64 * 3], [20; 64 * 3]].concat()).unwrap();
        let mut bytes = encode(&picture, None, Format::Jpeg).unwrap();
        // An EXIF segment after the start marker: one entry, orientation 6 (turn a quarter to the right).
        let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let segment = [b"\xff\xe1\0\x22Exif\0\0".as_slice(), tiff].concat();
        bytes.splice(2..2, segment);
        let upright = Picture::read(&bytes, "x").unwrap();
        assert_eq!((upright.width, upright.height), (8, 16));
        assert!(upright.pixels[0] < 40 && upright.pixels[7 * 3] > 180, "the upper half lies to the right");
    }

    #[test]
    fn refuses_what_is_no_picture() {
        assert_eq!(message(b""), "picture x is empty, expected PNG, JPEG or WebP");
        assert_eq!(message(b"a text about a cat"), "picture x is no picture, expected PNG, JPEG or WebP");
        assert_eq!(message(b"GIF89a\x01\0\x01\0\0\0\0;"), "picture x is image/gif, expected PNG, JPEG or WebP");
    }

    #[test]
    fn refuses_headers_that_promise_too_much() {
        for (width, height) in [(100_000, 100_000), (1, 8193), (8193, 1), (i32::MAX as u32, i32::MAX as u32)] {
            assert!(message(&header(width, height)).contains("is too large, expected at most 8192x8192 pixels"));
        }
        let mut webp = encode(&Picture::new(1, 1, 3, vec![0; 3]).unwrap(), None, Format::WebP).unwrap();
        // Width and height of lossless WebP lie in the 28 bits behind its signature byte.
        let signature = webp.iter().position(|byte| *byte == 0x2f).unwrap();
        webp[signature + 1..signature + 5].fill(0x0f);
        assert!(message(&webp).contains("picture x is"));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused_or_read() {
        let picture = Picture::new(9, 6, 4, (0..9 * 6 * 4).map(|index| (index * 91 % 256) as u8).collect()).unwrap();
        let mut cases = 0;
        for format in Format::ALL {
            let bytes = encode(&picture, None, format).unwrap();
            for length in 0..bytes.len() {
                if let Err(error) = Picture::read(&bytes[..length], "x") {
                    assert!(is_refusal(&error));
                }
                let mut flipped = bytes.clone();
                flipped[length] ^= 0x55;
                if let Err(error) = Picture::read(&flipped, "x") {
                    assert!(is_refusal(&error));
                }
                cases += 2;
            }
        }
        assert!(cases > 1_000, "{cases} cases");
    }

    #[test]
    fn refuses_paths_that_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let error = Picture::open(folder.path()).unwrap_err();
        assert!(is_refusal(&error) && error.to_string().ends_with("is a folder, expected a file"));
        let error = Picture::open(&folder.path().join("missing.png")).unwrap_err();
        assert!(is_refusal(&error) && error.to_string().contains("missing.png is not readable"));
        let huge = folder.path().join("huge.png");
        std::fs::File::create(&huge).unwrap().set_len(LARGEST_FILE_BYTES + 1).unwrap();
        assert!(Picture::open(&huge).unwrap_err().to_string().contains("is larger than 64 MiB"));
    }
}
