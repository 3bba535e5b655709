//! CLIP's tokenizer: byte pairs within words, in lower case.
//!
//! R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words with subword units", 2016, arXiv:1508.07909;
//! A. Radford et al., "Learning transferable visual models from natural language supervision", 2021, arXiv:2103.00020.
//!
//! In: `vocab.json` (token → id), `merges.txt` (pairs, most frequent first) and a text. Out: the ids that transformers' `CLIPTokenizer`
//! gives where `ftfy` is not installed, which is what diffusers needs and most people run:
//!
//! 1. tokens with a meaning are cut out of the text as it was written;
//! 2. the rest loses control characters, ideographs become words of their own, white space becomes single spaces, letters are
//!    composed (NFC) and put in lower case;
//! 3. it is cut into words, runs of signs and single digits;
//! 4. the bytes of each become letters of a printable alphabet, the last one marked `</w>`, and pairs are merged.
//!
//! Which characters are unassigned and how accents are ordered depends on the version of Unicode: an emoji of recent years, which
//! an older Python drops in step 2, may count here, and two stacked accents of rare scripts may stay in another order.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

use super::file::{read_file, read_json};
use super::settings::Settings;
use super::tokenizer::Encoded;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const WORD_END: &str = "</w>";
/// Merges that transformers reads: CLIP's 49,408 tokens less 512 letters, the start and the end token.
const MOST_MERGES: usize = 48_894;
/// Step 3; the tokens with a meaning stand here once more because lower case may have brought them about.
///
/// U+0345 is neither a letter nor a sign to Python's `regex`, which folds its case to a letter's in one place and not in the
/// other; it falls out.
const WORDS: &str = r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+";
/// Control, format, private and unassigned characters but for white space.
const CONTROL: &str = r"[\p{C}\x{FFFD}&&[^\t\n\r]]";

/// A vocabulary, its merges, and the tokens with a meaning.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    pairs: BPE,
    words: Split,
    control: Replace,
    special: BTreeMap<String, u32>,
    letters: [char; 256],
    start: u32,
    end: u32,
    pad: u32,
    largest_id: u32,
}

impl Clip {
    /// Ids of a text where the folder does not say.
    pub(super) const MAX_LENGTH: usize = 77;
    /// The start and the end token.
    pub(super) const AROUND: usize = 2;

    /// Reads the two files.
    pub(super) fn open(vocabulary: &Path, merges: &Path, settings: &Settings) -> Result<Self> {
        let name = vocabulary.display();
        let ids: HashMap<String, u32> = read_json(vocabulary)?;
        let mut special = settings.added()?;
        let mut role = |key: &str, default: &str| -> Result<(String, u32)> {
            let token = settings.token(key)?.unwrap_or_else(|| default.to_owned());
            let listed = special.get(&token).or_else(|| ids.get(&token)).copied();
            let id = listed.with_context(|| format!("{name} has no token {token:?}, the `{key}`"))?;
            special.insert(token.clone(), id);
            Ok((token, id))
        };
        let (_, start) = role("bos_token", START)?;
        let (_, end) = role("eos_token", END)?;
        let (_, pad) = role("pad_token", END)?;
        let (unknown, _) = role("unk_token", END)?;
        let largest_id = ids.values().chain(special.values()).copied().max().unwrap_or_default();

        // A listed token may be missing from the file, and the pairs need the one for what is unknown.
        let known = ids.into_iter().chain(special.iter().map(|(token, id)| (token.clone(), *id)));
        let known: Vocab = known.collect();
        let merges = read_merges(merges, &known)?;
        let pairs = BPE::builder()
            .vocab_and_merges(known, merges)
            .unk_token(unknown)
            .end_of_word_suffix(WORD_END.to_owned())
            .build()
            .map_err(|error| anyhow!("{name}: {error}"))?;
        let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true);
        let control = Replace::new(ReplacePattern::Regex(CONTROL.to_owned()), "");
        Ok(Self {
            pairs,
            words: words.map_err(|error| anyhow!("words: {error}"))?,
            control: control.map_err(|error| anyhow!("control characters: {error}"))?,
            special,
            letters: letters(),
            start,
            end,
            pad,
            largest_id,
        })
    }

    pub(super) fn pad(&self) -> u32 {
        self.pad
    }

    pub(super) fn largest_id(&self) -> u32 {
        self.largest_id
    }

    /// Gives start token, at most `max_length` − 2 ids of the text, and end token.
    pub(super) fn encode(&self, text: &str, max_length: usize) -> Result<Encoded> {
        let mut ids = vec![self.start];
        ids.extend(self.pieces(text)?);
        let room = max_length.saturating_sub(1);
        let truncated = (ids.len() > room).then(|| self.decode(&ids[room..]));
        ids.truncate(room);
        ids.push(self.end);
        Ok(Encoded { ids, truncated })
    }

    /// The start and the end token.
    pub(super) fn around(&self) -> (&[u32], &[u32]) {
        (std::slice::from_ref(&self.start), std::slice::from_ref(&self.end))
    }

    /// Gives the ids of a text alone, however many they are.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, found) = self.find_special(rest);
            self.push_words(&rest[..before], &mut ids)?;
            rest = &rest[before..];
            if let Some((token, id)) = found {
                ids.push(id);
                rest = &rest[token.len()..];
            }
        }
        Ok(ids)
    }

    /// Finds the first token with a meaning, the longest where two begin together: the length of what stands before it, and itself.
    fn find_special<'a>(&'a self, text: &str) -> (usize, Option<(&'a str, u32)>) {
        for (start, _) in text.char_indices() {
            let here = self.special.iter().filter(|(token, _)| text[start..].starts_with(token.as_str()));
            if let Some((token, id)) = here.max_by_key(|(token, _)| token.len()) {
                return (start, Some((token, *id)));
            }
        }
        (text.len(), None)
    }

    /// Adds the ids of a piece of text without tokens of meaning.
    fn push_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut words = PreTokenizedString::from(self.clean(text)?);
        self.words.pre_tokenize(&mut words).map_err(|error| anyhow!("words of the prompt: {error}"))?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if let (START | END, Some(id)) = (word, self.special.get(word)) {
                ids.push(*id);
                continue;
            }
            let letters: String = word.bytes().map(|byte| self.letters[usize::from(byte)]).collect();
            let tokens = self.pairs.tokenize(&letters).map_err(|error| anyhow!("a word of the prompt: {error}"))?;
            ids.extend(tokens.into_iter().map(|token| token.id));
        }
        Ok(())
    }

    /// Step 2.
    fn clean(&self, text: &str) -> Result<String> {
        let mut normalized = NormalizedString::from(text);
        self.control.normalize(&mut normalized).map_err(|error| anyhow!("control characters: {error}"))?;
        let mut spaced = String::with_capacity(normalized.get().len());
        for letter in normalized.get().chars() {
            if is_ideograph(letter) {
                spaced.extend([' ', letter, ' ']);
            } else {
                spaced.push(letter);
            }
        }
        let mut composed = NormalizedString::from(spaced);
        composed.nfc();
        let words: Vec<String> = composed.get().split_whitespace().map(str::to_lowercase).collect();
        Ok(words.join(" "))
    }

    /// Gives the text that ids stand for, as far as it can be told.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let tokens: String = ids.iter().filter_map(|id| self.pairs.id_to_token(*id)).collect();
        let bytes_of: HashMap<char, u8> = self.letters.iter().copied().zip(0..=255).collect();
        let words = tokens.split(WORD_END).map(|word| {
            let bytes: Vec<u8> = word.chars().filter_map(|letter| bytes_of.get(&letter).copied()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        words.collect::<Vec<_>>().join(" ").trim().to_owned()
    }
}

/// Reads `merges.txt`: a line that names its version, then a pair a line.
fn read_merges(path: &Path, known: &Vocab) -> Result<Vec<(String, String)>> {
    let name = path.display();
    let text = String::from_utf8(read_file(path)?).with_context(|| name.to_string())?;
    let mut merges = Vec::new();
    for (number, line) in (1..).zip(text.lines()).skip(1).take(MOST_MERGES) {
        let mut parts = line.split_whitespace();
        let (first, second) = match (parts.next(), parts.next(), parts.next()) {
            (Some(first), Some(second), None) => (first, second),
            (None, ..) => continue,
            _ => anyhow::bail!("{name}: line {number} is {:?}, expected two tokens", line.chars().take(60).collect::<String>()),
        };
        for token in [first, second, &format!("{first}{second}")] {
            ensure!(known.contains_key(token), "{name}: line {number} names {token:?}, which vocab.json lacks");
        }
        merges.push((first.to_owned(), second.to_owned()));
    }
    Ok(merges)
}

/// Gives each byte a printable letter: itself where it is one in Latin-1, the letters from U+0100 on otherwise.
fn letters() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match u8::try_from(byte) {
        Ok(byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..)) => char::from(byte),
        _ => others.next().unwrap_or_default(),
    })
}

/// Whether a letter is one of the Chinese characters that transformers sets apart.
fn is_ideograph(letter: char) -> bool {
    matches!(
        letter,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b820}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters = letters();
        assert_eq!((letters[0], letters[usize::from(b' ')], letters[usize::from(b'a')], letters[0xad]), ('Ā', 'Ġ', 'a', 'Ń'));
        assert_eq!(letters.iter().collect::<std::collections::HashSet<_>>().len(), 256);
    }

    #[test]
    fn ideographs_are_set_apart_and_syllables_are_not() {
        assert!(['一', '猫', '㐀', '𠀀', '豈'].into_iter().all(is_ideograph));
        assert!(!['a', 'あ', '빨', '🌞'].into_iter().any(is_ideograph));
    }
}
