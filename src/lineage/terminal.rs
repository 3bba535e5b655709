//! Draws the family tree as text, and tells the story of one algorithm.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::ascii::named;
use super::tree::{Algorithm, Tree};

/// Narrower than this lines would be cut beyond sense.
const NARROWEST: usize = 60;
/// Longer lines of prose are hard to read.
const WIDEST_PROSE: usize = 92;
/// What a line on the algorithm's change needs at least, to be worth its column.
const LEAST_CHANGE: usize = 30;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Letters in a line.
    pub width: usize,
    /// Whether it shows letters beyond ASCII.
    pub unicode: bool,
    /// Whether it shows colours.
    pub colour: bool,
}

/// The pieces that branches are drawn with: down and across, the last one, straight down, nothing.
struct Pieces {
    tee: &'static str,
    corner: &'static str,
    bar: &'static str,
    gap: &'static str,
    installed: &'static str,
    missing: &'static str,
    told: &'static str,
    leader: &'static str,
    dots: &'static str,
}

const UNICODE: Pieces =
    Pieces {
        tee: "├─", corner: "╰─", bar: "│ ", gap: "  ", installed: "●", missing: "○", told: "·", leader: "┄", dots: "…"
    };
const ASCII: Pieces =
    Pieces { tee: "|-", corner: "`-", bar: "| ", gap: "  ", installed: "*", missing: "o", told: ".", leader: ".", dots: "..." };

/// Colours of branches in the order of the file, as the terminal numbers them; they read on black and on white.
const COLOURS: [u8; 8] = [37, 34, 31, 36, 35, 33, 32, 94];

/// One line of the drawing before it is put together.
struct Line<'t> {
    algorithm: &'t Algorithm,
    /// Branch of each piece, so that a line of descent keeps its colour, and the piece.
    pieces: Vec<(usize, &'static str)>,
}

/// Draws the tree, a line for each algorithm, each below its first parent.
///
/// * `installed`: names of the bundles that are there
#[must_use]
pub fn draw(tree: &Tree, installed: &BTreeSet<String>, style: TerminalStyle) -> String {
    let pieces = if style.unicode { &UNICODE } else { &ASCII };
    let width = style.width.max(NARROWEST);
    let mut lines = Vec::new();
    for root in tree.algorithms().iter().filter(|algorithm| algorithm.parents.is_empty()) {
        collect(tree, root, &mut Vec::new(), pieces, &mut lines);
    }
    let label = |line: &Line<'_>| line.pieces.len() * 2 + 2 + line.algorithm.name.len();
    let names_end = 6 + lines.iter().map(label).max().unwrap_or(0) + 1;
    let titles_end = names_end + 1 + lines.iter().map(|line| line.algorithm.title.chars().count()).max().unwrap_or(0);
    let change_room = width.saturating_sub(titles_end + 2);

    let mut text = String::new();
    let mut year_before = 0;
    for line in &lines {
        let Line { algorithm, .. } = line;
        let branch = branch_number(tree, algorithm);
        let year = if algorithm.year == year_before { "    ".to_owned() } else { algorithm.year.to_string() };
        year_before = algorithm.year;
        let mut row = format!("{}  ", dim(&year, style));
        for (branch, piece) in &line.pieces {
            row.push_str(&coloured(piece, *branch, style));
        }
        let mark = mark(algorithm, installed, pieces);
        let _ = write!(row, "{} {}", coloured(mark, branch, style), bold(&algorithm.name, mark == pieces.installed, style));
        let used = 6 + label(line);
        row.push(' ');
        row.push_str(&dim(&pieces.leader.repeat(names_end.saturating_sub(used + 1)), style));
        row.push(' ');
        row.push_str(&spoken(&algorithm.title, style));
        if change_room >= LEAST_CHANGE {
            let padding = titles_end.saturating_sub(names_end + 1 + algorithm.title.chars().count()) + 2;
            row.push_str(&" ".repeat(padding));
            row.push_str(&dim(&cut(&spoken(&algorithm.changed, style), change_room, pieces.dots), style));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "\n{} installed  {} not installed  {} told only   kiln lineage NAME tells its story",
        pieces.installed, pieces.missing, pieces.told
    );
    text
}

fn collect<'t>(
    tree: &'t Tree,
    algorithm: &'t Algorithm,
    above: &mut Vec<(usize, bool)>,
    pieces: &'static Pieces,
    lines: &mut Vec<Line<'t>>,
) {
    let last = above.len().saturating_sub(1);
    let drawn = above
        .iter()
        .enumerate()
        .map(|(depth, (branch, more))| {
            let piece = match (depth == last, more) {
                (true, true) => pieces.tee,
                (true, false) => pieces.corner,
                (false, true) => pieces.bar,
                (false, false) => pieces.gap,
            };
            (*branch, piece)
        })
        .collect();
    lines.push(Line { algorithm, pieces: drawn });
    let children: Vec<&Algorithm> =
        tree.children(&algorithm.name).filter(|child| child.parents.first() == Some(&algorithm.name)).collect();
    for (position, child) in children.iter().enumerate() {
        above.push((branch_number(tree, algorithm), position + 1 < children.len()));
        collect(tree, child, above, pieces, lines);
        above.pop();
    }
}

fn branch_number(tree: &Tree, algorithm: &Algorithm) -> usize {
    tree.branch_of(algorithm).map_or(0, |(number, _)| number)
}

fn mark(algorithm: &Algorithm, installed: &BTreeSet<String>, pieces: &Pieces) -> &'static str {
    if algorithm.runs.is_empty() {
        pieces.told
    } else if algorithm.runs.iter().any(|run| installed.contains(&run.bundle)) {
        pieces.installed
    } else {
        pieces.missing
    }
}

/// Tells the story of one algorithm: paper, formula, story, relatives, and the command that shows it.
///
/// * `installed`: names of the bundles that are there
#[must_use]
pub fn tell(tree: &Tree, algorithm: &Algorithm, installed: &BTreeSet<String>, style: TerminalStyle) -> String {
    let width = style.width.clamp(NARROWEST, WIDEST_PROSE);
    let (number, branch) = tree.branch_of(algorithm).map_or((0, ""), |(number, branch)| (number, branch.title.as_str()));
    let mut text = String::new();
    let title = bold(&coloured(&spoken(&algorithm.title, style), number, style), true, style);
    let _ = writeln!(text, "{title}  {}", dim(&format!("{}, {}", algorithm.year, spoken(branch, style)), style));
    let paper = &algorithm.paper;
    let cited = format!("{}: {}. {}", paper.authors, paper.title, paper.reference());
    for line in wrapped(&spoken(&cited, style), width) {
        let _ = writeln!(text, "{}", dim(&line, style));
    }
    text.push('\n');
    for part in algorithm.formula.split(";  ") {
        for line in wrapped_formula(&spoken(part.trim(), style), width.saturating_sub(4)) {
            let _ = writeln!(text, "    {line}");
        }
    }
    for paragraph in std::iter::once(algorithm.changed.clone()).chain(algorithm.paragraphs()) {
        text.push('\n');
        for line in wrapped(&spoken(&paragraph, style), width) {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push('\n');
    let mut facts: Vec<(&str, Vec<String>)> = Vec::new();
    let relative_text = |relative: &Algorithm| format!("{} ({})", relative.name, relative.year);
    facts.push(("from", vec![tree.parents(algorithm).map(relative_text).collect::<Vec<_>>().join(", ")]));
    facts.push(("led to", vec![tree.children(&algorithm.name).map(relative_text).collect::<Vec<_>>().join(", ")]));
    facts.push(("calls", vec![algorithm.calls.clone().unwrap_or_default()]));
    let missing: BTreeSet<&str> =
        algorithm.runs.iter().map(|run| run.bundle.as_str()).filter(|bundle| !installed.contains(*bundle)).collect();
    let commands = algorithm.runs.iter().map(|run| {
        let prompt = if run.bundle == "sticker" { " \"a smiling sun\"" } else { "" };
        format!("kiln generate{prompt} {} --seed 8", run.options())
    });
    facts.push(("try", commands.collect()));
    facts.push((
        "missing",
        missing.iter().map(|bundle| format!("the bundle {bundle} is not among those that `kiln models` lists")).collect(),
    ));
    for (name, values) in facts {
        let mut name = name;
        for value in values.iter().filter(|value| !value.is_empty()) {
            for line in wrapped(&spoken(value, style), width.saturating_sub(10)) {
                let _ = writeln!(text, "{}{line}", dim(&format!("{name:<10}"), style));
                name = "";
            }
        }
    }
    text
}

/// Parts `text` into lines of at most `width` letters; a longer word has a line of its own.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Keeps the blanks of a formula that fits; parts it at blanks where it does not.
fn wrapped_formula(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    // Before a wide gap is the better place.
    match text.split_once(",   ") {
        Some((first, rest)) => [wrapped(&format!("{first},"), width), wrapped_formula(rest.trim(), width)].concat(),
        None => wrapped(text, width),
    }
}

fn cut(text: &str, width: usize, dots: &str) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(dots.chars().count())).collect();
    format!("{}{dots}", kept.trim_end())
}

fn escaped(text: &str, code: &str, style: TerminalStyle) -> String {
    if style.colour && !text.trim().is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn coloured(text: &str, branch: usize, style: TerminalStyle) -> String {
    let code = COLOURS.get(branch % COLOURS.len()).copied().unwrap_or(37);
    escaped(text, &code.to_string(), style)
}

fn dim(text: &str, style: TerminalStyle) -> String {
    escaped(text, "2", style)
}

fn bold(text: &str, bold: bool, style: TerminalStyle) -> String {
    if bold { escaped(text, "1", style) } else { text.to_owned() }
}

/// The text as the terminal can show it.
fn spoken(text: &str, style: TerminalStyle) -> String {
    if style.unicode { text.to_owned() } else { named(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TerminalStyle = TerminalStyle { width: 80, unicode: true, colour: false };

    fn installed() -> BTreeSet<String> {
        ["ddpm", "sticker"].map(str::to_owned).into()
    }

    #[test]
    fn every_algorithm_has_a_line_and_every_line_fits() {
        let tree = Tree::carried().unwrap();
        for (width, unicode) in [(80, true), (80, false), (120, true), (200, true), (200, false)] {
            let text = draw(&tree, &installed(), TerminalStyle { width, unicode, colour: false });
            assert_eq!(text.lines().count(), tree.algorithms().len() + 2);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{} of {width}: {line}", line.chars().count());
            }
            assert!(unicode || text.is_ascii(), "{text}");
            for algorithm in tree.algorithms() {
                assert!(text.contains(&format!(" {} ", algorithm.name)), "{}", algorithm.name);
            }
            assert_eq!(text.contains("Predicts the noise"), width > 80, "wide terminals have room for what changed");
        }
    }

    #[test]
    fn marks_say_what_is_installed() {
        let tree = Tree::carried().unwrap();
        let text = draw(&tree, &installed(), PLAIN);
        let mark = |name: &str| text.lines().find(|line| line.contains(&format!(" {name} "))).unwrap().to_owned();
        assert!(mark("ddim").contains("● ddim") && mark("vae").contains("○ vae") && mark("bayes").contains("· bayes"));
        assert!(!text.contains('\u{1b}'));
        assert!(draw(&tree, &installed(), TerminalStyle { colour: true, ..PLAIN }).contains("\u{1b}[1mddim"));
    }

    #[test]
    fn every_story_fits_and_names_its_relatives_and_its_command() {
        let tree = Tree::carried().unwrap();
        for algorithm in tree.algorithms() {
            for (width, unicode) in [(60, true), (80, true), (80, false), (300, true)] {
                let text = tell(&tree, algorithm, &installed(), TerminalStyle { width, unicode, colour: false });
                for line in text.lines() {
                    let long_word = line.trim().split(' ').count() == 1;
                    assert!(line.chars().count() <= width.min(WIDEST_PROSE) || long_word, "{}: {line}", algorithm.name);
                }
                assert!(unicode || (text.is_ascii() && !text.contains("_?") && !text.contains(" ? ")), "{text}");
            }
            let text = tell(&tree, algorithm, &installed(), PLAIN);
            assert!(algorithm.parents.iter().all(|parent| text.contains(parent)), "{text}");
            assert_eq!(text.contains("kiln generate"), !algorithm.runs.is_empty(), "{text}");
        }
        let told = tell(&tree, tree.find("vae").unwrap(), &installed(), PLAIN);
        assert!(told.contains("the bundle vae is not among those"), "{told}");
    }

    #[test]
    fn lines_are_parted_at_words() {
        assert_eq!(wrapped("a bb ccc dddddd", 4), ["a bb", "ccc", "dddddd"]);
        assert_eq!(cut("some words", 6, "…"), "some…");
        assert_eq!(wrapped_formula("a = b,   c = d", 8), ["a = b,", "c = d"]);
    }
}
