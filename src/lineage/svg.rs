//! Draws the family tree as an SVG picture: years downwards, branches by colour, a sample of each model that is installed.
//!
//! Light or dark as the viewer prefers. The same tree and samples give the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::layout::{CARD_HEIGHT, CARD_WIDTH, Layout, Line, lay_out};
use super::tree::{Algorithm, Tree};
use crate::output::{Format, Picture, encode};

/// Space around the drawing.
const MARGIN: f32 = 36.0;
/// Left of the drawing, for the years.
const YEARS: f32 = 78.0;
/// Above the drawing, for title and legend.
const HEAD: f32 = 116.0;
/// Below the drawing.
const FOOT: f32 = 34.0;
const SAMPLE: f32 = 44.0;
const CORNER: f32 = 7.0;

/// Colours of branches on light and on dark ground, in the order of the file.
const COLOURS: [(&str, &str); 8] = [
    ("#64707d", "#95a2b0"),
    ("#2f6fd0", "#6ea2f2"),
    ("#d1443c", "#f0807a"),
    ("#0d8b8b", "#3fc1bd"),
    ("#8a4fc7", "#b98bee"),
    ("#c07a00", "#e6ac3e"),
    ("#2f8f3f", "#69c777"),
    ("#c23a86", "#ee82bd"),
];

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','Noto Sans',Arial,sans-serif}
.ground{fill:#fbfaf7}.card{fill:#fff}.plain{fill:#f4f3ef}.edge{stroke:#d9d6cd}.rule{stroke:#ebe8e0}.well{fill:#fff;stroke:#e3e0d8}
.title{fill:#1d2126}.name{fill:#1d2126}.note{fill:#6a7078}.year{fill:#8b8f95}
.line{fill:none;stroke-linecap:round;stroke-linejoin:round}
";
const DARK: &str = "\
.ground{fill:#14171b}.card{fill:#20252b}.plain{fill:#1a1e23}.edge{stroke:#363d45}.rule{stroke:#22272d}.well{fill:#fff;stroke:#363d45}
.title{fill:#eef0f2}.name{fill:#eef0f2}.note{fill:#9aa3ad}.year{fill:#78818b}
";

/// Draws `tree`.
///
/// * `samples`: a picture for each algorithm whose bundle is installed, by the algorithm's name; a picture of any size
///
/// # Errors
/// A sample cannot be encoded.
pub fn draw_svg(tree: &Tree, samples: &BTreeMap<String, Picture>) -> Result<String> {
    let layout = lay_out(tree);
    let width = layout.width + YEARS + 2.0 * MARGIN;
    let height = layout.height + HEAD + FOOT + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"heading\">\n<title id=\"heading\">The family tree of generative models</title>\n<style>\n{}</style>\n",
        styles()
    );
    let _ = writeln!(svg, "<rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>");
    head(&mut svg, tree, samples, width);
    let _ = writeln!(svg, "<g transform=\"translate({} {})\">", MARGIN + YEARS, MARGIN + HEAD);
    years(&mut svg, &layout);
    // The lines to first parents lie above the others.
    for first in [false, true] {
        for line in layout.lines.iter().filter(|line| line.first == first) {
            path(&mut svg, tree, line);
        }
    }
    for (algorithm, place) in tree.algorithms().iter().zip(&layout.cards) {
        card(&mut svg, tree, algorithm, *place, samples.get(&algorithm.name))?;
    }
    svg.push_str("</g>\n</svg>\n");
    Ok(svg)
}

fn styles() -> String {
    let mut style = STYLE.to_owned();
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".f{number}{{fill:{light}}}.s{number}{{stroke:{light}}}");
    }
    let _ = writeln!(style, "@media (prefers-color-scheme:dark){{\n{DARK}");
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".f{number}{{fill:{dark}}}.s{number}{{stroke:{dark}}}");
    }
    style.push_str("}\n");
    style
}

/// Title, what the colours mean, what the marks mean.
fn head(svg: &mut String, tree: &Tree, samples: &BTreeMap<String, Picture>, width: f32) {
    let (left, top) = (MARGIN, MARGIN);
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{left}\" y=\"{}\" font-size=\"30\" font-weight=\"700\">The family tree of generative models</text>",
        top + 26.0
    );
    let runs = |algorithm: &&Algorithm| !algorithm.runs.is_empty();
    let missing = tree.algorithms().iter().filter(runs).any(|algorithm| !samples.contains_key(&algorithm.name));
    let told = format!(
        "{} algorithms since {}; each stands below those that it grew from.{}{}",
        tree.algorithms().len(),
        tree.algorithms().first().map_or(0, |algorithm| algorithm.year),
        if samples.is_empty() { "" } else { " A picture is a sample of a model in the box." },
        if missing { " A ring marks a model that is not installed." } else { "" }
    );
    let _ = writeln!(svg, "<text class=\"note\" x=\"{left}\" y=\"{}\" font-size=\"15\">{}</text>", top + 50.0, escaped(&told));
    let step = (width - 2.0 * MARGIN) / tree.branches().len().max(1) as f32;
    let step = step.min(190.0);
    for (number, branch) in tree.branches().iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of branches")]
        let x = left + number as f32 * step;
        let colour = number % COLOURS.len();
        let y = top + 84.0;
        let _ = writeln!(
            svg,
            "<rect class=\"f{colour}\" x=\"{x}\" y=\"{}\" width=\"22\" height=\"6\" rx=\"3\"/>\
             <text class=\"name\" x=\"{}\" y=\"{y}\" font-size=\"14\">{}</text>",
            y - 8.0,
            x + 30.0,
            escaped(&branch.title)
        );
    }
}

fn years(svg: &mut String, layout: &Layout) {
    let mut before = 0;
    for row in &layout.rows {
        let y = row.top + CARD_HEIGHT / 2.0;
        let _ = writeln!(svg, "<path class=\"rule\" d=\"M-8 {y}H{}\"/>", layout.width);
        let label = match (row.first_year, row.last_year) {
            (first, last) if first == last && first == before => continue,
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}–{:02}", last % 100),
        };
        before = row.last_year;
        let _ = writeln!(
            svg,
            "<text class=\"year\" x=\"-16\" y=\"{}\" font-size=\"15\" font-weight=\"600\" text-anchor=\"end\">{label}</text>",
            y + 5.0
        );
    }
}

fn path(svg: &mut String, tree: &Tree, line: &Line) {
    let (Some(parent), Some(child)) = (tree.algorithms().get(line.parent), tree.algorithms().get(line.child)) else { return };
    let colour = colour_of(tree, parent);
    let (thickness, opacity) = if line.first { (2.4, "") } else { (1.5, " stroke-opacity=\"0.62\"") };
    let _ = writeln!(
        svg,
        "<path class=\"line s{colour}\" stroke-width=\"{thickness}\"{opacity} data-line=\"{} {}\" d=\"{}\"/>",
        parent.name,
        child.name,
        rounded(&line.points)
    );
    if let Some((x, y)) = line.points.last() {
        let _ = writeln!(svg, "<circle class=\"f{colour}\" cx=\"{x}\" cy=\"{y}\" r=\"{}\"/>", if line.first { 3.6 } else { 2.8 });
    }
}

/// The way through `points` with rounded corners.
fn rounded(points: &[(f32, f32)]) -> String {
    // Two points in one place, or three in a line, have no corner.
    let mut corners: Vec<(f32, f32)> = Vec::new();
    for point in points {
        if corners.last() == Some(point) {
            continue;
        }
        if let [.., before, last] = corners.as_slice()
            && ((before.0 == last.0 && last.0 == point.0) || (before.1 == last.1 && last.1 == point.1))
        {
            corners.pop();
        }
        corners.push(*point);
    }
    let mut way = String::new();
    for (number, (x, y)) in corners.iter().enumerate() {
        let around = (number.checked_sub(1).and_then(|before| corners.get(before)), corners.get(number + 1));
        match around {
            (None, _) => {
                let _ = write!(way, "M{x} {y}");
            }
            (Some(before), Some(after)) => {
                let length = |to: &(f32, f32)| (to.0 - x).abs() + (to.1 - y).abs();
                let radius = CORNER.min(length(before) / 2.0).min(length(after) / 2.0);
                let toward = |to: &(f32, f32)| {
                    let share = radius / length(to);
                    (x + (to.0 - x) * share, y + (to.1 - y) * share)
                };
                let (begin, end) = (toward(before), toward(after));
                let _ = write!(way, "L{} {}Q{x} {y} {} {}", begin.0, begin.1, end.0, end.1);
            }
            (Some(_), None) => {
                let _ = write!(way, "L{x} {y}");
            }
        }
    }
    way
}

fn card(svg: &mut String, tree: &Tree, algorithm: &Algorithm, (x, y): (f32, f32), sample: Option<&Picture>) -> Result<()> {
    let colour = colour_of(tree, algorithm);
    let class = if algorithm.runs.is_empty() { "plain" } else { "card" };
    let _ = writeln!(svg, "<g transform=\"translate({x} {y})\"><title>{}</title>", escaped(&algorithm.changed));
    let _ = writeln!(
        svg,
        "<rect class=\"{class} edge\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"9\"/>\
         <path class=\"f{colour}\" d=\"M9 0.5A8.5 8.5 0 0 0 0.5 9V{}A8.5 8.5 0 0 0 9 {}H6V0.5Z\"/>",
        CARD_WIDTH - 1.0,
        CARD_HEIGHT - 1.0,
        CARD_HEIGHT - 9.0,
        CARD_HEIGHT - 0.5
    );
    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"18\" y=\"25\" font-size=\"14\" font-weight=\"600\">{}</text>\
         <text class=\"note\" x=\"18\" y=\"43\" font-size=\"12.5\">{}, {}</text>",
        escaped(&algorithm.title),
        algorithm.year,
        escaped(&algorithm.paper.short_authors())
    );
    let (left, top) = (CARD_WIDTH - SAMPLE - 6.0, (CARD_HEIGHT - SAMPLE) / 2.0);
    if let Some(sample) = sample {
        let bytes = encode(&sample.on_white(), None, Format::Png).with_context(|| format!("sample of {}", algorithm.name))?;
        let _ = writeln!(
            svg,
            "<rect class=\"well\" x=\"{left}\" y=\"{top}\" width=\"{SAMPLE}\" height=\"{SAMPLE}\" rx=\"5\"/>\
             <image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" href=\"data:image/png;base64,{}\"/>",
            left + 2.0,
            top + 2.0,
            SAMPLE - 4.0,
            SAMPLE - 4.0,
            STANDARD.encode(bytes)
        );
    } else if !algorithm.runs.is_empty() {
        let _ = writeln!(
            svg,
            "<circle class=\"line s{colour}\" stroke-width=\"1.6\" cx=\"{}\" cy=\"{}\" r=\"4.5\"/>",
            CARD_WIDTH - 18.0,
            CARD_HEIGHT / 2.0
        );
    }
    svg.push_str("</g>\n");
    Ok(())
}

fn colour_of(tree: &Tree, algorithm: &Algorithm) -> usize {
    tree.branch_of(algorithm).map_or(0, |(number, _)| number % COLOURS.len())
}

/// Text as XML holds it.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no place for these, not even escaped.
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> BTreeMap<String, Picture> {
        let picture = Picture::new(2, 2, 3, (0..12).map(|value| value * 20).collect()).unwrap();
        [("ddpm".to_owned(), picture)].into()
    }

    #[test]
    fn every_card_stands_in_the_picture_and_the_bytes_are_the_same_again() {
        let tree = Tree::carried().unwrap();
        let svg = draw_svg(&tree, &samples()).unwrap();
        assert_eq!(svg, draw_svg(&tree, &samples()).unwrap());
        for algorithm in tree.algorithms() {
            assert!(svg.contains(&format!(">{}</text>", escaped(&algorithm.title))), "{}", algorithm.title);
        }
        assert_eq!(svg.matches("data:image/png;base64,").count(), 1);
        assert!(svg.contains("prefers-color-scheme:dark"));
        // What is embedded is the picture itself.
        let data = svg.split("base64,").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(Picture::read(&STANDARD.decode(data).unwrap(), "sample").unwrap(), samples()["ddpm"]);
    }

    #[test]
    fn markup_in_a_title_stays_text() {
        assert_eq!(escaped("a<b> & \"c\"\u{7}"), "a&lt;b&gt; &amp; &quot;c&quot; ");
    }

    #[test]
    fn corners_are_rounded_and_straight_ways_have_none() {
        assert_eq!(rounded(&[(0.0, 0.0), (0.0, 10.0)]), "M0 0L0 10");
        assert_eq!(rounded(&[(0.0, 0.0), (0.0, 5.0), (0.0, 5.0), (0.0, 10.0)]), "M0 0L0 10");
        assert_eq!(rounded(&[(0.0, 0.0), (0.0, 20.0), (20.0, 20.0)]), "M0 0L0 13Q0 20 7 20L20 20");
        assert_eq!(rounded(&[(0.0, 0.0), (0.0, 4.0), (20.0, 4.0)]), "M0 0L0 2Q0 4 2 4L20 4");
    }
}
