//! Writes pictures to files that appear whole or not at all.
//!
//! In: a [`Picture`], what made it, and a target. Out: the file, or its bytes for the caller to print. How a file appears whole or not at
//! all is `staged.rs`'s.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
#[cfg(any(feature = "jpeg", feature = "webp"))]
use image::ExtendedColorType;
#[cfg(feature = "jpeg")]
use image::codecs::jpeg::JpegEncoder;
#[cfg(feature = "webp")]
use image::codecs::webp::WebPEncoder;

use super::format::{ClipFormat, FileFormat, Format};
use super::picture::Picture;
use super::provenance::{KILN, PARAMETERS, Provenance};
use super::staged::{Staged, is_device, open_device, resolve};
use super::text_chunk;
use crate::refuse;

/// Of 100; artefacts cannot be seen at this quality.
#[cfg(feature = "jpeg")]
const JPEG_QUALITY: u8 = 95;
/// The longest side that WebP can express.
#[cfg(feature = "webp")]
const LARGEST_WEBP_SIDE_PX: u32 = 16_383;

/// Where a picture goes, or with [`ClipFormat`] a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<F = Format> {
    /// A file.
    File(PathBuf, F),
    /// Bytes for the caller to print.
    Stdout(F),
}

impl Target {
    /// Takes where a person wants a picture: `-` is standard output, anything else a path.
    ///
    /// * `format`: overrides the extension; PNG on standard output when `None`
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): `format` is `None` and the extension is missing or not written.
    pub fn new(path: &Path, format: Option<Format>) -> Result<Self> {
        Self::named(path, format)
    }
}

impl Target<ClipFormat> {
    /// Takes where a person wants a clip: `-` is standard output, anything else a path.
    ///
    /// * `format`: overrides the extension; animated PNG on standard output when `None`
    ///
    /// # Errors
    /// As [`new`](Target::new).
    pub fn of_clip(path: &Path, format: Option<ClipFormat>) -> Result<Self> {
        Self::named(path, format)
    }
}

impl<F: FileFormat> Target<F> {
    fn named(path: &Path, format: Option<F>) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout(format.unwrap_or_default()));
        }
        let format = format.map_or_else(|| F::from_path(path), Ok)?;
        Ok(Self::File(path.to_owned(), format))
    }

    /// Gives the format.
    #[must_use]
    pub fn format(&self) -> F {
        match self {
            Self::File(_, format) | Self::Stdout(format) => *format,
        }
    }

    /// Makes sure that the target can be written, before the minutes that a picture may take.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): the path is a folder, or its folder is missing or takes no files.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::File(path, format) => format.check(path),
            Self::Stdout(_) => Ok(()),
        }
    }
}

/// What became of a picture or a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The file that is there now.
    File(PathBuf),
    /// What the caller prints.
    Bytes(Vec<u8>),
    /// It went to a stream as it was made.
    Streamed,
}

/// Writes `picture` to `target`; an existing file is replaced.
///
/// # Errors
/// As [`encode`] and [`save`].
pub fn write(picture: &Picture, provenance: Option<&Provenance>, target: &Target) -> Result<Written> {
    let bytes = encode(picture, provenance, target.format())?;
    match target {
        Target::File(path, _) => {
            save(&bytes, path)?;
            Ok(Written::File(path.clone()))
        }
        Target::Stdout(_) => Ok(Written::Bytes(bytes)),
    }
}

/// Makes the bytes of a picture file; PNG alone carries `provenance`.
///
/// # Errors
/// The picture is larger than the format can express.
pub fn encode(picture: &Picture, provenance: Option<&Provenance>, format: Format) -> Result<Vec<u8>> {
    picture.check()?;
    match format {
        Format::Png => text_chunk::encode(picture, &texts(provenance)?),
        #[cfg(feature = "jpeg")]
        Format::Jpeg => encode_jpeg(picture),
        #[cfg(feature = "webp")]
        Format::WebP => encode_webp(picture),
        #[cfg(not(all(feature = "jpeg", feature = "webp")))]
        _ => refuse!("{format} is left out of this build, expected png; the features `jpeg` and `webp` bring theirs"),
    }
}

#[cfg(feature = "jpeg")]
fn encode_jpeg(picture: &Picture) -> Result<Vec<u8>> {
    let Picture { width, height, .. } = *picture;
    let mut bytes = Vec::new();
    if width.max(height) > u32::from(u16::MAX) {
        refuse!("picture is {width}x{height}, jpg takes sides up to {}; use png", u16::MAX);
    }
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .encode(&picture.on_white().pixels, width, height, ExtendedColorType::Rgb8)
        .context("jpg")?;
    Ok(bytes)
}

#[cfg(feature = "webp")]
fn encode_webp(picture: &Picture) -> Result<Vec<u8>> {
    let Picture { width, height, .. } = *picture;
    let mut bytes = Vec::new();
    if width.max(height) > LARGEST_WEBP_SIDE_PX {
        refuse!("picture is {width}x{height}, webp takes sides up to {LARGEST_WEBP_SIDE_PX}; use png");
    }
    let colour = if picture.channels == 4 { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    WebPEncoder::new_lossless(&mut bytes).encode(&picture.pixels, width, height, colour).context("webp")?;
    Ok(bytes)
}

/// The texts that a PNG file carries.
pub(super) fn texts(provenance: Option<&Provenance>) -> Result<Vec<(&'static str, String)>> {
    Ok(match provenance {
        Some(provenance) => vec![(PARAMETERS, provenance.parameters()), (KILN, provenance.to_json()?)],
        None => Vec::new(),
    })
}

/// Writes `bytes` to `path` whole or not at all, with the permissions of any new file; a link is followed.
///
/// # Errors
/// `path` is a folder, its folder is missing or takes no files (a [`Refusal`](crate::error::Refusal) each), or the disk is full.
pub fn save(bytes: &[u8], path: &Path) -> Result<()> {
    let name = path.display();
    if is_device(path) {
        return open_device(path)?.write_all(bytes).with_context(|| format!("output {name}"));
    }
    let path = resolve(path)?;
    let mut file = Staged::beside(&path)?;
    file.write_all(bytes).and_then(|()| file.flush()).with_context(|| format!("output {name}"))?;
    file.put(&path).with_context(|| format!("output {name}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::is_refusal;

    fn picture() -> Picture {
        Picture::new(2, 1, 4, vec![255, 0, 0, 255, 0, 0, 255, 0]).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn refusal_of<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn a_dash_gives_the_bytes_to_the_caller() {
        let target = Target::new(Path::new("-"), None).unwrap();
        assert_eq!(target, Target::Stdout(Format::Png));
        target.check().unwrap();
        let Written::Bytes(bytes) = write(&picture(), None, &target).unwrap() else { panic!("a file was written") };
        assert_eq!(Picture::read(&bytes, "-").unwrap(), picture());
        assert_eq!(Target::new(Path::new("-"), Some(Format::WebP)).unwrap().format(), Format::WebP);
    }

    #[test]
    fn a_file_is_written_replaced_and_alone_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.webp", "a.jpg", "a.png"] {
            let path = folder.path().join(name);
            let target = Target::new(&path, None).unwrap();
            target.check().unwrap();
            assert_eq!(write(&picture(), None, &target).unwrap(), Written::File(path.clone()));
            assert_eq!(Picture::open(&path).unwrap().width, 2);
        }
        assert_eq!(names(folder.path()).len(), 3);
    }

    #[test]
    fn jpeg_lays_the_picture_on_white() {
        let transparent = Picture::new(8, 8, 4, vec![0; 8 * 8 * 4]).unwrap();
        let bytes = encode(&transparent, None, Format::Jpeg).unwrap();
        let read = Picture::read(&bytes, "x").unwrap();
        assert_eq!((read.channels, read.pixels[0]), (3, 255));
    }

    #[test]
    fn refuses_targets_that_take_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("there.png");
        fs::create_dir(&inside).unwrap();
        let target = Target::new(&inside, None).unwrap();
        assert!(refusal_of(target.check()).contains("is a folder, expected a file in it"));
        assert!(refusal_of(write(&picture(), None, &target)).contains("is a folder"));
        let target = Target::new(&folder.path().join("missing/a.png"), None).unwrap();
        assert!(refusal_of(target.check()).ends_with("missing is missing; make it first"));
        assert!(refusal_of(write(&picture(), None, &target)).contains("make it first"));
        assert_eq!(names(folder.path()), ["there.png"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn refuses_a_folder_that_takes_no_files() {
        // Not even the superuser makes files in /proc.
        let target = Target::new(Path::new("/proc/a.png"), None).unwrap();
        assert!(refusal_of(target.check()).contains("output folder /proc takes no files"));
    }

    #[test]
    fn refuses_pictures_that_a_format_cannot_express() {
        let wide = Picture::new(70_000, 1, 3, vec![0; 210_000]).unwrap();
        assert!(refusal_of(encode(&wide, None, Format::Jpeg)).contains("jpg takes sides up to 65535"));
        assert!(refusal_of(encode(&wide, None, Format::WebP)).contains("webp takes sides up to 16383"));
        assert!(encode(&wide, None, Format::Png).is_ok());
        let broken = Picture { pixels: Vec::new(), ..wide };
        assert!(Format::ALL.into_iter().all(|format| encode(&broken, None, format).is_err()));
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_usual_permissions_and_a_link_is_followed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let usual = folder.path().join("usual");
        fs::write(&usual, "").unwrap();
        let path = folder.path().join("a.png");
        save(b"1", &path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));

        let link = folder.path().join("link.png");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        save(b"2", &link).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"2");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let device = Path::new("/dev/null");
        save(b"1", device).unwrap();
        Target::File(device.to_owned(), Format::Png).check().unwrap();
        assert!(is_device(device));
    }
}
