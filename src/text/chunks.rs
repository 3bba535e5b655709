//! Prompts cut into chunks as long as a text encoder reads, each token with its weight.
//!
//! In: the parts of a prompt, a tokenizer. Out: [`Chunked`]. As in Stable Diffusion web UI a sentence's end moves to the next chunk where the
//! last comma lies few tokens back, and a chunk is filled up with padding behind its end token.

use anyhow::Result;

use super::Tokenizer;
use super::new_word::{NewWord, Piece, pieces};
use super::weights::Part;
use crate::error::PROMPTS;
use crate::refuse;

/// A comma this many tokens back or fewer begins the next chunk.
const BACKTRACK: usize = 20;

/// One call of a text encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// `[L]` ids: start token, text, end token, padding.
    pub ids: Vec<i64>,
    /// `[L]`, how heavy each is.
    pub weights: Vec<f32>,
    /// Where a new word's vector stands in place of an id, which is 0 there: the place, the word, the vector.
    pub vectors: Vec<(usize, usize, usize)>,
    /// How many come before the padding.
    pub used: usize,
}

/// A prompt in chunks, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunked {
    /// The chunks, in their order.
    pub chunks: Vec<Chunk>,
    /// The end of the prompt, as far as it did not fit; worth a warning.
    pub truncated: Option<String>,
}

/// What stands at one place of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Id(u32),
    /// A word and which of its vectors.
    Vector(usize, usize),
}

/// The chunk that is being filled, and those that are full.
struct Filling<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of the text that a chunk has room for.
    room: usize,
    most: usize,
    done: Vec<Chunk>,
    tokens: Vec<(Token, f32)>,
    last_comma: Option<usize>,
    left_out: Vec<u32>,
    has_tokens: bool,
}

impl Filling<'_> {
    fn close(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        self.last_comma = None;
        if self.done.len() == self.most {
            let id = |(token, _)| if let Token::Id(id) = token { Some(id) } else { None };
            self.left_out.extend(tokens.into_iter().filter_map(id));
            return;
        }
        let (before, after) = self.tokenizer.around();
        let plain = |ids: &[u32]| ids.iter().map(|id| (Token::Id(*id), 1.0)).collect::<Vec<(Token, f32)>>();
        let mut all = plain(before);
        all.extend(tokens);
        all.extend(plain(after));
        let used = all.len();
        all.resize(self.tokenizer.max_length(), (Token::Id(self.tokenizer.pad()), 1.0));
        let mut chunk = Chunk { ids: Vec::new(), weights: Vec::new(), vectors: Vec::new(), used };
        for (place, (token, weight)) in all.into_iter().enumerate() {
            chunk.weights.push(weight);
            chunk.ids.push(match token {
                Token::Id(id) => i64::from(id),
                Token::Vector(word, vector) => {
                    chunk.vectors.push((place, word, vector));
                    0
                }
            });
        }
        self.done.push(chunk);
    }

    fn push_word(&mut self, word: usize, length: usize, weight: f32) {
        if self.tokens.len() + length > self.room {
            self.close();
        }
        self.has_tokens = true;
        self.tokens.extend((0..length).map(|vector| (Token::Vector(word, vector), weight)));
    }

    fn push(&mut self, token: u32, weight: f32, comma: Option<u32>) {
        if Some(token) == comma {
            self.last_comma = Some(self.tokens.len());
        } else if let Some(last) = self.last_comma.filter(|last| self.tokens.len() == self.room && self.room - last <= BACKTRACK)
            && self.done.len() + 1 < self.most
        {
            let moved = self.tokens.split_off(last + 1);
            self.close();
            self.tokens = moved;
        }
        if self.tokens.len() == self.room {
            self.close();
        }
        self.has_tokens = true;
        self.tokens.push((Token::Id(token), weight));
    }
}

impl Tokenizer {
    /// Cuts `parts`, in which `words` may stand, into chunks of [`max_length`](Self::max_length) ids, at most `most` of them.
    ///
    /// # Errors
    /// The vocabulary has no token for a word of them nor one for unknown words; a new word is longer than a chunk.
    pub fn chunks(&self, parts: &[Part], words: &[NewWord], most: usize) -> Result<Chunked> {
        chunked(self, parts, words, most)
    }

    /// Whether a text stands between a start and an end token, so that chunks of it can be read one by one.
    #[must_use]
    pub fn has_ends(&self) -> bool {
        let (before, after) = self.around();
        !before.is_empty() && !after.is_empty()
    }
}

/// Cuts `parts`, in which `words` may stand, into at most `most` chunks.
///
/// # Errors
/// As [`Tokenizer::encode`]; a refusal: a word is longer than a chunk.
fn chunked(tokenizer: &Tokenizer, parts: &[Part], words: &[NewWord], most: usize) -> Result<Chunked> {
    let (before, after) = tokenizer.around();
    let room = tokenizer.max_length() - before.len() - after.len();
    let comma = tokenizer.comma();
    let mut filling = Filling {
        tokenizer,
        room,
        most: most.max(1),
        done: Vec::new(),
        tokens: Vec::new(),
        last_comma: None,
        left_out: Vec::new(),
        has_tokens: false,
    };
    for part in parts {
        match part {
            // Where there is one chunk only, what comes after a break follows at once.
            Part::Break if filling.most > 1 => filling.close(),
            Part::Break => {}
            Part::Text(text, weight) => {
                for piece in pieces(text, words) {
                    match piece {
                        Piece::Known(text) => {
                            tokenizer.pieces(text)?.into_iter().for_each(|token| filling.push(token, *weight, comma));
                        }
                        Piece::New(word) => {
                            let (name, length) = (&words[word].name, words[word].length());
                            if length > room {
                                refuse!(
                                    "embedding `{name}`: has {length} vectors, and the text encoder reads {room} tokens at once"
                                );
                            }
                            filling.push_word(word, length, *weight);
                        }
                    }
                }
            }
        }
    }
    if !filling.tokens.is_empty() || filling.done.is_empty() {
        filling.close();
    }
    if !filling.has_tokens {
        let text: String =
            parts.iter().filter_map(|part| if let Part::Text(text, _) = part { Some(text.as_str()) } else { None }).collect();
        if !text.trim().is_empty() {
            log::warn!(target: PROMPTS, "the model knows nothing of {text:?}, and reads it as an empty prompt");
        }
    }
    let truncated = (!filling.left_out.is_empty()).then(|| tokenizer.decode(&filling.left_out));
    Ok(Chunked { chunks: filling.done, truncated })
}
