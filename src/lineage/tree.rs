//! Reads and checks the family tree, `models/lineage.toml`.
//!
//! `models/README.md` is the norm for its keys. What was read is a tree without circles whose every parent is there, in the order of years
//! and parents before children.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::check::{check, in_order};
use crate::refuse;

/// The tree that Kiln carries.
const CARRIED: &str = include_str!("../../models/lineage.toml");
/// Largest file of a tree.
pub const LARGEST_FILE_BYTES: usize = 1024 * 1024;

/// The family tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    branches: Vec<Branch>,
    algorithms: Vec<Algorithm>,
    places: BTreeMap<String, usize>,
}

/// A line of descent, drawn in one colour and one column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Short name.
    pub name: String,
    /// As it is shown.
    pub title: String,
    /// In which column it is drawn, from 0; branches of different times may share one.
    pub column: usize,
}

/// One algorithm.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Short name, as `kiln lineage NAME` takes it.
    pub name: String,
    /// As it is shown.
    pub title: String,
    /// Of its first public version.
    pub year: u16,
    /// The branch's name.
    pub branch: String,
    /// Names of the algorithms whose idea it takes up or answers, the nearest first.
    #[serde(default)]
    pub parents: Vec<String>,
    /// Where it was published.
    pub paper: Paper,
    /// What it changed, in a sentence.
    pub changed: String,
    /// Its formula, in Unicode.
    pub formula: String,
    /// Network calls for a picture, in words; none for what runs no network.
    #[serde(default)]
    pub calls: Option<String>,
    /// How to see it, the most telling run first.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// Paragraphs, parted by empty lines.
    pub story: String,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Surnames, parted by commas.
    pub authors: String,
    /// Its title.
    pub title: String,
    /// Journal, volume, pages; where it has no arXiv number.
    #[serde(default)]
    pub venue: Option<String>,
    /// Number at arXiv.
    #[serde(default)]
    pub arxiv: Option<String>,
    /// Digital object identifier.
    #[serde(default)]
    pub doi: Option<String>,
}

/// A bundle and how it is run to show an algorithm; what is not said is the bundle's own default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name on the shelf.
    pub bundle: String,
    /// Sampler or ODE solver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Share of fresh noise at each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// How far latents are kept from their mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f32>,
}

/// What the file holds, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) branch: Vec<Branch>,
    pub(super) algorithm: Vec<Algorithm>,
}

impl Tree {
    /// The tree that Kiln carries.
    ///
    /// # Errors
    /// As [`Tree::parse`]; a test makes sure that there are none.
    pub fn carried() -> Result<Self> {
        Self::parse(CARRIED, "models/lineage.toml")
    }

    /// Reads a tree out of `text`; `name` is what errors call it.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): the text is no TOML of this form or too large; a name, year, number or text is out of its
    /// limits or used twice; a branch or parent is not there; a parent is younger than its child; parents go round in a circle.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        if text.len() > LARGEST_FILE_BYTES {
            refuse!("{name}: has {} bytes, expected at most {LARGEST_FILE_BYTES}", text.len());
        }
        let file: File = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => refuse!("{name}: {}", error.to_string().trim_end()),
        };
        if let Err(wrong) = check(&file) {
            refuse!("{name}: {wrong}");
        }
        match in_order(file.algorithm) {
            Ok(algorithms) => {
                let places = algorithms.iter().enumerate().map(|(place, algorithm)| (algorithm.name.clone(), place)).collect();
                Ok(Self { branches: file.branch, algorithms, places })
            }
            Err(wrong) => refuse!("{name}: {wrong}"),
        }
    }

    /// Every algorithm, in the order of years, parents before children.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Every branch, in the file's order.
    #[must_use]
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// The algorithm with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Algorithm> {
        self.place(name).and_then(|place| self.algorithms.get(place))
    }

    /// Where an algorithm stands in [`Tree::algorithms`].
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The branch of an algorithm: its place in [`Tree::branches`] and itself.
    pub(super) fn branch_of(&self, algorithm: &Algorithm) -> Option<(usize, &Branch)> {
        self.branches.iter().enumerate().find(|(_, branch)| branch.name == algorithm.branch)
    }

    /// The parents of an algorithm, the nearest first.
    pub fn parents<'t>(&'t self, algorithm: &'t Algorithm) -> impl Iterator<Item = &'t Algorithm> {
        algorithm.parents.iter().filter_map(|name| self.find(name))
    }

    /// The algorithms that name `name` among their parents, in the tree's order.
    pub fn children<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'t Algorithm> {
        self.algorithms.iter().filter(move |algorithm| algorithm.parents.iter().any(|parent| parent == name))
    }
}

impl Algorithm {
    /// The paragraphs of its story, each on one line.
    pub fn paragraphs(&self) -> impl Iterator<Item = String> {
        self.story
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|text| !text.is_empty())
    }
}

impl Paper {
    /// The authors as a line has room for them: `Ho et al.`
    #[must_use]
    pub fn short_authors(&self) -> String {
        let names: Vec<&str> = self.authors.split(", ").collect();
        match names.as_slice() {
            [first, second] => format!("{first}, {second}"),
            [first, _, ..] => format!("{first} et al."),
            _ => self.authors.clone(),
        }
    }

    /// Where it is found: `arXiv:2006.11239`, or journal and identifier.
    #[must_use]
    pub fn reference(&self) -> String {
        let arxiv = self.arxiv.as_ref().map(|number| format!("arXiv:{number}"));
        let doi = self.doi.as_ref().map(|doi| format!("doi:{doi}"));
        [self.venue.clone(), arxiv, doi].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Run {
    /// The options that `kiln generate` takes for it.
    #[must_use]
    pub fn options(&self) -> String {
        let mut options = format!("--model {}", self.bundle);
        for (name, value) in [
            ("sampler", self.sampler.clone()),
            ("steps", self.steps.map(|steps| steps.to_string())),
            ("eta", self.eta.map(|eta| eta.to_string())),
            ("truncation", self.truncation.map(|truncation| truncation.to_string())),
        ] {
            if let Some(value) = value {
                options.push_str(&format!(" --{name} {value}"));
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_tree_is_whole() {
        let tree = Tree::carried().unwrap();
        assert_eq!(tree.algorithms().len(), 50);
        assert_eq!(tree.branches().len(), 8);
        for (place, algorithm) in tree.algorithms().iter().enumerate() {
            assert_eq!(tree.place(&algorithm.name), Some(place));
            assert!(tree.parents(algorithm).all(|parent| tree.place(&parent.name).unwrap() < place), "{}", algorithm.name);
            assert_eq!(algorithm.parents.is_empty(), algorithm.name == "bayes", "{}", algorithm.name);
            assert!(algorithm.paragraphs().count() >= 2, "{}", algorithm.name);
            let paper = &algorithm.paper;
            assert!(paper.arxiv.is_some() != paper.venue.is_some(), "{}: one way to find it", algorithm.name);
            // The number's first four digits are year and month of the first version.
            if let Some(number) = paper.arxiv.as_ref().filter(|_| algorithm.name != "flux") {
                assert_eq!(format!("20{}", &number[..2]), algorithm.year.to_string(), "{}", algorithm.name);
            }
        }
    }

    #[test]
    fn every_bundle_of_the_box_shows_an_algorithm() {
        let tree = Tree::carried().unwrap();
        for bundle in ["vae", "gan", "flow", "cnf", "score", "ddpm", "progressive", "consistency", "sticker"] {
            assert!(tree.algorithms().iter().any(|algorithm| algorithm.runs.iter().any(|run| run.bundle == bundle)), "{bundle}");
        }
    }

    #[test]
    fn papers_and_runs_are_put_into_words() {
        let paper = |authors: &str| Paper {
            authors: authors.to_owned(),
            title: String::new(),
            venue: Some("J. 1".to_owned()),
            arxiv: None,
            doi: Some("10.1/x".to_owned()),
        };
        let short: Vec<String> = ["A", "A, B", "A, B, C"].into_iter().map(|authors| paper(authors).short_authors()).collect();
        assert_eq!(short, ["A", "A, B", "A et al."]);
        assert_eq!(paper("A").reference(), "J. 1, doi:10.1/x");
        let run = Run { bundle: "ddpm".into(), sampler: Some("ddim".into()), steps: Some(50), truncation: Some(0.7), eta: None };
        assert_eq!(run.options(), "--model ddpm --sampler ddim --steps 50 --truncation 0.7");
    }
}
