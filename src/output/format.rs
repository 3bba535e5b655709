//! File formats of pictures and of clips, told from a name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;

use super::clip::numbered::Numbered;
use super::staged::{Staged, is_device, resolve};
use crate::{refusal, refuse};

/// What [`Target`](super::Target) asks of a file format.
pub trait FileFormat: Copy + Default + FromStr<Err = anyhow::Error> {
    /// Gives the extensions for messages, as `.png, .jpg or .webp`.
    fn extensions() -> &'static str;

    /// Gives the extension of a name, with its dot; none for a folder.
    fn extension(self) -> &'static str;

    /// Tells the format from the name of `path`: by its extension, in capitals or not.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): there is no extension, or one that is not written.
    fn from_path(path: &Path) -> Result<Self> {
        from_extension(path)
    }

    /// Makes sure that `path` can be written.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): it is a folder where a file is written, or its folder is missing or takes no files.
    fn check(self, path: &Path) -> Result<()> {
        check_file(path)
    }
}

fn from_extension<F: FileFormat>(path: &Path) -> Result<F> {
    let Some(extension) = path.extension() else {
        refuse!("output {} has no extension, expected {}", path.display(), F::extensions());
    };
    let format = extension.to_str().and_then(|extension| extension.parse().ok());
    format.ok_or_else(|| refusal!("output {} ends in .{}, expected {}", path.display(), extension.display(), F::extensions()))
}

fn check_file(path: &Path) -> Result<()> {
    if is_device(path) { Ok(()) } else { Staged::beside(&resolve(path)?).map(drop) }
}

/// A file format that pictures are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Lossless, with opacity and provenance.
    #[default]
    Png,
    /// Lossy, on white, at quality 95.
    Jpeg,
    /// Lossless, with opacity.
    WebP,
}

impl Format {
    /// Gives every format, in the order in which help texts list them.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::WebP];

    /// Gives the usual extension, which is also the name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
        }
    }

    /// Gives the media type for HTTP.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

impl FileFormat for Format {
    fn extensions() -> &'static str {
        match (cfg!(feature = "jpeg"), cfg!(feature = "webp")) {
            (true, true) => ".png, .jpg or .webp",
            (true, false) => ".png or .jpg",
            (false, true) => ".png or .webp",
            (false, false) => ".png",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Png => ".png",
            Self::Jpeg => ".jpg",
            Self::WebP => ".webp",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" if cfg!(feature = "jpeg") => Ok(Self::Jpeg),
            "webp" if cfg!(feature = "webp") => Ok(Self::WebP),
            _ => Err(refusal!("format `{name}` is not written, expected {}", Self::extensions().replace('.', ""))),
        }
    }
}

/// A file format that clips are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClipFormat {
    /// Animated PNG: lossless, with opacity and provenance; a program that does not know it shows the first frame.
    #[default]
    Apng,
    /// 256 colours a frame, each pixel opaque or not at all, with provenance; every program plays it.
    Gif,
    /// Animated WebP: lossless, with opacity and provenance.
    WebP,
    /// AV1 in MP4: lossy, without opacity, with provenance.
    Mp4,
    /// AV1 in WebM: as MP4.
    WebM,
    /// Raw video for another program, without opacity.
    Y4m,
    /// Numbered PNG files.
    Frames,
}

impl ClipFormat {
    /// Gives every format, in the order in which help texts list them.
    pub const ALL: [Self; 7] = [Self::Apng, Self::Gif, Self::WebP, Self::Mp4, Self::WebM, Self::Y4m, Self::Frames];

    /// Gives the usual extension, which [`FromStr`] reads as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Apng => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Mp4 => "mp4",
            Self::WebM => "webm",
            Self::Y4m => "y4m",
            Self::Frames => "frames",
        }
    }

    /// Whether a clip's file holds what made it; beside others it lies in a file of its own.
    #[must_use]
    pub fn holds_record(self) -> bool {
        !matches!(self, Self::Y4m | Self::Frames)
    }

    /// Whether pixels may be less than opaque.
    #[must_use]
    pub fn holds_opacity(self) -> bool {
        matches!(self, Self::Apng | Self::Gif | Self::WebP | Self::Frames)
    }

    /// Whether the bytes of a clip are final as they are written, so that a stream needs no temporary file.
    pub(super) fn is_written_in_order(self) -> bool {
        matches!(self, Self::Gif | Self::Y4m)
    }

    /// Gives the media type for HTTP; of numbered files, that of one.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Apng => "image/apng",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Mp4 => "video/mp4",
            Self::WebM => "video/webm",
            Self::Y4m => "video/x-yuv4mpeg",
            Self::Frames => "image/png",
        }
    }
}

impl FileFormat for ClipFormat {
    fn extensions() -> &'static str {
        match (cfg!(feature = "webp"), cfg!(feature = "av1")) {
            (true, true) => ".png, .apng, .gif, .webp, .mp4, .webm, .y4m or a folder for a clip",
            (true, false) => ".png, .apng, .gif, .webp, .y4m or a folder for a clip",
            (false, true) => ".png, .apng, .gif, .mp4, .webm, .y4m or a folder for a clip",
            (false, false) => ".png, .apng, .gif, .y4m or a folder for a clip",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Apng => ".png",
            Self::Gif => ".gif",
            Self::WebP => ".webp",
            Self::Mp4 => ".mp4",
            Self::WebM => ".webm",
            Self::Y4m => ".y4m",
            Self::Frames => "",
        }
    }

    /// A folder, a name that ends as one, or `%04d` in a name is told apart as well.
    fn from_path(path: &Path) -> Result<Self> {
        let is_pattern = path.file_name().is_some_and(|name| name.to_string_lossy().contains('%'));
        // A path forgets a slash at its end.
        let is_folder = path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
        if is_pattern || is_folder { Ok(Self::Frames) } else { from_extension(path) }
    }

    fn check(self, path: &Path) -> Result<()> {
        if self == Self::Frames { Numbered::parse(path)?.check() } else { check_file(path) }
    }
}

impl fmt::Display for ClipFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for ClipFormat {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "png" | "apng" => Ok(Self::Apng),
            "gif" => Ok(Self::Gif),
            "webp" if cfg!(feature = "webp") => Ok(Self::WebP),
            "mp4" if cfg!(feature = "av1") => Ok(Self::Mp4),
            "webm" if cfg!(feature = "av1") => Ok(Self::WebM),
            "y4m" => Ok(Self::Y4m),
            "frames" => Ok(Self::Frames),
            _ => {
                let known = Self::extensions().replace('.', "").replace("a folder for a clip", "frames");
                Err(refusal!("format `{name}` is not written for clips, expected {known}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    fn refusal_of<T: fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn the_extension_tells_the_format() {
        for (name, format) in
            [("a.png", Format::Png), ("b.JPG", Format::Jpeg), ("c.jpeg", Format::Jpeg), ("d.x.WebP", Format::WebP)]
        {
            assert_eq!(Format::from_path(Path::new(name)).unwrap(), format);
        }
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert_eq!(refusal_of(Format::from_path(Path::new("a.gif"))), "output a.gif ends in .gif, expected .png, .jpg or .webp");
        assert_eq!(refusal_of(Format::from_path(Path::new("png"))), "output png has no extension, expected .png, .jpg or .webp");
        assert_eq!(refusal_of("tiff".parse::<Format>()), "format `tiff` is not written, expected png, jpg or webp");
    }

    #[test]
    fn the_name_tells_the_format_of_a_clip() {
        for (name, format) in [
            ("a.png", ClipFormat::Apng),
            ("b.APNG", ClipFormat::Apng),
            ("d.x.Gif", ClipFormat::Gif),
            ("e.webp", ClipFormat::WebP),
            ("f.mp4", ClipFormat::Mp4),
            ("g.webm", ClipFormat::WebM),
            ("h.y4m", ClipFormat::Y4m),
            ("frames/", ClipFormat::Frames),
            ("frames/%04d.png", ClipFormat::Frames),
            (".", ClipFormat::Frames),
        ] {
            assert_eq!(ClipFormat::from_path(Path::new(name)).unwrap(), format, "{name}");
        }
        for format in ClipFormat::ALL {
            assert_eq!(format.to_string().parse::<ClipFormat>().unwrap(), format);
        }
        let said = "output a.jpg ends in .jpg, expected .png, .apng, .gif, .webp, .mp4, .webm, .y4m or a folder for a clip";
        assert_eq!(refusal_of(ClipFormat::from_path(Path::new("a.jpg"))), said);
        assert!(refusal_of(ClipFormat::from_path(Path::new("gif"))).contains("has no extension, expected .png, .apng, .gif"));
        let said = "format `mov` is not written for clips, expected png, apng, gif, webp, mp4, webm, y4m or frames";
        assert_eq!(refusal_of("mov".parse::<ClipFormat>()), said);
    }
}
