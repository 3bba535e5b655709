//! A picture of 8 bits per channel, and its way from and to tensors.
//!
//! The arithmetic is that of diffusers' `VaeImageProcessor` on Pillow pictures, so that the same tensor gives the same bytes.
//!
//! Not here: codecs (`decoder.rs`, `file.rs`) and the resampling filter (`resampling.rs`).

use anyhow::{Result, bail, ensure};
use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis, Zip};

use super::decoder::LARGEST_SIDE_PX;
use super::resampling::{self, Filter};

/// A picture in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 3 (red, green, blue) or 4 (and opacity, not multiplied into the colours).
    pub channels: usize,
    /// `height` × `width` × `channels` values, row by row from the top left.
    pub pixels: Vec<u8>,
}

// The pixels of a picture would bury the message that it is printed in.
impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({}x{}, {} channels)", self.width, self.height, self.channels)
    }
}

impl Picture {
    /// Takes pixels that are there already.
    ///
    /// # Errors
    /// A side is 0, there are neither 3 nor 4 channels, or `pixels` has another length than the size asks for.
    pub fn new(width: u32, height: u32, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let picture = Self { width, height, channels, pixels };
        picture.check()?;
        Ok(picture)
    }

    /// Makes sure that the public fields belong together.
    pub(super) fn check(&self) -> Result<()> {
        let Self { width, height, channels, ref pixels } = *self;
        ensure!(width > 0 && height > 0, "picture is {width}x{height}, expected at least 1x1");
        ensure!(matches!(channels, 3 | 4), "picture has {channels} channels, expected 3 or 4");
        let expected = (width as usize).checked_mul(height as usize).and_then(|area| area.checked_mul(channels));
        ensure!(
            expected == Some(pixels.len()),
            "picture of {width}x{height} with {channels} channels has {} values, expected width x height x channels",
            pixels.len()
        );
        Ok(())
    }

    /// Makes a picture of a decoded tensor.
    ///
    /// * `tensor`: `[C, H, W]` f32, -1 black to 1 white, clamped beyond; C is 1 (grey), 3, or 4 (the last one opacity, not
    ///   multiplied into the colours)
    ///
    /// A value x becomes (x/2 + ½)·255, halves rounded to even.
    ///
    /// # Errors
    /// `tensor` has another shape, or a value that is not finite.
    pub fn from_tensor(tensor: ArrayView3<'_, f32>) -> Result<Self> {
        let (depth, height, width) = tensor.dim();
        let channels = match depth {
            1 | 3 => 3,
            4 => 4,
            _ => bail!("picture tensor is [{depth}, {height}, {width}], expected 1, 3 or 4 channels first"),
        };
        let (Ok(width_px), Ok(height_px)) = (u32::try_from(width), u32::try_from(height)) else {
            bail!("picture tensor is [{depth}, {height}, {width}], expected sides below 2^32");
        };
        if !tensor.iter().all(|value| value.is_finite())
            && let Some((position, value)) = tensor.indexed_iter().find(|(_, value)| !value.is_finite())
        {
            bail!("picture tensor holds {value} at {position:?}, expected finite values");
        }
        let mut pixels = vec![0; height * width * channels];
        let mut places = ArrayViewMut3::from_shape((height, width, channels), &mut pixels)?;
        for channel in 0..channels {
            let mut place = places.index_axis_mut(Axis(2), channel);
            Zip::from(&mut place)
                .and(tensor.index_axis(Axis(0), channel.min(depth - 1)))
                .for_each(|byte, value| *byte = to_byte(*value));
        }
        Self::new(width_px, height_px, channels, pixels)
    }

    /// Gives the picture as a tensor `[channels, H, W]` f32, -1 black to 1 white.
    ///
    /// * `channels`: 1 (luminance), 3, or 4 (the last one opacity)
    ///
    /// Where opacity is not asked for, the picture is laid on white; where it is missing, it is full.
    ///
    /// # Errors
    /// `channels` is none of these.
    pub fn to_tensor(&self, channels: usize) -> Result<Array3<f32>> {
        self.check()?;
        let source = match channels {
            1 | 3 => self.on_white(),
            4 => self.with_opacity(),
            _ => bail!("a picture tensor of {channels} channels was asked for, expected 1, 3 or 4"),
        };
        let mut tensor = Array3::zeros((channels, self.height as usize, self.width as usize));
        let places = tensor.lanes_mut(Axis(0));
        for (mut place, pixel) in places.into_iter().zip(source.pixels.chunks_exact(source.channels)) {
            if channels == 1 {
                place.fill(from_byte(luminance(pixel)));
            } else {
                place.iter_mut().zip(pixel).for_each(|(value, byte)| *value = from_byte(*byte));
            }
        }
        Ok(tensor)
    }

    /// Gives where an inpainting run paints: `[1, height, width]` f32, 1 where the picture is light and 0 where it is dark.
    ///
    /// As diffusers' mask processor does it: resized first, then turned to luminance, and light from 128 of 255 on. Opacity is not
    /// looked at.
    ///
    /// # Errors
    /// A side is 0 or larger than [`LARGEST_SIDE_PX`].
    pub fn mask(&self, width: u32, height: u32) -> Result<Array3<f32>> {
        let resized = self.resize(width, height)?;
        let values: Vec<f32> =
            resized.pixels.chunks_exact(resized.channels).map(|pixel| f32::from(luminance(pixel) >= 128)).collect();
        Ok(Array3::from_shape_vec((1, height as usize, width as usize), values)?)
    }

    /// Whether the picture becomes visibly wider or taller at `width` times `height`.
    pub(crate) fn changes_shape(&self, width: u32, height: u32) -> bool {
        let (wide, tall) = (f64::from(self.width) * f64::from(height), f64::from(self.height) * f64::from(width));
        (wide / tall - 1.0).abs() > 0.02
    }

    /// Scales the picture to another size with Pillow's Lanczos filter, byte for byte.
    ///
    /// # Errors
    /// A side is 0 or larger than [`LARGEST_SIDE_PX`].
    pub fn resize(&self, width: u32, height: u32) -> Result<Self> {
        self.check()?;
        check_side(width, height)?;
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let mut source = self.clone();
        if self.channels == 4 {
            resampling::multiply_opacity(&mut source.pixels);
        }
        let mut pixels = resampling::resize(&source, width, height, Filter::Lanczos);
        if self.channels == 4 {
            resampling::divide_opacity(&mut pixels);
        }
        Self::new(width, height, self.channels, pixels)
    }

    /// Scales the picture to another size with Pillow's bicubic filter, byte for byte; opacity is treated as a colour.
    ///
    /// # Errors
    /// As [`Picture::resize`].
    pub fn resize_bicubic(&self, width: u32, height: u32) -> Result<Self> {
        self.check()?;
        check_side(width, height)?;
        let pixels = resampling::resize(self, width, height, Filter::Bicubic);
        Self::new(width, height, self.channels, pixels)
    }

    /// Lays the picture on white; one without opacity stays as it is.
    #[must_use]
    pub fn on_white(&self) -> Self {
        self.on([255; 3])
    }

    /// Lays the picture on a colour, red, green and blue; one without opacity stays as it is.
    #[must_use]
    pub fn on(&self, background: [u8; 3]) -> Self {
        if self.channels != 4 {
            return self.clone();
        }
        let mut pixels = Vec::with_capacity(self.pixels.len() / 4 * 3);
        for pixel in self.pixels.chunks_exact(4) {
            let [colours @ .., opacity] = pixel else { continue };
            let opacity = u32::from(*opacity);
            pixels.extend(colours.iter().zip(background).map(|(colour, behind)| {
                let sum = u32::from(*colour) * opacity + u32::from(behind) * (255 - opacity);
                // At most 255, being a mean of two bytes.
                ((sum + 127) / 255) as u8
            }));
        }
        Self { channels: 3, pixels, ..*self }
    }

    /// Adds full opacity; a picture that has opacity stays as it is.
    #[must_use]
    pub fn with_opacity(&self) -> Self {
        if self.channels == 4 {
            return self.clone();
        }
        let pixels = self.pixels.chunks_exact(3).flat_map(|pixel| pixel.iter().copied().chain([255])).collect();
        Self { channels: 4, pixels, ..*self }
    }
}

fn check_side(width: u32, height: u32) -> Result<()> {
    if !(1..=LARGEST_SIDE_PX).contains(&width) || !(1..=LARGEST_SIDE_PX).contains(&height) {
        crate::refuse!("size {width}x{height} is no size of a picture, expected sides of 1 to {LARGEST_SIDE_PX}");
    }
    Ok(())
}

fn to_byte(value: f32) -> u8 {
    let unit = (value / 2.0 + 0.5).clamp(0.0, 1.0);
    round(unit * 255.0) as u8
}

/// Rounds a number from 0 to 2²² to the nearest whole one, halves to even: what is added leaves no bits for fractions. `round_ties_even` does it
/// in a function of its own wherever the compiler may not count on SSE4.1, for each byte of a picture.
fn round(value: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    (value + WHOLE) - WHOLE
}

fn from_byte(byte: u8) -> f32 {
    f32::from(byte) / 255.0 * 2.0 - 1.0
}

/// Weighs the colours as Pillow does (ITU-R BT.601, in 16 bits).
fn luminance(pixel: &[u8]) -> u8 {
    let sum: u32 = pixel.iter().zip([19_595, 38_470, 7_471]).map(|(colour, weight)| u32::from(*colour) * weight).sum();
    // The weights add up to 2¹⁶.
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_tensor_becomes_bytes_with_halves_to_even() {
        // From numpy 2: ((v / 2 + 0.5).clip(0, 1) * 255).round().astype("uint8") with v = x / 255 * 2 - 1 in f32.
        assert_eq!([0.5_f32, 1.5, 2.5, 254.5].map(|x| to_byte(x / 255.0 * 2.0 - 1.0)), [0, 1, 2, 254]);
        assert_eq!([-1.0, 1.0, -7.0, 7.0, 0.0].map(to_byte), [0, 255, 0, 255, 128]);
    }

    #[test]
    fn every_byte_survives_the_way_through_a_tensor() {
        let pixels: Vec<u8> = (0..=255).flat_map(|byte| [byte, 255 - byte, byte / 2, byte]).collect();
        let picture = Picture::new(16, 16, 4, pixels).unwrap();
        let tensor = picture.to_tensor(4).unwrap();
        assert_eq!(tensor.dim(), (4, 16, 16));
        assert_eq!(Picture::from_tensor(tensor.view()).unwrap(), picture);
    }

    #[test]
    fn a_tensor_is_laid_out_channels_first() {
        let tensor = array![[[1.0, -1.0]], [[-1.0, -1.0]], [[-1.0, 1.0]]];
        let picture = Picture::from_tensor(tensor.view()).unwrap();
        assert_eq!((picture.width, picture.height, picture.channels), (2, 1, 3));
        assert_eq!(picture.pixels, [255, 0, 0, 0, 0, 255]);
        assert_eq!(picture.to_tensor(3).unwrap(), tensor);
        let grey = Picture::from_tensor(array![[[0.2_f32, 1.0]]].view()).unwrap();
        assert_eq!(grey.pixels, [153, 153, 153, 255, 255, 255]);
    }

    #[test]
    fn opacity_is_laid_on_white_or_filled_in() {
        let picture = Picture::new(3, 1, 4, vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128]).unwrap();
        assert_eq!(picture.on_white().pixels, [10, 20, 30, 255, 255, 255, 127, 127, 127]);
        let opaque = picture.on_white().with_opacity();
        assert_eq!(opaque.pixels[3], 255);
        assert_eq!(opaque.on_white(), picture.on_white());
        assert_eq!(picture.to_tensor(1).unwrap().dim(), (1, 1, 3));
    }

    #[test]
    fn a_mask_is_one_where_the_picture_is_light() {
        let picture = Picture::new(3, 1, 3, vec![127, 127, 127, 128, 128, 128, 0, 255, 0]).unwrap();
        assert_eq!(picture.mask(3, 1).unwrap(), array![[[0.0, 1.0, 1.0]]]);
        assert_eq!(picture.mask(9, 4).unwrap().dim(), (1, 4, 9));
    }

    #[test]
    fn refuses_tensors_that_are_no_picture() {
        let message = |tensor: &Array3<f32>| Picture::from_tensor(tensor.view()).unwrap_err().to_string();
        assert_eq!(message(&Array3::zeros((2, 4, 4))), "picture tensor is [2, 4, 4], expected 1, 3 or 4 channels first");
        assert_eq!(message(&Array3::zeros((3, 0, 4))), "picture is 4x0, expected at least 1x1");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut tensor = Array3::zeros((3, 4, 4));
            tensor[[1, 2, 3]] = value;
            assert_eq!(message(&tensor), format!("picture tensor holds {value} at (1, 2, 3), expected finite values"));
        }
    }

    #[test]
    fn refuses_sizes_that_are_none_and_fields_that_do_not_fit() {
        let picture = Picture::new(1, 1, 3, vec![1, 2, 3]).unwrap();
        for (width, height) in [(0, 4), (4, 0), (LARGEST_SIDE_PX + 1, 4)] {
            assert!(crate::error::is_refusal(&picture.resize(width, height).unwrap_err()));
            assert!(picture.mask(width, height).is_err());
        }
        assert!(Picture::new(2, 1, 3, vec![1, 2, 3]).is_err());
        assert!(Picture::new(1, 1, 2, vec![1, 2]).is_err());
        let broken = Picture { pixels: Vec::new(), ..picture };
        assert!(broken.to_tensor(3).is_err() && broken.resize(2, 2).is_err());
        assert!(broken.to_tensor(2).is_err());
    }
}
