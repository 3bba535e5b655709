//! File formats of pictures and of clips, told from a name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;

use crate::{refusal, refuse};

/// What [`Target`](super::Target) asks of a file format.
pub trait FileFormat: Copy + Default + FromStr<Err = anyhow::Error> {
    /// Gives the extensions for messages, as `.png, .jpg or .webp`.
    fn extensions() -> &'static str;

    /// Tells the format from the extension of `path`, in capitals or not.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): there is no extension, or one that is not written.
    fn from_path(path: &Path) -> Result<Self> {
        let Some(extension) = path.extension() else {
            refuse!("output {} has no extension, expected {}", path.display(), Self::extensions());
        };
        let format = extension.to_str().and_then(|extension| extension.parse().ok());
        format.ok_or_else(|| {
            refusal!("output {} ends in .{}, expected {}", path.display(), extension.display(), Self::extensions())
        })
    }
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
}

impl ClipFormat {
    /// Gives every format, in the order in which help texts list them.
    pub const ALL: [Self; 2] = [Self::Apng, Self::Gif];

    /// Gives the usual extension, which [`FromStr`] reads as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Apng => "png",
            Self::Gif => "gif",
        }
    }

    /// Whether the bytes of a clip are final as they are written, so that a stream needs no temporary file.
    pub(super) fn is_written_in_order(self) -> bool {
        matches!(self, Self::Gif)
    }

    /// Gives the media type for HTTP.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Apng => "image/apng",
            Self::Gif => "image/gif",
        }
    }
}

impl FileFormat for ClipFormat {
    fn extensions() -> &'static str {
        ".png, .apng or .gif for a clip"
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
            _ => Err(refusal!("format `{name}` is not written for clips, expected png, apng or gif")),
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
    fn the_extension_tells_the_format_of_a_clip() {
        for (name, format) in
            [("a.png", ClipFormat::Apng), ("b.APNG", ClipFormat::Apng), ("c.gif", ClipFormat::Gif), ("d.x.Gif", ClipFormat::Gif)]
        {
            assert_eq!(ClipFormat::from_path(Path::new(name)).unwrap(), format);
        }
        for format in ClipFormat::ALL {
            assert_eq!(format.to_string().parse::<ClipFormat>().unwrap(), format);
        }
        let said = "output a.jpg ends in .jpg, expected .png, .apng or .gif for a clip";
        assert_eq!(refusal_of(ClipFormat::from_path(Path::new("a.jpg"))), said);
        assert!(refusal_of(ClipFormat::from_path(Path::new("gif"))).contains("has no extension, expected .png, .apng or .gif"));
        assert!(refusal_of("webm".parse::<ClipFormat>()).contains("is not written for clips, expected png, apng or gif"));
    }
}
