//! Colours as video has them: luma and two chroma of limited range, the chroma at half the resolution.
//!
//! Recommendation ITU-R BT.601-7 (1.0 to 2.5) and BT.709-6 (3): `Y = Kr R + Kg G + Kb B`, `Cb = (B − Y) / 2(1 − Kb)`,
//! `Cr = (R − Y) / 2(1 − Kr)`; of 8 bits, Y lies in 16 to 235 and the others in 16 to 240 around 128. A chroma sample stands at the left
//! pixel of two, between two rows, as MPEG-2 and AV1's `CSP_VERTICAL` have it.

use crate::output::picture::Picture;

/// Weights of red and blue in luma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::output) struct Matrix {
    red: f32,
    blue: f32,
}

/// Television of 525 and 625 lines; what a file means that does not say.
pub(in crate::output) const BT601: Matrix = Matrix { red: 0.299, blue: 0.114 };
/// High definition; what AV1 files say.
#[cfg(feature = "av1")]
pub(in crate::output) const BT709: Matrix = Matrix { red: 0.2126, blue: 0.0722 };

impl Matrix {
    /// Cb and Cr of what luma leaves of a colour, in units of the full range.
    fn chroma(self, [red, green, blue]: [f32; 3]) -> [f32; 2] {
        let luma = self.luma([red, green, blue]);
        [(blue - luma) / (2.0 * (1.0 - self.blue)), (red - luma) / (2.0 * (1.0 - self.red))]
    }

    fn luma(self, [red, green, blue]: [f32; 3]) -> f32 {
        self.red * red + (1.0 - self.red - self.blue) * green + self.blue * blue
    }

    /// Red, green and blue, 0 to 255 and clamped, of luma 0 to 1 and chroma -½ to ½.
    pub(in crate::output) fn to_rgb(self, luma: f32, [blue_difference, red_difference]: [f32; 2]) -> [u8; 3] {
        let blue = luma + 2.0 * (1.0 - self.blue) * blue_difference;
        let red = luma + 2.0 * (1.0 - self.red) * red_difference;
        let green = (luma - self.red * red - self.blue * blue) / (1.0 - self.red - self.blue);
        [red, green, blue].map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8)
    }
}

/// A picture as three planes, row by row: luma `width × height`, and Cb and Cr `⌈width/2⌉ × ⌈height/2⌉`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) luma: Vec<u8>,
    pub(super) chroma: [Vec<u8>; 2],
    /// Samples in a row of chroma.
    pub(super) chroma_width: usize,
}

impl Planes {
    /// Converts an opaque `picture` of three channels.
    pub(super) fn new(picture: &Picture, matrix: Matrix) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let pixels: Vec<[f32; 3]> = picture
            .pixels
            .chunks_exact(3)
            .map(|pixel| [pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) / 255.0))
            .collect();
        let luma = pixels.iter().map(|pixel| (16.0 + 219.0 * matrix.luma(*pixel)).round() as u8).collect();
        let mut chroma = [0, 1].map(|_| Vec::with_capacity(chroma_width * chroma_height));
        for row in 0..chroma_height {
            let rows = [row * 2, (row * 2 + 1).min(height - 1)];
            for column in (0..chroma_width).map(|column| column * 2) {
                // Three pixels around the left one, so that the sample stands where it is said to.
                let columns = [(column.saturating_sub(1), 0.125), (column, 0.25), ((column + 1).min(width - 1), 0.125)];
                let mut mean = [0.0; 3];
                for row in rows {
                    for (column, weight) in columns {
                        let pixel = pixels.get(row * width + column).copied().unwrap_or_default();
                        mean.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
                for (plane, value) in chroma.iter_mut().zip(matrix.chroma(mean)) {
                    plane.push((128.0 + 224.0 * value).round() as u8);
                }
            }
        }
        Self { luma, chroma, chroma_width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes_of(colour: [u8; 3], matrix: Matrix) -> [u8; 3] {
        let picture = Picture::new(3, 3, 3, colour.repeat(9)).unwrap();
        let planes = Planes::new(&picture, matrix);
        assert_eq!((planes.luma.len(), planes.chroma_width, planes.chroma[0].len()), (9, 2, 4));
        let first = [planes.luma[0], planes.chroma[0][0], planes.chroma[1][0]];
        assert!(planes.luma.iter().all(|value| *value == first[0]) && planes.chroma[1].iter().all(|value| *value == first[2]));
        first
    }

    #[test]
    fn colours_are_where_the_recommendations_put_them() {
        // BT.601: the 100 % colour bars of Rec. 601, as in its tables.
        for (colour, expected) in [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 255, 0], [145, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
            ([255, 255, 0], [210, 16, 146]),
        ] {
            assert_eq!(planes_of(colour, BT601), expected, "{colour:?}");
        }
        #[cfg(feature = "av1")]
        for (colour, expected) in [
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            assert_eq!(planes_of(colour, BT709), expected, "{colour:?}");
        }
    }

    #[test]
    fn every_colour_comes_back_within_the_rounding() {
        for step in 0..512_u32 {
            let colour = [step % 8 * 36, step / 8 % 8 * 36, step / 64 * 36].map(|value| value as u8);
            let [luma, blue, red] = planes_of(colour, BT601).map(f32::from);
            let back = BT601.to_rgb((luma - 16.0) / 219.0, [blue, red].map(|value| (value - 128.0) / 224.0));
            assert!(back.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 2), "{colour:?} came back as {back:?}");
        }
    }

    #[test]
    fn chroma_stands_at_the_left_pixel_between_two_rows() {
        // One red pixel among black ones: its neighbour's chroma has a quarter of the weight of the pixel's own column.
        let with_red = |at: usize| {
            let mut picture = Picture::new(4, 2, 3, vec![0; 24]).unwrap();
            picture.pixels[at * 3] = 255;
            let planes = Planes::new(&picture, BT601);
            [planes.chroma[1][0], planes.chroma[1][1]].map(|value| value - 128)
        };
        assert_eq!([with_red(2), with_red(6)], [[0, 28]; 2]);
        assert_eq!([with_red(1), with_red(3)], [[14, 14], [0, 14]]);
    }
}
