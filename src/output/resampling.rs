//! Filters as Pillow applies them to pictures of 8 bits per channel.
//!
//! C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18(8), 1979; three lobes. R. G. Keys, "Cubic convolution
//! interpolation for digital image processing", IEEE Trans. ASSP 29(6), 1981; a = -1/2.
//!
//! In: pixels and a new size. Out: pixels, byte for byte those of Pillow's `Image.resize(size, filter)`: two passes, weights in fixed
//! point, each pass rounded to bytes. The filter of the `image` crate keeps fractions between the passes and differs from Pillow's by a
//! level here and there, enough for a picture made from one to differ from diffusers' picture.

use super::picture::Picture;

/// Lobes of the Lanczos filter to each side.
const LOBES: f64 = 3.0;
/// The slope of the cubic at its first zero.
const SLOPE: f64 = -0.5;
/// Fractional bits of a weight: 8 of 32 are the byte's, 2 are left for overshoot.
const FRACTION_BITS: u32 = 22;

/// What a new value is made of the old ones by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// A windowed sinc, which diffusers scales pictures with.
    Lanczos,
    /// A cubic, which CLIP is shown pictures through.
    Bicubic,
}

impl Filter {
    /// How far it reaches to each side.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => LOBES,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        match self {
            Self::Lanczos => lanczos(distance),
            Self::Bicubic => bicubic(distance),
        }
    }
}

/// What one new value is made of: weights for the old values from `start` on.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Scales to `width` × `height`, both above 0; opacity is treated as any other channel.
pub(super) fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Vec<u8> {
    let Picture { width: old_width, height: old_height, channels, ref pixels } = *picture;
    // Pillow's rule, as its results show it: where columns lose more than twice what rows lose, they go first.
    let (lost_rows, lost_columns) = (i64::from(old_height) - i64::from(height), i64::from(old_width) - i64::from(width));
    if lost_rows > 0 && lost_rows > 2 * lost_columns {
        let lower = resize_columns(pixels, old_width as usize * channels, (old_height, height), filter);
        resize_rows(&lower, channels, (old_width, width), filter)
    } else {
        let narrower = resize_rows(pixels, channels, (old_width, width), filter);
        resize_columns(&narrower, width as usize * channels, (old_height, height), filter)
    }
}

/// Scales each row from the old width to the new one.
fn resize_rows(pixels: &[u8], channels: usize, (old, new): (u32, u32), filter: Filter) -> Vec<u8> {
    if old == new {
        return pixels.to_vec();
    }
    let windows = windows(old, new, filter);
    let mut rows = Vec::with_capacity(pixels.len() / old as usize * new as usize);
    for row in pixels.chunks_exact(old as usize * channels) {
        for window in &windows {
            for channel in 0..channels {
                rows.push(window.sum(row.iter().skip(window.start * channels + channel).step_by(channels)));
            }
        }
    }
    rows
}

/// Scales each column from the old height to the new one; a row has `stride` values.
fn resize_columns(rows: &[u8], stride: usize, (old, new): (u32, u32), filter: Filter) -> Vec<u8> {
    if old == new {
        return rows.to_vec();
    }
    let mut pixels = Vec::with_capacity(stride * new as usize);
    for window in windows(old, new, filter) {
        for column in 0..stride {
            pixels.push(window.sum(rows.iter().skip(window.start * stride + column).step_by(stride)));
        }
    }
    pixels
}

impl Window {
    fn sum<'a>(&self, values: impl Iterator<Item = &'a u8>) -> u8 {
        let half = 1 << (FRACTION_BITS - 1);
        let sum = self.weights.iter().zip(values).fold(half, |sum, (weight, value)| sum + weight * i32::from(*value));
        (sum >> FRACTION_BITS).clamp(0, 255) as u8
    }
}

fn windows(old: u32, new: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(old) / f64::from(new);
    // Making a picture smaller widens the filter, so that every old value counts.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..new)
        .map(|index| {
            let centre = (f64::from(index) + 0.5) * scale;
            // Both are within the picture, and the conversion cuts off what is negative.
            let start = (centre - support + 0.5) as u32;
            let end = ((centre + support + 0.5) as u32).min(old);
            let weights: Vec<f64> =
                (start..end).map(|place| filter.weight((f64::from(place) - centre + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            let weights = weights.iter().map(|weight| fixed(if total == 0.0 { *weight } else { weight / total })).collect();
            Window { start: start as usize, weights }
        })
        .collect()
}

fn lanczos(distance: f64) -> f64 {
    if (-LOBES..LOBES).contains(&distance) { sinc(distance) * sinc(distance / LOBES) } else { 0.0 }
}

fn bicubic(distance: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((SLOPE + 2.0) * x - (SLOPE + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * SLOPE
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let angle = x * std::f64::consts::PI;
    angle.sin() / angle
}

fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << FRACTION_BITS) + 0.5_f64.copysign(weight)) as i32
}

/// Multiplies opacity into the colours, so that what cannot be seen does not bleed into what can.
pub(super) fn multiply_opacity(pixels: &mut [u8]) {
    for [colours @ .., opacity] in pixels.as_chunks_mut::<4>().0 {
        for colour in colours {
            // A division by 255, rounded, without dividing.
            let product = u32::from(*colour) * u32::from(*opacity) + 128;
            *colour = (((product >> 8) + product) >> 8) as u8;
        }
    }
}

/// Divides the colours by opacity again, rounding down as Pillow does.
pub(super) fn divide_opacity(pixels: &mut [u8]) {
    for [colours @ .., opacity] in pixels.as_chunks_mut::<4>().0 {
        if matches!(*opacity, 0 | 255) {
            continue;
        }
        for colour in colours {
            *colour = (255 * u32::from(*colour) / u32::from(*opacity)).min(255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Width, height, channels.
    type Shape = (u32, u32, usize);

    /// The start of the SHA-256 of what Pillow 13.0.0 makes of pixels `b[i] = (i·i·2654435761 + i·40503) >> 11 & 255`:
    ///
    /// ```python
    /// i = numpy.arange(w * h * c, dtype="uint64")
    /// b = ((i * i * 2654435761 + i * 40503) >> 11 & 255).astype("uint8").reshape(h, w, c)
    /// resized = Image.fromarray(b, "RGB" if c == 3 else "RGBA").resize((new_w, new_h), filter)
    /// hashlib.sha256(numpy.asarray(resized).tobytes()).hexdigest()[:16]
    /// ```
    const PILLOW: [(Filter, Shape, (u32, u32), &str); 20] = [
        (Filter::Lanczos, (37, 23, 3), (64, 64), "921fd228c97ceab5"),
        (Filter::Lanczos, (64, 64, 3), (24, 40), "112b8fef854f168c"),
        (Filter::Lanczos, (50, 31, 4), (32, 96), "779172dc9c8d2555"),
        (Filter::Lanczos, (128, 96, 4), (17, 9), "e5687199eb1fb1f0"),
        (Filter::Lanczos, (1, 1, 3), (8, 8), "c724db5fbb0447f2"),
        (Filter::Lanczos, (300, 2, 3), (300, 1), "8461263ef88f50ee"),
        (Filter::Lanczos, (5, 7, 3), (5, 14), "dc931c535400f39e"),
        (Filter::Lanczos, (640, 480, 3), (64, 64), "f8c66fdb7c218e18"),
        (Filter::Lanczos, (9, 9, 4), (1, 1), "670accae554a716c"),
        (Filter::Lanczos, (33, 150, 3), (32, 145), "90da6001f08aa4dd"),
        (Filter::Lanczos, (15, 34, 3), (40, 16), "762cf76ba01e4e43"),
        (Filter::Lanczos, (12, 48, 4), (6, 25), "875efadee3c8e557"),
        (Filter::Lanczos, (51, 52, 3), (31, 12), "fc95d9d16c58794a"),
        (Filter::Lanczos, (45, 46, 3), (25, 7), "c47169c9e9cc368c"),
        (Filter::Lanczos, (97, 41, 3), (75, 32), "66f99a3fe404a3d0"),
        (Filter::Bicubic, (33, 150, 3), (32, 145), "9da3ac2f446841a1"),
        (Filter::Bicubic, (15, 34, 3), (40, 16), "8fb6206182b1d195"),
        (Filter::Bicubic, (51, 52, 3), (31, 12), "8a29a70d3708578c"),
        (Filter::Bicubic, (45, 46, 3), (25, 7), "09371a8e734893b5"),
        (Filter::Bicubic, (97, 41, 3), (75, 32), "cb9a1aafc4b43fb3"),
    ];

    #[test]
    fn resizing_gives_pillows_bytes() {
        for (filter, (width, height, channels), (new_width, new_height), expected) in PILLOW {
            let pixels = (0..u64::from(width) * u64::from(height) * channels as u64)
                .map(|i| (((i * i).wrapping_mul(2_654_435_761).wrapping_add(i * 40_503)) >> 11 & 255) as u8)
                .collect();
            let picture = Picture::new(width, height, channels, pixels).unwrap();
            let resized = match filter {
                Filter::Lanczos => picture.resize(new_width, new_height),
                Filter::Bicubic => picture.resize_bicubic(new_width, new_height),
            };
            let digest: String =
                Sha256::digest(&resized.unwrap().pixels).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "{filter:?} {width}x{height}x{channels} to {new_width}x{new_height}");
        }
    }
}
