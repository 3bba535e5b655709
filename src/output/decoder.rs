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
const LARGEST_DECODED_BYTES: u64 = 512 << 20;

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
        let format = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
            Ok(other) => refuse!("picture {name} is {}, expected PNG, JPEG or WebP", other.to_mime_type()),
            Err(_) if bytes.is_empty() => refuse!("picture {name} is empty, expected PNG, JPEG or WebP"),
            Err(_) => refuse!("picture {name} is no picture, expected PNG, JPEG or WebP"),
        };
        let decoded = decode(bytes, format).map_err(|error| explain(error, name))?;
        let (width, height) = (decoded.width(), decoded.height());
        if decoded.color().has_alpha() {
            Self::new(width, height, 4, decoded.into_rgba8().into_raw())
        } else {
            Self::new(width, height, 3, decoded.into_rgb8().into_raw())
        }
        .with_context(|| format!("picture {name}"))
    }
}

fn decode(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(LARGEST_SIDE_PX);
    limits.max_image_height = Some(LARGEST_SIDE_PX);
    limits.max_alloc = Some(LARGEST_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut decoded = DynamicImage::from_decoder(decoder)?;
    decoded.apply_orientation(orientation);
    Ok(decoded)
}

fn explain(error: ImageError, name: &str) -> anyhow::Error {
    match error {
        ImageError::Limits(_) => refusal!(
            "picture {name} is too large, expected at most {LARGEST_SIDE_PX}x{LARGEST_SIDE_PX} pixels; scale it down first"
        ),
        error => refusal!("picture {name} is broken: {error}"),
    }
}

/// Reads a file that a person named, up to [`LARGEST_FILE_BYTES`].
pub(super) fn read_limited(path: &Path) -> Result<Vec<u8>> {
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
