//! What a comparison of models found: a table for the terminal, and which model to take for a given time.

use std::fmt::Write as _;

use anyhow::Result;
use ndarray::{Array2, ArrayView2};
use serde::Serialize;

use super::distances::{NEIGHBOUR, PrecisionRecall, kernel_distance, precision_recall, sliced_wasserstein};
use super::terminal::TerminalStyle;

/// Kernel distances are told in thousandths.
const THOUSAND: f64 = 1000.0;

/// How far made pictures lie from the real ones, in the features of the judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Sliced 2-Wasserstein distance.
    pub sliced_wasserstein: f64,
    /// Kernel distance.
    pub kernel_distance: f64,
    /// Standard error of the kernel distance.
    pub kernel_distance_error: f64,
    /// Share of made pictures that lie among the real ones.
    pub precision: f64,
    /// Share of real pictures that lie among the made ones.
    pub recall: f64,
}

impl Quality {
    /// Measures `made` against `real`, both `[N, F]` f32 features of length 1, along `directions` `[P, F]`.
    ///
    /// Features are scaled to a mean square of 1 first, so that the kernel is (cos + 1)³ and distances do not shrink with F.
    ///
    /// # Errors
    /// As [`sliced_wasserstein`], [`kernel_distance`] and [`precision_recall`].
    pub fn measure(real: ArrayView2<'_, f32>, made: ArrayView2<'_, f32>, directions: ArrayView2<'_, f32>) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a count of features")]
        let scale = (real.ncols() as f64).sqrt() as f32;
        let scaled = |features: ArrayView2<'_, f32>| -> Array2<f32> { features.mapv(|value| value * scale) };
        let (real, made) = (scaled(real), scaled(made));
        let kernel = kernel_distance(real.view(), made.view())?;
        let PrecisionRecall { precision, recall } = precision_recall(real.view(), made.view(), NEIGHBOUR)?;
        Ok(Self {
            sliced_wasserstein: sliced_wasserstein(real.view(), made.view(), directions)?,
            kernel_distance: kernel.value,
            kernel_distance_error: kernel.error,
            precision,
            recall,
        })
    }
}

/// One way of making pictures, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is called in the table: the bundle, and how it is run.
    pub name: String,
    /// The algorithm that it shows.
    pub algorithm: String,
    /// The algorithm's title.
    pub title: String,
    /// What `kiln generate` takes for it.
    pub options: String,
    /// Calls of networks for a picture; a guided one, of a batch of two, is one.
    pub calls: f64,
    /// Steps of the sampler or solver for a picture, each of one call or of several; 0 where there are none.
    pub steps: usize,
    /// The median time of one picture, made alone, in milliseconds.
    pub picture_ms: f64,
    /// Size of the model's files.
    pub model_bytes: u64,
    /// The most memory that a process of its own held which opened this model and made pictures; where it was measured.
    pub peak_memory_bytes: Option<u64>,
    /// How far its pictures lie from the real ones; where there is a judge.
    pub quality: Option<Quality>,
    /// Mean bits per dimension of held-out pictures; where the family has a likelihood.
    pub bits_per_dimension: Option<f64>,
    /// What that figure is worth: `exact`, `lower bound` (of the likelihood) or `estimate`.
    pub likelihood: Option<String>,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Seed of the first picture of each row.
    pub seed: u64,
    /// Pictures of each row.
    pub count: usize,
    /// Real pictures against real ones: as many training ones as each row has pictures, against those held out. No model can be expected
    /// below it.
    pub real: Option<Quality>,
    /// Held-out pictures that everything is measured against.
    pub real_count: usize,
    /// The rows.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub left_out: Vec<(String, String)>,
}

/// What to take for a given time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The row's name; `None` when nothing was measured.
    pub name: String,
    /// What `kiln generate` takes for it.
    pub options: String,
    /// Whether it keeps to the time.
    pub fits: bool,
    /// Why, sentence by sentence.
    pub because: Vec<String>,
}

impl Comparison {
    /// The table, for a terminal.
    #[must_use]
    pub fn table(&self, style: TerminalStyle) -> String {
        let names = self.rows.iter().map(|row| row.name.chars().count()).chain([13]).max().unwrap_or(13);
        let (plus_minus, at_most, about) = if style.unicode { ("±", "≤", "≈") } else { ("+-", "<", "~") };
        let mut text = format!(
            "{:<names$} {:>6} {:>5} {:>8} {:>6} {:>12} {:>6} {:>5} {:>5} {:>6}\n",
            "", "calls", "steps", "ms", "MB", "kernel", "sliced", "prec.", "rec.", "bits"
        );
        let distances = |quality: Option<&Quality>, with_error: bool| match quality {
            None => format!("{:>12} {:>6} {:>5} {:>5}", "-", "-", "-", "-"),
            Some(quality) => {
                let error = format!("{plus_minus}{:.0}", quality.kernel_distance_error * THOUSAND);
                let error = if with_error { error } else { String::new() };
                let kernel = format!("{:.0} {error:<4}", quality.kernel_distance * THOUSAND);
                format!("{kernel:>12} {:>6.3} {:>5.2} {:>5.2}", quality.sliced_wasserstein, quality.precision, quality.recall)
            }
        };
        if self.real.is_some() {
            let _ = writeln!(
                text,
                "{:<names$} {:>6} {:>5} {:>8} {:>6} {} {:>6}",
                "real stickers",
                "-",
                "-",
                "-",
                "-",
                distances(self.real.as_ref(), true),
                "-"
            );
        }
        for row in &self.rows {
            let bits = row.bits_per_dimension.map_or_else(
                || "-".to_owned(),
                |bits| {
                    let mark = match row.likelihood.as_deref() {
                        Some("lower bound") => at_most,
                        Some("estimate") => about,
                        _ => "",
                    };
                    format!("{mark}{bits:.2}")
                },
            );
            let _ = writeln!(
                text,
                "{:<names$} {:>6} {:>5} {:>8} {:>6} {} {bits:>6}",
                row.name,
                number(row.calls),
                if row.steps == 0 { "-".to_owned() } else { row.steps.to_string() },
                milliseconds(row.picture_ms),
                row.peak_memory_bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes / 1_000_000).to_string()),
                distances(row.quality.as_ref(), true)
            );
        }
        let _ = write!(
            text,
            "\n{} pictures of each, seeds {} to {}. calls, steps, ms: of one picture made alone (median); a guided batch of two is\n\
             one call. MB: the peak of a process of its own, the bundle under its own sampler. kernel, sliced: distance of the\n\
             judge's features to those of {} held-out stickers, the kernel's in thousandths with its standard error; less is\n\
             nearer, and one without bias falls below 0 at times. prec., rec.: share of made among real, of real among made. bits:\n\
             per dimension of held-out stickers ({at_most} bound, {about} estimate). Each picture has the class of a held-out one; a\n\
             model that reads is given the class as its whole prompt, so it shows less than it knows.\n",
            self.count,
            self.seed,
            self.seed.wrapping_add(self.count.saturating_sub(1) as u64),
            self.real_count,
        );
        for (name, why) in &self.left_out {
            let _ = writeln!(text, "left out: {name}, {why}");
        }
        text
    }

    /// Which row to take when a picture may take `budget_ms`: the nearest to the real pictures of those that keep to the time, or, where
    /// none does, the quickest. `None` when no row was measured with the judge.
    #[must_use]
    pub fn choose(&self, budget_ms: f64) -> Option<Choice> {
        let measured: Vec<(&Row, &Quality)> = self.rows.iter().filter_map(|row| Some((row, row.quality.as_ref()?))).collect();
        let (mut fit, mut slow): (Vec<_>, Vec<_>) = measured.into_iter().partition(|(row, _)| row.picture_ms <= budget_ms);
        fit.sort_by(|(_, left), (_, right)| left.kernel_distance.total_cmp(&right.kernel_distance));
        slow.sort_by(|(left, _), (right, _)| left.picture_ms.total_cmp(&right.picture_ms));
        let told = |row: &Row, quality: &Quality| {
            format!(
                "{}: {} ms a picture, kernel distance {:.0} (standard error {:.0})",
                row.name,
                milliseconds(row.picture_ms),
                quality.kernel_distance * THOUSAND,
                quality.kernel_distance_error * THOUSAND
            )
        };
        let list = |rows: &[(&Row, &Quality)]| {
            rows.iter()
                .map(|(row, _)| format!("{} ({} ms)", row.name, milliseconds(row.picture_ms)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let budget = milliseconds(budget_ms);
        let mut because = Vec::new();
        let Some((best, quality)) = fit.first().copied() else {
            let (quickest, quality) = slow.first().copied()?;
            because.push(format!("No branch keeps to {budget} ms here; the quickest is {}.", told(quickest, quality)));
            if slow.len() > 1 {
                because.push(format!("The others are slower: {}.", list(slow.get(1..).unwrap_or_default())));
            }
            return Some(Choice { name: quickest.name.clone(), options: quickest.options.clone(), fits: false, because });
        };
        because.push(format!(
            "{}; of the {} that keep to {budget} ms it is nearest to the real pictures.",
            told(best, quality),
            fit.len()
        ));
        // What the error does not tell apart is as good a choice where it is quicker.
        let near: Vec<_> = fit
            .iter()
            .skip(1)
            .filter(|(row, other)| {
                let error = quality.kernel_distance_error.hypot(other.kernel_distance_error);
                other.kernel_distance - quality.kernel_distance <= error && row.picture_ms < best.picture_ms
            })
            .copied()
            .collect();
        if !near.is_empty() {
            because.push(format!("Within the error of that lie, and are quicker: {}.", list(&near)));
        }
        if let Some((row, other)) = fit.get(1).copied().filter(|_| near.is_empty()) {
            because.push(format!("Next comes {}.", told(row, other)));
        }
        if !slow.is_empty() {
            because.push(format!("Too slow: {}.", list(&slow)));
        }
        if let Some((row, other)) =
            slow.iter().find(|(_, other)| other.kernel_distance + other.kernel_distance_error < quality.kernel_distance)
        {
            because.push(format!("With more time {} comes nearer: {:.0}.", row.name, other.kernel_distance * THOUSAND));
        }
        Some(Choice { name: best.name.clone(), options: best.options.clone(), fits: true, because })
    }
}

/// A count, whole where it is whole.
pub(super) fn number(value: f64) -> String {
    if (value - value.round()).abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A time with as many digits as it is worth.
pub(super) fn milliseconds(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1}")
    } else if value < 100_000.0 {
        format!("{value:.0}")
    } else {
        format!("{:.0}k", value / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn row(name: &str, picture_ms: f64, kernel_distance: f64) -> Row {
        let quality =
            Quality { sliced_wasserstein: 0.5, kernel_distance, kernel_distance_error: 0.002, precision: 0.9, recall: 0.5 };
        Row {
            name: name.to_owned(),
            algorithm: name.to_owned(),
            title: name.to_owned(),
            options: format!("--model {name}"),
            calls: 2.5,
            steps: 2,
            picture_ms,
            model_bytes: 1,
            peak_memory_bytes: Some(50_000_000),
            quality: Some(quality),
            bits_per_dimension: Some(3.5),
            likelihood: Some("lower bound".to_owned()),
        }
    }

    fn comparison(rows: Vec<Row>) -> Comparison {
        Comparison {
            seed: 3,
            count: 8,
            real: rows.first().and_then(|row| row.quality),
            real_count: 9,
            rows,
            left_out: Vec::new(),
        }
    }

    #[test]
    fn the_nearest_that_keeps_to_the_time_is_chosen_and_the_quickest_where_none_does() {
        let rows = || vec![row("gan", 2.0, 0.05), row("few", 40.0, 0.030), row("ddim", 250.0, 0.029), row("ddpm", 9000.0, 0.01)];
        let choose = |budget: f64| comparison(rows()).choose(budget).unwrap();
        let choice = choose(300.0);
        assert_eq!((choice.name.as_str(), choice.fits, choice.options.as_str()), ("ddim", true, "--model ddim"));
        let why = choice.because.join(" ");
        for part in
            ["of the 3 that keep to 300 ms", "are quicker: few (40 ms)", "Too slow: ddpm (9000 ms)", "ddpm comes nearer: 10"]
        {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert_eq!((choose(100.0).name.as_str(), choose(2.0).name.as_str()), ("few", "gan"));
        assert!(choose(100.0).because.join(" ").contains("Next comes gan: 2.0 ms"));
        let choice = choose(1.0);
        assert_eq!((choice.name.as_str(), choice.fits), ("gan", false));
        assert!(choice.because[0].contains("No branch keeps to 1.0 ms here"));
        let mut unmeasured = row("a", 1.0, 0.0);
        unmeasured.quality = None;
        assert_eq!(comparison(vec![unmeasured]).choose(10.0), None);
    }

    #[test]
    fn the_table_fits_a_terminal_and_holds_every_row() {
        let mut bare = row("progressive 8", 123_456.0, 0.5);
        bare.quality = None;
        bare.bits_per_dimension = None;
        bare.peak_memory_bytes = None;
        bare.steps = 0;
        let mut comparison = comparison(vec![row("cnf dopri5", 1.25, 0.0123), bare]);
        comparison.left_out.push(("ddpm 1000".to_owned(), "it is slow".to_owned()));
        for unicode in [true, false] {
            let text = comparison.table(TerminalStyle { width: 80, unicode, colour: false });
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().take(4) {
                assert_eq!(line.chars().count(), lines[0].chars().count(), "{text}");
                assert!(line.chars().count() <= 84, "{text}");
            }
            assert!(text.contains(if unicode { "≤3.50" } else { "<3.50" }) && text.contains("left out: ddpm 1000, it is slow"));
            assert!(text.contains("123k") && text.contains("seeds 3 to 10") && (unicode || text.is_ascii()));
        }
    }

    #[test]
    fn equal_samples_are_near_and_opposite_ones_far() {
        let features = |sign: f32| Array2::from_shape_fn((20, 4), |(row, column)| if row % 4 == column { sign } else { 0.0 });
        let directions = Array2::from_shape_fn((5, 4), |(row, column)| if row % 4 == column { 1.0 } else { 0.1 });
        let same = Quality::measure(features(1.0).view(), features(1.0).view(), directions.view()).unwrap();
        let far = Quality::measure(features(1.0).view(), features(-1.0).view(), directions.view()).unwrap();
        assert_eq!((same.sliced_wasserstein, same.precision, same.recall), (0.0, 1.0, 1.0));
        assert!(far.kernel_distance > 1.0 && far.sliced_wasserstein > 0.5 && far.precision == 0.0 && far.recall == 0.0);
    }
}
