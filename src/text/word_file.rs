//! Files of new words: what textual inversion learned, as safetensors.
//!
//! | layout | tensors |
//! | --- | --- |
//! | diffusers | one, called as the word, `[D]` or `[N, D]` |
//! | Stable Diffusion web UI | `emb_params`, `[D]` or `[N, D]`; the word is the file's name |
//! | SDXL | `clip_l` and `clip_g`, as many vectors each; the word is the file's name |

use std::path::Path;

use anyhow::{Context, Result};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use super::new_word::NewWord;
use crate::{refusal, refuse};

/// The largest file that is read; 75 vectors of the widest encoders take a hundredth of it.
const LARGEST_FILE_BYTES: u64 = 64 << 20;
/// Vectors of a word; a text has no room for more.
const MOST_VECTORS: usize = 75;
const LONGEST_NAME: usize = 100;
/// Widest embedding that an encoder may have.
const WIDEST: usize = 65_536;
/// What a prompt's brackets, weights and breaks are made of.
const OF_MEANING: [char; 6] = ['(', ')', '[', ']', ':', '\\'];

impl NewWord {
    /// Reads `FILE`, or `NAME=FILE` where the word shall be called otherwise than by the file.
    ///
    /// # Errors
    /// Each is a [`Refusal`](crate::error::Refusal): the file is not there, larger than 64 MiB, a pickle, no safetensors, or of another layout; holds more than 75 vectors or
    /// what is no number; the name has signs of meaning in a prompt.
    pub fn read(wish: &str) -> Result<Self> {
        let named = wish.split_once('=').filter(|_| !Path::new(wish).exists());
        let (name, path) = named.map_or((None, Path::new(wish)), |(name, path)| (Some(name), Path::new(path)));
        let shown = path.display();
        let bytes = bytes_of(path)?;
        let told = |why: String| refusal!("embedding {shown}: {why}");
        if bytes.starts_with(b"PK\x03\x04") || bytes.first() == Some(&0x80) {
            return Err(told(
                "is a pickle, which may run any program when it is read, so Kiln reads none; convert it to safetensors on a machine that may \
                 run what the file says"
                    .to_owned(),
            ));
        }
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| told(format!("is no safetensors file ({error}), expected one that textual inversion wrote")))?;
        let names: Vec<&str> = tensors.names();
        let keys: Vec<&str> = match names[..] {
            ["clip_l", "clip_g"] | ["clip_g", "clip_l"] => vec!["clip_l", "clip_g"],
            [key] => vec![key],
            _ => {
                let list: String = names.join(", ").chars().take(100).collect();
                return Err(told(format!("holds {} tensors ({list}), expected one, or clip_l and clip_g", names.len())));
            }
        };
        let vectors = keys.iter().map(|key| rows(&tensors, key).map_err(&told)).collect::<Result<Vec<_>>>()?;
        if let [first, second] = &vectors[..]
            && first.len() != second.len()
        {
            return Err(told(format!("clip_l has {} vectors and clip_g {}, expected as many", first.len(), second.len())));
        }
        let of_key = keys.first().filter(|key| keys.len() == 1 && **key != "emb_params").map(|key| (*key).to_owned());
        let of_file = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = name.map(str::to_owned).or(of_key).or_else(of_file).unwrap_or_default();
        if name.trim() != name
            || name.is_empty()
            || name.len() > LONGEST_NAME
            || name.contains(|letter: char| letter.is_control())
        {
            let short: String = name.chars().take(40).collect();
            return Err(told(format!("its word is {short:?}, expected 1 to {LONGEST_NAME} letters; call it NAME={shown}")));
        }
        if let Some(letter) = name.chars().find(|letter| OF_MEANING.contains(letter)) {
            return Err(told(format!("its word is `{name}`, and `{letter}` weighs words in a prompt; call it NAME={shown}")));
        }
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name, vectors, sha256 })
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| refusal!("embedding {shown}: {error}"))?;
    if !size.is_file() || size.len() > LARGEST_FILE_BYTES {
        refuse!("embedding {shown}: has {} bytes, expected a file of at most {} MiB", size.len(), LARGEST_FILE_BYTES >> 20);
    }
    std::fs::read(path).map_err(|error| refusal!("embedding {shown}: {error}"))
}

/// The vectors of a tensor, or what is wrong with it.
fn rows(tensors: &SafeTensors<'_>, key: &str) -> Result<Vec<Vec<f32>>, String> {
    let tensor = tensors.tensor(key).map_err(|error| error.to_string())?;
    let (count, width) = match *tensor.shape() {
        [width] => (1, width),
        [count, width] => (count, width),
        _ => return Err(format!("`{key}` is of shape {:?}, expected [vectors, width]", tensor.shape())),
    };
    if !(1..=MOST_VECTORS).contains(&count) || !(1..=WIDEST).contains(&width) {
        return Err(format!("`{key}` is of shape {:?}, expected 1 to {MOST_VECTORS} vectors", tensor.shape()));
    }
    let data = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => data.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?))).collect(),
        Dtype::F16 => {
            data.chunks_exact(2).filter_map(|bytes| Some(f16::from_le_bytes(bytes.try_into().ok()?).to_f32())).collect()
        }
        Dtype::BF16 => {
            data.chunks_exact(2).filter_map(|bytes| Some(bf16::from_le_bytes(bytes.try_into().ok()?).to_f32())).collect()
        }
        other => return Err(format!("`{key}` holds {other:?}, expected F32, F16 or BF16")),
    };
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(format!("`{key}` holds {value}, expected numbers: the training went astray"));
    }
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

/// Reads every embedding of `folder`, in the order of their names; none where there is no such folder.
///
/// # Errors
/// As [`NewWord::read`]; a file's name is no text.
pub fn words_of_folder(folder: &Path) -> Result<Vec<NewWord>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    let read = |path: &std::path::PathBuf| NewWord::read(path.to_str().with_context(|| path.display().to_string())?);
    paths.iter().map(read).collect()
}
