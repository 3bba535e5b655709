//! How large a picture or a clip is: as asked, as its input is, or as the model's own.

use anyhow::Result;

use super::LONGEST_SIDE;
use crate::bundle::Bundle;
use crate::output::Picture;
use crate::refuse;

/// Width and height in pixels of what `bundle` makes.
///
/// * `asked`: what a person said
/// * `input`: what it begins with. It keeps its size where the model can take it, as in diffusers; one that a clip goes on from its shape
///   alone, at as many pixels as the model was trained for.
///
/// # Errors
/// Refusals: a side is none that the model can take.
pub fn size_of(bundle: &Bundle, asked: Option<(u32, u32)>, input: Option<&Picture>) -> Result<(u32, u32)> {
    let geometry = &bundle.geometry;
    let unit = geometry.side_unit;
    let goes_on = bundle.goes_on_from_picture();
    let of_input = input.filter(|_| geometry.fixed_size.is_none()).map(|input| {
        let fit = |side: u32| (side.min(LONGEST_SIDE) / unit * unit).max(unit);
        let (width, height) = if goes_on { of_area(input, bundle.default_size()) } else { (input.width, input.height) };
        (fit(width), fit(height))
    });
    let (width, height) = asked.or(of_input).unwrap_or(bundle.default_size());
    if let Some((fixed_width, fixed_height)) = geometry.fixed_size.filter(|fixed| *fixed != (width, height)) {
        refuse!("size: is {width}x{height}, and this export takes {fixed_width}x{fixed_height} only");
    }
    if let Some(largest) = geometry.largest_side.filter(|largest| width.max(height) > *largest) {
        refuse!("size: is {width}x{height}, and this model has places for sides up to {largest} only");
    }
    let side_ok = |side: u32| side > 0 && side <= LONGEST_SIDE && side.is_multiple_of(unit);
    if !side_ok(width) || !side_ok(height) {
        let near = |side: u32| ((side.min(LONGEST_SIDE) + unit / 2) / unit * unit).max(unit);
        refuse!(
            "size: is {width}x{height}, expected multiples of {unit} up to {LONGEST_SIDE}; the nearest is {}x{}",
            near(width),
            near(height)
        );
    }
    Ok((width, height))
}

/// Width and height of `input`'s shape and about as many pixels as `size` has, as the documentation of diffusers' pipeline brings a picture to it.
fn of_area(input: &Picture, size: (u32, u32)) -> (u32, u32) {
    let (wide, tall) = (f64::from(input.width.max(1)), f64::from(input.height.max(1)));
    let area = f64::from(size.0) * f64::from(size.1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    let side = |share: f64| (area * share).sqrt().round() as u32;
    (side(wide / tall), side(tall / wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_keeps_its_shape_at_the_size_of_the_model() {
        let of =
            |width, height| of_area(&Picture::new(width, height, 3, vec![0; (3 * width * height) as usize]).unwrap(), (832, 480));
        assert_eq!(of(832, 480), (832, 480));
        assert_eq!(of(100, 100), (632, 632));
        assert_eq!(of(48, 96), (447, 894));
    }
}
