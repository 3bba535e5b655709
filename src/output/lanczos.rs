//! The Lanczos filter as Pillow applies it to pictures of 8 bits per channel.
//!
//! C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18(8), 1979; three lobes.
//!
//! In: pixels and a new size. Out: pixels, byte for byte those of Pillow's `Image.resize(size, Image.LANCZOS)`: rows first, then
//! columns, weights in fixed point, each pass rounded to bytes. The filter of the `image` crate keeps fractions between the passes
//! and differs from Pillow's by a level here and there, enough for a picture made from one to differ from diffusers' picture.

use super::picture::Picture;

/// Lobes of the filter to each side.
const LOBES: f64 = 3.0;
/// Fractional bits of a weight: 8 of 32 are the byte's, 2 are left for overshoot.
const FRACTION_BITS: u32 = 22;

/// What one new value is made of: weights for the old values from `start` on.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Scales to `width` × `height`, both above 0; opacity is treated as any other channel.
pub(super) fn resize(picture: &Picture, width: u32, height: u32) -> Vec<u8> {
    let Picture { width: old_width, height: old_height, channels, .. } = *picture;
    let (old_stride, stride) = (old_width as usize * channels, width as usize * channels);
    let mut rows = Vec::with_capacity(stride * old_height as usize);
    if width == old_width {
        rows.extend_from_slice(&picture.pixels);
    } else {
        let windows = windows(old_width, width);
        for row in picture.pixels.chunks_exact(old_stride) {
            for window in &windows {
                for channel in 0..channels {
                    rows.push(window.sum(row.iter().skip(window.start * channels + channel).step_by(channels)));
                }
            }
        }
    }
    if height == old_height {
        return rows;
    }
    let mut pixels = Vec::with_capacity(stride * height as usize);
    for window in windows(old_height, height) {
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

fn windows(old: u32, new: u32) -> Vec<Window> {
    let scale = f64::from(old) / f64::from(new);
    // Making a picture smaller widens the filter, so that every old value counts.
    let stretch = scale.max(1.0);
    let support = LOBES * stretch;
    (0..new)
        .map(|index| {
            let centre = (f64::from(index) + 0.5) * scale;
            // Both are within the picture, and the conversion cuts off what is negative.
            let start = (centre - support + 0.5) as u32;
            let end = ((centre + support + 0.5) as u32).min(old);
            let weights: Vec<f64> =
                (start..end).map(|place| lanczos((f64::from(place) - centre + 0.5) * (1.0 / stretch))).collect();
            let total: f64 = weights.iter().sum();
            let weights = weights.iter().map(|weight| fixed(if total == 0.0 { *weight } else { weight / total })).collect();
            Window { start: start as usize, weights }
        })
        .collect()
}

fn lanczos(distance: f64) -> f64 {
    if (-LOBES..LOBES).contains(&distance) { sinc(distance) * sinc(distance / LOBES) } else { 0.0 }
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
    /// resized = Image.fromarray(b, "RGB" if c == 3 else "RGBA").resize((new_w, new_h), Image.LANCZOS)
    /// hashlib.sha256(numpy.asarray(resized).tobytes()).hexdigest()[:16]
    /// ```
    const PILLOW: [(Shape, (u32, u32), &str); 9] = [
        ((37, 23, 3), (64, 64), "921fd228c97ceab5"),
        ((64, 64, 3), (24, 40), "112b8fef854f168c"),
        ((50, 31, 4), (32, 96), "779172dc9c8d2555"),
        ((128, 96, 4), (17, 9), "e5687199eb1fb1f0"),
        ((1, 1, 3), (8, 8), "c724db5fbb0447f2"),
        ((300, 2, 3), (300, 1), "8461263ef88f50ee"),
        ((5, 7, 3), (5, 14), "dc931c535400f39e"),
        ((640, 480, 3), (64, 64), "f8c66fdb7c218e18"),
        ((9, 9, 4), (1, 1), "670accae554a716c"),
    ];

    #[test]
    fn resizing_gives_pillows_bytes() {
        for ((width, height, channels), (new_width, new_height), expected) in PILLOW {
            let pixels = (0..u64::from(width) * u64::from(height) * channels as u64)
                .map(|i| (((i * i).wrapping_mul(2_654_435_761).wrapping_add(i * 40_503)) >> 11 & 255) as u8)
                .collect();
            let picture = Picture::new(width, height, channels, pixels).unwrap().resize(new_width, new_height).unwrap();
            let digest: String = Sha256::digest(&picture.pixels).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "{width}x{height}x{channels} to {new_width}x{new_height}");
        }
    }
}
