//! How far two samples of feature vectors lie apart: sliced Wasserstein distance, kernel distance, precision and recall.
//!
//! * N. Bonneel, J. Rabin, G. Peyré, H. Pfister, 2015, "Sliced and Radon Wasserstein Barycenters of Measures",
//!   Journal of Mathematical Imaging and Vision 51.
//! * M. Bińkowski, D. J. Sutherland, M. Arbel, A. Gretton, 2018, "Demystifying MMD GANs", arXiv:1801.01401, section 4.
//! * T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila, 2019, "Improved Precision and Recall Metric for Assessing
//!   Generative Models", arXiv:1904.06991, equations 1 and 2.
//!
//! A sample is a matrix `[N, F]` f32: N vectors of F features. Sums are made in f64. The order of the vectors does not matter. Nothing is
//! drawn here: the directions of the sliced distance are an argument.

use anyhow::{Result, ensure};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

/// Which neighbour's distance is the radius of a ball; the paper's own choice.
pub const NEIGHBOUR: usize = 3;

/// Precision and recall of one sample against another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecall {
    /// Share of the made vectors that lie among the real ones, 0 to 1.
    pub precision: f64,
    /// Share of the real vectors that lie among the made ones, 0 to 1.
    pub recall: f64,
}

/// A kernel distance and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelDistance {
    /// The estimate.
    pub value: f64,
    /// Its standard error from the choice of the made vectors, by the jackknife; the real ones are taken as given.
    pub error: f64,
}

/// Gives the sliced 2-Wasserstein distance: the root of the mean, over directions, of the squared distance of the samples' projections.
///
/// On a line the optimal transport joins equal quantiles, so the squared distance is ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du, here exact for samples of
/// different sizes too.
///
/// * `left`, `right`: `[N, F]` and `[M, F]` f32
/// * `directions`: `[P, F]` f32 of any lengths but 0, such as normal draws; more directions, less variance
///
/// # Errors
/// A matrix is empty, widths differ, a value is not finite, or a direction is 0.
pub fn sliced_wasserstein(left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>, directions: ArrayView2<'_, f32>) -> Result<f64> {
    check(left, right, 1)?;
    ensure!(
        directions.ncols() == left.ncols() && directions.nrows() > 0,
        "directions are {:?}, expected at least one of {} features",
        directions.dim(),
        left.ncols()
    );
    let (left, right) = (left.mapv(f64::from), right.mapv(f64::from));
    let mut sum = 0.0;
    for direction in directions.rows() {
        let direction = direction.mapv(f64::from);
        let length = direction.dot(&direction).sqrt();
        ensure!(length.is_finite() && length > 0.0, "a direction has the length {length}, expected a finite one above 0");
        let along = |sample: &Array2<f64>| {
            let mut along: Vec<f64> = (sample.dot(&direction) / length).to_vec();
            along.sort_by(f64::total_cmp);
            along
        };
        sum += squared_on_a_line(&along(&left), &along(&right));
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of directions")]
    let mean = sum / directions.nrows() as f64;
    Ok(mean.sqrt())
}

/// ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du of two sorted samples, whose quantile functions are steps.
#[expect(clippy::cast_precision_loss, reason = "counts of vectors are far below 2^52")]
fn squared_on_a_line(left: &[f64], right: &[f64]) -> f64 {
    let (rows, columns) = (left.len(), right.len());
    let (mut row, mut column, mut done, mut sum) = (0, 0, 0_u64, 0.0);
    // In units of 1 / (rows * columns) each step ends at a whole number.
    let whole = rows as u64 * columns as u64;
    while let (Some(a), Some(b)) = (left.get(row), right.get(column)) {
        let (row_end, column_end) = ((row as u64 + 1) * columns as u64, (column as u64 + 1) * rows as u64);
        let end = row_end.min(column_end);
        sum += (end - done) as f64 * (a - b).powi(2);
        done = end;
        row += usize::from(row_end == end);
        column += usize::from(column_end == end);
    }
    sum / whole as f64
}

/// Gives the kernel distance: the unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y/F + 1)³.
///
/// Equation 4 of the paper: the mean of the kernel over pairs within each sample, less twice that over pairs across. Being unbiased, it is
/// around 0 for two samples of one distribution and may fall below.
///
/// * `real`, `made`: `[N, F]` and `[M, F]` f32
///
/// # Errors
/// `real` has fewer than 2 vectors or `made` fewer than 3, widths differ or are 0, or a value is not finite.
#[expect(clippy::cast_precision_loss, reason = "counts of vectors and features")]
pub fn kernel_distance(real: ArrayView2<'_, f32>, made: ArrayView2<'_, f32>) -> Result<KernelDistance> {
    check(real, made, 2)?;
    ensure!(made.nrows() >= 3, "a sample has {} vectors, expected at least 3: without one, 2 must be left", made.nrows());
    let (real, made) = (real.mapv(f64::from), made.mapv(f64::from));
    let features = real.ncols() as f64;
    let kernel =
        |one: &Array2<f64>, other: &Array2<f64>| one.dot(&other.t()).mapv_into(|product| (product / features + 1.0).powi(3));
    // Sums over the pairs that each vector is in, itself left out.
    let pairs_of_each = |values: &Array2<f64>| &values.sum_axis(Axis(1)) - &values.diag();
    let (n, m) = (real.nrows() as f64, made.nrows() as f64);
    let within_real = pairs_of_each(&kernel(&real, &real)).sum() / (n * (n - 1.0));
    let of_made = pairs_of_each(&kernel(&made, &made));
    let across = kernel(&made, &real).sum_axis(Axis(1));
    let estimate =
        |pairs: f64, crossed: f64, count: f64| within_real + pairs / (count * (count - 1.0)) - 2.0 * crossed / (n * count);
    let (all_pairs, all_crossed) = (of_made.sum(), across.sum());
    let without_one: Vec<f64> = of_made
        .iter()
        .zip(&across)
        .map(|(pairs, crossed)| estimate(all_pairs - 2.0 * pairs, all_crossed - crossed, m - 1.0))
        .collect();
    let mean = without_one.iter().sum::<f64>() / m;
    let scatter = without_one.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    Ok(KernelDistance { value: estimate(all_pairs, all_crossed, m), error: (scatter * (m - 1.0) / m).sqrt() })
}

/// Gives precision and recall by manifolds of nearest neighbours.
///
/// A sample's manifold is the union of balls around its vectors, each reaching to the `neighbour`-th nearest other vector of that sample.
///
/// * `real`, `made`: `[N, F]` and `[M, F]` f32
/// * `neighbour`: from 1; [`NEIGHBOUR`] is the paper's
///
/// # Errors
/// A sample has not more than `neighbour` vectors, `neighbour` is 0, widths differ or are 0, or a value is not finite.
pub fn precision_recall(real: ArrayView2<'_, f32>, made: ArrayView2<'_, f32>, neighbour: usize) -> Result<PrecisionRecall> {
    ensure!(neighbour > 0, "the neighbour is number 0, expected 1 or more");
    check(real, made, neighbour + 1)?;
    let (real, made) = (real.mapv(f64::from), made.mapv(f64::from));
    let across = squared_distances(&real, &made);
    let real_radii = radii(&real, neighbour);
    let made_radii = radii(&made, neighbour);
    let share = |inside: usize, of: usize| {
        #[expect(clippy::cast_precision_loss, reason = "counts of vectors")]
        let share = inside as f64 / of as f64;
        share
    };
    let lies_within = |distances: ndarray::ArrayView1<'_, f64>, radii: &Array1<f64>| {
        distances.iter().zip(radii).any(|(distance, radius)| distance <= radius)
    };
    let precise = across.axis_iter(Axis(1)).filter(|to_real| lies_within(to_real.view(), &real_radii)).count();
    let recalled = across.axis_iter(Axis(0)).filter(|to_made| lies_within(to_made.view(), &made_radii)).count();
    Ok(PrecisionRecall { precision: share(precise, made.nrows()), recall: share(recalled, real.nrows()) })
}

/// `[N, M]` squared distances, by differences: the shortcut by products would lose equal vectors among rounding errors.
fn squared_distances(left: &Array2<f64>, right: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((left.nrows(), right.nrows()), |(row, column)| {
        Zip::from(left.row(row)).and(right.row(column)).fold(0.0, |sum, a, b| sum + (a - b) * (a - b))
    })
}

/// Squared distance of each vector to its `neighbour`-th nearest other vector.
fn radii(sample: &Array2<f64>, neighbour: usize) -> Array1<f64> {
    squared_distances(sample, sample)
        .rows()
        .into_iter()
        .enumerate()
        .map(|(row, distances)| {
            let mut others: Vec<f64> = distances.iter().enumerate().filter(|(other, _)| *other != row).map(|(_, d)| *d).collect();
            others.sort_by(f64::total_cmp);
            others.get(neighbour - 1).copied().unwrap_or(f64::INFINITY)
        })
        .collect()
}

fn check(left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>, fewest: usize) -> Result<()> {
    ensure!(
        left.ncols() == right.ncols() && left.ncols() > 0,
        "samples have {} and {} features, expected the same number and at least 1",
        left.ncols(),
        right.ncols()
    );
    for sample in [left, right] {
        ensure!(sample.nrows() >= fewest, "a sample has {} vectors, expected at least {fewest}", sample.nrows());
        if let Some((place, value)) = sample.indexed_iter().find(|(_, value)| !value.is_finite()) {
            anyhow::bail!("a sample holds {value} at {place:?}, expected finite features");
        }
    }
    Ok(())
}
