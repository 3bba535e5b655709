//! What a family tree has to keep to before it is drawn: names, limits, relatives, order.

use std::collections::BTreeSet;

use super::tree::{Algorithm, Branch, File};

/// Larger trees cannot be drawn to any use.
const MOST_ALGORITHMS: usize = 300;
const MOST_BRANCHES: usize = 24;
const MOST_COLUMNS: usize = 12;
const MOST_PARENTS: usize = 8;
const LONGEST_NAME: usize = 40;
const LONGEST_TITLE: usize = 26;
const LONGEST_TEXT: usize = 4096;

/// Whether `name` may be typed, be a file's name and stand in a picture.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-+".contains(letter))
}

pub(super) fn check(file: &File) -> std::result::Result<(), String> {
    if file.algorithm.is_empty() || file.algorithm.len() > MOST_ALGORITHMS {
        return Err(format!("has {} algorithms, expected 1 to {MOST_ALGORITHMS}", file.algorithm.len()));
    }
    if file.branch.len() > MOST_BRANCHES {
        return Err(format!("has {} branches, expected at most {MOST_BRANCHES}", file.branch.len()));
    }
    let mut names = BTreeSet::new();
    for Branch { name, title, column } in &file.branch {
        let place = format!("branch {name:?}");
        if !is_name(name) {
            return Err(format!("{place}: expected a name of up to {LONGEST_NAME} of a-z, 0-9, `_`, `-` and `+`"));
        }
        if !names.insert(("branch", name)) {
            return Err(format!("{place}: there are two"));
        }
        if *column >= MOST_COLUMNS {
            return Err(format!("{place}: `column` is {column}, expected 0 to {}", MOST_COLUMNS - 1));
        }
        check_text(&place, "title", title, LONGEST_TITLE)?;
    }
    for algorithm in &file.algorithm {
        let place = format!("algorithm {:?}", algorithm.name);
        if !is_name(&algorithm.name) {
            return Err(format!("{place}: expected a name of up to {LONGEST_NAME} of a-z, 0-9, `_`, `-` and `+`"));
        }
        if !names.insert(("algorithm", &algorithm.name)) {
            return Err(format!("{place}: there are two"));
        }
        check_algorithm(algorithm, &place, file)?;
    }
    Ok(())
}

fn check_algorithm(algorithm: &Algorithm, place: &str, file: &File) -> std::result::Result<(), String> {
    if !(1600..=2200).contains(&algorithm.year) {
        return Err(format!("{place}: `year` is {}, expected 1600 to 2200", algorithm.year));
    }
    if !file.branch.iter().any(|branch| branch.name == algorithm.branch) {
        return Err(format!("{place}: there is no branch {:?}", algorithm.branch));
    }
    let paper = &algorithm.paper;
    check_text(place, "title", &algorithm.title, LONGEST_TITLE)?;
    for (key, text) in [
        ("paper.authors", Some(&paper.authors)),
        ("paper.title", Some(&paper.title)),
        ("paper.venue", paper.venue.as_ref()),
        ("paper.arxiv", paper.arxiv.as_ref()),
        ("paper.doi", paper.doi.as_ref()),
        ("changed", Some(&algorithm.changed)),
        ("formula", Some(&algorithm.formula)),
        ("calls", algorithm.calls.as_ref()),
        ("story", Some(&algorithm.story)),
    ] {
        if let Some(text) = text {
            check_text(place, key, text, LONGEST_TEXT)?;
        }
    }
    if algorithm.parents.len() > MOST_PARENTS {
        return Err(format!("{place}: has {} parents, expected at most {MOST_PARENTS}", algorithm.parents.len()));
    }
    for (position, parent) in algorithm.parents.iter().enumerate() {
        let Some(found) = file.algorithm.iter().find(|other| other.name == *parent) else {
            return Err(format!("{place}: its parent {parent:?} is not in the tree"));
        };
        if algorithm.parents.iter().take(position).any(|before| before == parent) {
            return Err(format!("{place}: its parent {parent:?} is named twice"));
        }
        if found.year > algorithm.year {
            return Err(format!("{place}: is of {}, its parent {parent:?} of {}", algorithm.year, found.year));
        }
    }
    for run in &algorithm.runs {
        for name in std::iter::once(&run.bundle).chain(&run.sampler) {
            if !is_name(name) {
                return Err(format!(
                    "{place}: `runs` names {name:?}, expected up to {LONGEST_NAME} of a-z, 0-9, `_`, `-` and `+`"
                ));
            }
        }
        if run.steps.is_some_and(|steps| !(1..=10_000).contains(&steps)) {
            return Err(format!("{place}: `runs` has steps {:?}, expected 1 to 10000", run.steps.unwrap_or_default()));
        }
        for (key, value, largest) in [("eta", run.eta, 1.0), ("truncation", run.truncation.map(f64::from), 2.0)] {
            if value.is_some_and(|value| !(0.0..=largest).contains(&value)) {
                return Err(format!("{place}: `runs` has {key} {}, expected 0 to {largest}", value.unwrap_or_default()));
            }
        }
    }
    Ok(())
}

fn check_text(place: &str, key: &str, text: &str, longest: usize) -> std::result::Result<(), String> {
    let length = text.chars().count();
    if length == 0 || length > longest {
        return Err(format!("{place}: `{key}` has {length} letters, expected 1 to {longest}"));
    }
    // A terminal would obey them, and no SVG may hold them.
    match text.chars().find(|letter| letter.is_control() && *letter != '\n') {
        Some(letter) => Err(format!("{place}: `{key}` holds the control character {letter:?}")),
        None => Ok(()),
    }
}

/// Sorts by year, parents before children, else as the file has them.
pub(super) fn in_order(mut left: Vec<Algorithm>) -> std::result::Result<Vec<Algorithm>, String> {
    left.sort_by_key(|algorithm| algorithm.year);
    let mut sorted: Vec<Algorithm> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = left
            .iter()
            .position(|algorithm| algorithm.parents.iter().all(|parent| sorted.iter().any(|placed| placed.name == *parent)));
        match ready {
            Some(ready) => sorted.push(left.remove(ready)),
            None => {
                let names: Vec<&str> = left.iter().map(|algorithm| algorithm.name.as_str()).collect();
                return Err(format!("parents go round in a circle among {}", names.join(", ")));
            }
        }
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use crate::error::is_refusal;

    const ONE: &str = "[[branch]]\nname = \"b\"\ntitle = \"B\"\ncolumn = 0\n";

    fn algorithm(name: &str, year: u16, more: &str) -> String {
        format!(
            "[[algorithm]]\nname = \"{name}\"\ntitle = \"T\"\nyear = {year}\nbranch = \"b\"\nchanged = \"c\"\nformula = \"f\"\n\
             story = \"s\"\npaper = {{ authors = \"A\", title = \"P\" }}\n{more}\n"
        )
    }

    #[test]
    fn order_is_by_year_and_parents_come_first() {
        let text = format!(
            "{ONE}{}{}{}",
            algorithm("late", 2001, "parents = [\"twin\"]"),
            algorithm("twin", 2001, "parents = [\"root\"]"),
            algorithm("root", 1999, "")
        );
        let tree = Tree::parse(&text, "t").unwrap();
        let names: Vec<&str> = tree.algorithms().iter().map(|algorithm| algorithm.name.as_str()).collect();
        assert_eq!(names, ["root", "twin", "late"]);
        assert_eq!(tree.children("root").map(|child| child.name.as_str()).collect::<Vec<_>>(), ["twin"]);
    }

    #[test]
    fn each_fault_is_one_clear_refusal() {
        let good = algorithm("a", 2000, "");
        let cases = [
            (String::new(), "missing field `branch`"),
            (ONE.to_owned(), "missing field `algorithm`"),
            (format!("{ONE}{ONE}{good}"), "branch \"b\": there are two"),
            (format!("{ONE}{good}{good}"), "algorithm \"a\": there are two"),
            (format!("{ONE}{}", good.replace("\"b\"", "\"x\"")), "there is no branch \"x\""),
            (format!("{ONE}{}", algorithm("../a", 2000, "")), "expected a name of up to 40"),
            (format!("{ONE}{}", algorithm("a", 1500, "")), "`year` is 1500"),
            (format!("{ONE}{}", algorithm("a", 2000, "parents = [\"z\"]")), "its parent \"z\" is not in the tree"),
            (format!("{ONE}{}", algorithm("a", 2000, "parents = [\"a\"]")), "circle among a"),
            (format!("{ONE}{good}{}", algorithm("c", 1990, "parents = [\"a\"]")), "is of 1990, its parent \"a\" of 2000"),
            (format!("{ONE}{good}{}", algorithm("c", 2000, "parents = [\"a\", \"a\"]")), "named twice"),
            (
                format!("{ONE}{}{}", algorithm("a", 2000, "parents = [\"c\"]"), algorithm("c", 2000, "parents = [\"a\"]")),
                "parents go round in a circle among a, c",
            ),
            (format!("{ONE}{}", algorithm("a", 2000, "colour = 1")), "unknown field `colour`"),
            (format!("{ONE}{}", algorithm("a", 2000, "runs = [{ bundle = \"../x\" }]")), "`runs` names \"../x\""),
            (format!("{ONE}{}", algorithm("a", 2000, "runs = [{ bundle = \"x\", steps = 0 }]")), "steps 0"),
            (format!("{ONE}{}", algorithm("a", 2000, "runs = [{ bundle = \"x\", eta = nan }]")), "eta NaN"),
            (format!("{ONE}{}", good.replace("\"f\"", "\"\\u001b[2J\"")), "control character"),
            (format!("{ONE}{}", good.replace("\"T\"", &format!("\"{}\"", "t".repeat(27)))), "`title` has 27 letters"),
            (format!("{}{good}", ONE.replace("column = 0", "column = 99")), "`column` is 99"),
            ("x".repeat(1024 * 1024 + 1), "bytes, expected at most"),
            (format!("{ONE}{}", (0..=300).map(|n| algorithm(&format!("a{n}"), 2000, "")).collect::<String>()), "301 algorithms"),
        ];
        for (text, expected) in &cases {
            let error = Tree::parse(text, "t.toml").unwrap_err();
            assert!(is_refusal(&error) && error.to_string().starts_with("t.toml: "), "{error:#}");
            assert!(error.to_string().contains(expected), "{error:#} lacks {expected:?}");
        }
        assert_eq!(cases.len(), 21);
        assert!(Tree::parse(&format!("{ONE}{good}"), "t").is_ok());
    }
}
