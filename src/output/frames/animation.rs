//! Animated GIF, PNG and WebP: frames laid over each other as the files say, by the decoders that read still pictures.

use std::fs::File;
use std::io::BufReader;

use anyhow::Result;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
#[cfg(feature = "webp")]
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder, ImageResult, Limits};

use super::check_sides;
use crate::output::container::Container;
use crate::output::decoder::{LARGEST_DECODED_BYTES, LARGEST_SIDE_PX, explain};
use crate::output::picture::Picture;
use crate::refuse;

/// The frames of a file, none of them decoded yet.
pub(super) fn open(container: Container, file: BufReader<File>, name: &str) -> Result<Box<dyn Iterator<Item = Result<Picture>>>> {
    let broken = |error| explain(error, name, LARGEST_SIDE_PX);
    let (frames, (width, height)) = match container {
        Container::Png => png(file).map_err(broken)?,
        Container::Gif => gif(file).map_err(broken)?,
        #[cfg(feature = "webp")]
        Container::WebP => webp(file).map_err(broken)?,
        _ => refuse!("clip {name} is of a kind that this build does not read; every build reads PNG and GIF"),
    };
    check_sides(name, width, height)?;
    let name = name.to_owned();
    Ok(Box::new(frames.map(move |frame| {
        let frame = frame.map_err(|error| explain(error, &name, LARGEST_SIDE_PX))?.into_buffer();
        Picture::new(frame.width(), frame.height(), 4, frame.into_raw())
    })))
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(LARGEST_SIDE_PX);
    limits.max_image_height = Some(LARGEST_SIDE_PX);
    limits.max_alloc = Some(LARGEST_DECODED_BYTES);
    limits
}

fn png(file: BufReader<File>) -> ImageResult<(Frames<'static>, (u32, u32))> {
    let decoder = PngDecoder::with_limits(file, limits())?;
    let size = decoder.dimensions();
    Ok((decoder.apng()?.into_frames(), size))
}

fn gif(file: BufReader<File>) -> ImageResult<(Frames<'static>, (u32, u32))> {
    let mut decoder = GifDecoder::new(file)?;
    decoder.set_limits(limits())?;
    let size = decoder.dimensions();
    Ok((decoder.into_frames(), size))
}

#[cfg(feature = "webp")]
fn webp(file: BufReader<File>) -> ImageResult<(Frames<'static>, (u32, u32))> {
    let mut decoder = WebPDecoder::new(file)?;
    decoder.set_limits(limits())?;
    let size = decoder.dimensions();
    Ok((decoder.into_frames(), size))
}
