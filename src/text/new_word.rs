//! Words that a model learned afterwards: a name, and the vectors that stand for it (textual inversion).
//!
//! R. Gal, Y. Alaluf, Y. Atzmon, O. Patashnik, A. H. Bermano, G. Chechik, D. Cohen-Or, 2022, "An Image is Worth One Word: Personalizing
//! Text-to-Image Generation using Textual Inversion", arXiv:2208.01618.
//!
//! In: a text and the words. Out: where they stand in it. Not here: files (`word_file.rs`), and what becomes of the vectors.

/// A word with vectors of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWord {
    /// How it is written in a prompt.
    pub name: String,
    /// `[encoder][vector][width]`: its vectors for each text encoder, as many for each.
    pub vectors: Vec<Vec<Vec<f32>>>,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl NewWord {
    /// Those of `words` that stand in `text`, by their index.
    #[must_use]
    pub fn used(text: &str, words: &[Self]) -> Vec<usize> {
        let new = |piece: Piece<'_>| if let Piece::New(word) = piece { Some(word) } else { None };
        pieces(text, words).into_iter().filter_map(new).collect()
    }

    /// Tokens that it takes in a prompt.
    #[must_use]
    pub fn length(&self) -> usize {
        self.vectors.first().map_or(0, Vec::len)
    }
}

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Words that the vocabulary knows.
    Known(&'t str),
    /// One of the new words, by its index.
    New(usize),
}

/// Cuts `text` at the new words, the longest where two begin together. Capital letters make no difference; a name that begins or ends with a
/// letter or a digit is none in the middle of a word.
pub(super) fn pieces<'t>(text: &'t str, words: &[NewWord]) -> Vec<Piece<'t>> {
    let mut pieces = Vec::new();
    let mut begins = 0;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let found = words.iter().enumerate().filter_map(|(index, word)| Some((index, length_at(text, at, &word.name)?)));
        match found.max_by_key(|(_, length)| *length) {
            Some((index, length)) => {
                if begins < at {
                    pieces.push(Piece::Known(&text[begins..at]));
                }
                pieces.push(Piece::New(index));
                at += length;
                begins = at;
            }
            None => at += letter.len_utf8(),
        }
    }
    if begins < text.len() {
        pieces.push(Piece::Known(&text[begins..]));
    }
    pieces
}

/// The length in bytes of `name` where it stands at `at`.
fn length_at(text: &str, at: usize, name: &str) -> Option<usize> {
    let length: usize = text[at..].chars().take(name.chars().count()).map(char::len_utf8).sum();
    let found = &text[at..at + length];
    if length == 0 || found.to_lowercase() != name.to_lowercase() {
        return None;
    }
    let joins = |left: Option<char>, right: Option<char>| {
        left.is_some_and(char::is_alphanumeric) && right.is_some_and(char::is_alphanumeric)
    };
    let before = joins(text[..at].chars().next_back(), found.chars().next());
    let after = joins(found.chars().next_back(), text[at + length..].chars().next());
    (!before && !after).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(name: &str) -> NewWord {
        NewWord { name: name.into(), vectors: vec![vec![vec![0.0]]], sha256: String::new() }
    }

    #[test]
    fn new_words_are_found_whole_and_the_longest_first() {
        use Piece::{Known, New};
        let words = [word("<toy>"), word("worn"), word("worn-out"), word("Größe 2")];
        let cases: [(&str, &[Piece<'_>]); 8] = [
            ("", &[]),
            ("a sun", &[Known("a sun")]),
            ("a <TOY>, red", &[Known("a "), New(0), Known(", red")]),
            ("a<toy>b", &[Known("a"), New(0), Known("b")]),
            ("worn worn-out", &[New(1), Known(" "), New(2)]),
            ("sworn worns outworn", &[Known("sworn worns outworn")]),
            ("grösse, GRÖßE 2!", &[Known("grösse, "), New(3), Known("!")]),
            ("worn", &[New(1)]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(text, &words), expected, "{text}");
        }
    }
}
