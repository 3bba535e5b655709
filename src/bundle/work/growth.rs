//! Arithmetic of dimensions, and of numbers that grow with the points of the input.

/// A number that grows with the points of the input: its parts that do not, that do so linearly, and with their square.
pub(super) type Growth = [f64; 3];

pub(super) fn at([fixed, linear, square]: Growth, points: f64) -> f64 {
    fixed + linear * points + square * points * points
}

pub(super) fn number(dimensions: &[u64], index: usize) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "dimensions")]
    let number = *dimensions.get(index)? as f64;
    Some(number)
}

pub(super) fn product(dimensions: &[u64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "dimensions")]
    let product = dimensions.iter().map(|size| *size as f64).product();
    product
}

pub(super) fn scaled(growth: Growth, by: f64) -> Growth {
    growth.map(|part| part * by)
}

pub(super) fn sum(left: Growth, right: Growth) -> Growth {
    std::array::from_fn(|index| left[index] + right[index])
}

/// The product; what would grow with a higher power than the square is left out.
pub(super) fn times(left: Growth, right: Growth) -> Growth {
    [left[0] * right[0], left[0] * right[1] + left[1] * right[0], left[0] * right[2] + left[1] * right[1] + left[2] * right[0]]
}

/// The dimensions of a weight in the shape that its values are given: 0 keeps a side, -1 is what is left over.
pub(super) fn reshaped(dimensions: &[u64], shape: &[i64]) -> Vec<u64> {
    let all = dimensions.iter().fold(1_u64, |all, size| all.saturating_mul(*size));
    let side = |(index, size): (usize, &i64)| match *size {
        0 => dimensions.get(index).copied(),
        size => u64::try_from(size).ok(),
    };
    let sides: Vec<Option<u64>> = shape.iter().enumerate().map(side).collect();
    let known = sides.iter().flatten().fold(1_u64, |known, size| known.saturating_mul(*size));
    sides.into_iter().map(|size| size.unwrap_or(all / known.max(1)).max(1)).collect()
}
