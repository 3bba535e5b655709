//! Fits the colours of one frame to the palette of a GIF.
//!
//! A network of colours learns the frame's (A. Dekker, 1994, Kohonen neural networks for optimal colour quantization, Network:
//! Computation in Neural Systems 5), then each is moved to the mean of the pixels nearest to it (S. Lloyd, 1982, Least squares
//! quantization in PCM, IEEE Transactions on Information Theory 28). Distances are of sRGB values as they are stored.
//!
//! A frame of few colours keeps them exactly.

use std::collections::HashMap;

use color_quant::NeuQuant;

use super::picture::Picture;

/// Entries of a palette, the transparent one included.
const LARGEST_PALETTE: usize = 256;
/// Opacity from which a pixel is drawn: the edge lies where a smooth one was half through.
const FAINTEST: u8 = 128;
/// Pixels that a palette is fitted to; those of a larger frame are drawn evenly from it.
const FITTED_PIXELS: usize = 1 << 14;
/// Further rounds gain less than half a decibel.
const LLOYD_ROUNDS: usize = 3;

type Colour = [u8; 3];

/// A frame as indices into its palette.
pub(super) struct Indexed {
    /// Red, green and blue of each entry.
    pub(super) palette: Vec<u8>,
    /// One of each pixel, row by row.
    pub(super) indices: Vec<u8>,
    /// The entry that is not drawn, where a pixel needs one.
    pub(super) transparent: Option<u8>,
}

/// Fits a palette to `picture`.
///
/// A pixel of less than half opacity is not drawn at all, and any other is opaque in its own colour: laid on white, the edges would
/// shine on a dark page.
pub(super) fn index(picture: &Picture) -> Indexed {
    let pixels: Vec<Option<Colour>> = picture.pixels.chunks_exact(picture.channels).map(colour).collect();
    let drawn: Vec<Colour> = pixels.iter().flatten().copied().collect();
    let has_holes = drawn.len() < pixels.len();
    let most = LARGEST_PALETTE - usize::from(has_holes);

    let mut colours = drawn.clone();
    colours.sort_unstable();
    colours.dedup();
    if colours.len() > most {
        colours = fit(&drawn, most);
    }
    // At most 256 entries, so that each index is a byte.
    let transparent = has_holes.then_some(colours.len() as u8);
    let mut known = HashMap::new();
    let indices = pixels
        .into_iter()
        .map(|pixel| match pixel {
            Some(colour) => *known.entry(colour).or_insert_with(|| nearest(&colours, colour) as u8),
            None => transparent.unwrap_or_default(),
        })
        .collect();
    let mut palette = colours.concat();
    if has_holes {
        palette.extend([0; 3]);
    }
    Indexed { palette, indices, transparent }
}

/// The colour of a pixel that is drawn.
fn colour(pixel: &[u8]) -> Option<Colour> {
    match *pixel {
        [red, green, blue] => Some([red, green, blue]),
        [red, green, blue, opacity] => (opacity >= FAINTEST).then_some([red, green, blue]),
        _ => None,
    }
}

/// Finds `count` colours that stand for those of `pixels`, of which there are more.
fn fit(pixels: &[Colour], count: usize) -> Vec<Colour> {
    // Odd, so that rows of even length give more than a few of their columns.
    let stride = pixels.len().div_ceil(FITTED_PIXELS) | 1;
    let sample: Vec<Colour> = pixels.iter().step_by(stride).copied().collect();
    let opaque: Vec<u8> = sample.iter().flat_map(|[red, green, blue]| [*red, *green, *blue, 255]).collect();
    let learnt = NeuQuant::new(1, count, &opaque).color_map_rgb();
    let mut colours: Vec<Colour> = learnt.chunks_exact(3).filter_map(colour).collect();
    for _ in 0..LLOYD_ROUNDS {
        let mut sums = vec![([0_u32; 3], 0_u32); colours.len()];
        for pixel in &sample {
            if let Some((sum, members)) = sums.get_mut(nearest(&colours, *pixel)) {
                sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                *members += 1;
            }
        }
        for (colour, (sum, members)) in colours.iter_mut().zip(sums).filter(|(_, (_, members))| *members > 0) {
            // A mean of bytes is a byte.
            *colour = sum.map(|sum| ((sum + members / 2) / members) as u8);
        }
    }
    colours
}

/// The index of the colour that is nearest to `wanted`; of equals the first.
fn nearest(colours: &[Colour], wanted: Colour) -> usize {
    let distance = |colour: &Colour| -> u32 {
        colour.iter().zip(wanted).map(|(a, b)| u32::from(a.abs_diff(b))).map(|difference| difference * difference).sum()
    };
    colours.iter().enumerate().min_by_key(|(_, colour)| distance(colour)).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean square error of what a viewer shows of the drawn pixels.
    fn error(picture: &Picture, indexed: &Indexed) -> f64 {
        let mut sum = 0.0;
        let mut drawn = 0.0;
        for (pixel, index) in picture.pixels.chunks_exact(picture.channels).zip(&indexed.indices) {
            if Some(*index) == indexed.transparent {
                assert!(pixel[3] < FAINTEST);
                continue;
            }
            let shown = &indexed.palette[usize::from(*index) * 3..][..3];
            sum += pixel.iter().zip(shown).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum::<f64>();
            drawn += 3.0;
        }
        sum / drawn
    }

    #[test]
    fn few_colours_are_kept_exactly() {
        for (channels, most) in [(3, 256), (4, 255)] {
            let pixels = (0..most)
                .flat_map(|value| [value as u8, 7, 255 - value as u8, 255])
                .chain([9, 9, 9, 127])
                .collect::<Vec<u8>>()
                .chunks(4)
                .take(if channels == 3 { most } else { most + 1 })
                .flat_map(|pixel| pixel[..channels].to_vec())
                .collect::<Vec<u8>>();
            let count = pixels.len() / channels;
            let picture = Picture::new(count as u32, 1, channels, pixels).unwrap();
            let indexed = index(&picture);
            assert_eq!(error(&picture, &indexed), 0.0);
            assert_eq!((indexed.palette.len(), indexed.transparent), (768, (channels == 4).then_some(255)));
        }
    }

    #[test]
    fn many_colours_are_met_closely() {
        // A smooth field of 4096 colours: a grid of 16 × 16, the best there is, has an error of 13.8.
        let pixels = (0..64 * 64).flat_map(|place| [place % 64 * 4, place / 64 * 4, 128].map(|value| value as u8)).collect();
        let picture = Picture::new(64, 64, 3, pixels).unwrap();
        let indexed = index(&picture);
        let error = error(&picture, &indexed);
        assert!(error < 18.0, "mean square error {error}");
        assert_eq!(indexed.transparent, None);
    }

    #[test]
    fn a_large_frame_is_fitted_to_a_part_of_its_pixels() {
        let pixels = (0..512 * 512_u32)
            .flat_map(|place| [place % 512 / 2, place / 512 / 2, place % 512 / 4 + place / 512 / 4].map(|value| value as u8))
            .collect();
        let picture = Picture::new(512, 512, 3, pixels).unwrap();
        let error = error(&picture, &index(&picture));
        assert!(error < 30.0, "mean square error {error}");
    }

    #[test]
    fn nothing_drawn_is_a_palette_of_the_transparent_entry() {
        let indexed = index(&Picture::new(2, 1, 4, vec![200; 8].into_iter().map(|value| value / 2).collect()).unwrap());
        assert_eq!((indexed.palette, indexed.indices, indexed.transparent), (vec![0; 3], vec![0, 0], Some(0)));
    }
}
