//! Draws a comparison as a picture: a row for each model with its name, figures and samples.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::comparison::{Comparison, Quality, Row, milliseconds, number};
use super::svg::escaped;
use crate::output::{Format, Picture, encode};

const MARGIN: f32 = 32.0;
const HEAD: f32 = 104.0;
/// Width of the names and figures.
const WORDS: f32 = 330.0;
const TILE: f32 = 64.0;
const GAP: f32 = 6.0;
const ROW: f32 = TILE + 18.0;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans',Arial,sans-serif}
.ground{fill:#fbfaf7}.rule{stroke:#e4e1d9}.tile{fill:#fff;stroke:#e4e1d9}.title{fill:#1d2126}.note{fill:#6a7078}.figure{fill:#1d2126}
.good{fill:#0d8b8b}
@media (prefers-color-scheme:dark){.ground{fill:#14171b}.rule{stroke:#2a3037}.tile{fill:#fff;stroke:#2a3037}.title{fill:#eef0f2}
.note{fill:#9aa3ad}.figure{fill:#dfe3e7}.good{fill:#3fc1bd}}
";

/// Draws `comparison`.
///
/// * `captions`: what each column shows; may be empty
/// * `real`: a few real pictures
/// * `samples`: pictures of each row, in the comparison's order; those of one column have one seed
///
/// # Errors
/// A picture cannot be encoded.
pub fn draw_contact_sheet(
    comparison: &Comparison,
    captions: &[String],
    real: &[Picture],
    samples: &[Vec<Picture>],
) -> Result<String> {
    let columns = samples.iter().map(Vec::len).chain([real.len()]).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a handful of tiles")]
    let width = 2.0 * MARGIN + WORDS + columns as f32 * (TILE + GAP);
    let rows = comparison.rows.len() + usize::from(!real.is_empty());
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let height = 2.0 * MARGIN + HEAD + rows as f32 * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"heading\">\n<title id=\"heading\">Branches of the family tree, compared</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\" font-size=\"26\" font-weight=\"700\">One data set, every branch</text>\
         <text class=\"note\" x=\"{MARGIN}\" y=\"{}\" font-size=\"14\">{}</text>\
         <text class=\"note\" x=\"{MARGIN}\" y=\"{}\" font-size=\"14\">{}</text>",
        MARGIN + 22.0,
        MARGIN + 46.0,
        escaped(&format!(
            "Seeds from {} in each row, none chosen by hand. ms: one picture made alone. kernel: distance to {} held-out stickers in the",
            comparison.seed, comparison.real_count
        )),
        MARGIN + 64.0,
        escaped(&format!(
            "judge's features, thousandths, of {} pictures; less is nearer. precision, recall: made among real, real among made.",
            comparison.count
        ))
    );
    let mut top = MARGIN + HEAD;
    for (number, caption) in captions.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of columns")]
        let x = MARGIN + WORDS + number as f32 * (TILE + GAP) + TILE / 2.0;
        let _ = writeln!(
            svg,
            "<text class=\"note\" x=\"{x}\" y=\"{}\" font-size=\"12\" text-anchor=\"middle\">{}</text>",
            top - 15.0,
            escaped(caption)
        );
    }
    if !real.is_empty() {
        let figures = comparison.real.as_ref().map(quality_text).unwrap_or_default();
        line(&mut svg, top, width, ("real stickers", "held out"), ["training stickers against held-out ones:", &figures], real)?;
        top += ROW;
    }
    for (row, samples) in comparison.rows.iter().zip(samples) {
        let figures = row.quality.as_ref().map(quality_text).unwrap_or_default();
        line(&mut svg, top, width, (&row.name, &row.title), [&cost_text(row), &figures], samples)?;
        top += ROW;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn cost_text(row: &Row) -> String {
    let calls = format!("{} {}", number(row.calls), if row.calls == 1.0 { "call" } else { "calls" });
    let memory = row.peak_memory_bytes.map(|bytes| format!(", {} MB", bytes / 1_000_000)).unwrap_or_default();
    let mark = match row.likelihood.as_deref() {
        Some("lower bound") => "≤ ",
        Some("estimate") => "≈ ",
        _ => "",
    };
    let bits = row.bits_per_dimension.map(|bits| format!(", {mark}{bits:.2} bits")).unwrap_or_default();
    format!("{} ms, {calls}{memory}{bits}", milliseconds(row.picture_ms))
}

fn quality_text(quality: &Quality) -> String {
    format!(
        "kernel {:.0} ± {:.0}, precision {:.2}, recall {:.2}",
        quality.kernel_distance * 1000.0,
        quality.kernel_distance_error * 1000.0,
        quality.precision,
        quality.recall
    )
}

fn line(
    svg: &mut String,
    top: f32,
    width: f32,
    (name, title): (&str, &str),
    figures: [&str; 2],
    tiles: &[Picture],
) -> Result<()> {
    let _ = writeln!(svg, "<path class=\"rule\" d=\"M{MARGIN} {}H{}\"/>", top - 9.0, width - MARGIN);
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{}\"><tspan class=\"title\" font-size=\"16\" font-weight=\"600\">{}</tspan>\
         <tspan class=\"note\" font-size=\"12.5\" dx=\"9\">{}</tspan></text>",
        top + 18.0,
        escaped(name),
        escaped(title)
    );
    for (number, figure) in figures.iter().filter(|figure| !figure.is_empty()).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "two lines")]
        let y = top + 38.0 + number as f32 * 18.0;
        let _ = writeln!(svg, "<text class=\"figure\" x=\"{MARGIN}\" y=\"{y}\" font-size=\"13\">{}</text>", escaped(figure));
    }
    for (number, tile) in tiles.iter().enumerate() {
        let bytes = encode(&tile.on_white(), None, Format::Png).with_context(|| format!("sample of {name}"))?;
        #[expect(clippy::cast_precision_loss, reason = "a handful of tiles")]
        let x = MARGIN + WORDS + number as f32 * (TILE + GAP);
        let _ = writeln!(
            svg,
            "<rect class=\"tile\" x=\"{x}\" y=\"{top}\" width=\"{TILE}\" height=\"{TILE}\" rx=\"4\"/>\
             <image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" href=\"data:image/png;base64,{}\"/>",
            x + 1.0,
            top + 1.0,
            TILE - 2.0,
            TILE - 2.0,
            STANDARD.encode(bytes)
        );
    }
    Ok(())
}
