//! Words into embeddings.
//!
//! In: texts. Out: [`Embeddings`], one row for each text, joined as the architecture has it:
//!
//! | architecture | tokens | pooled |
//! | --- | --- | --- |
//! | Stable Diffusion, AnimateDiff | the last layer | none |
//! | SDXL | the last layers but one, side by side | the second encoder's |
//! | Stable Diffusion 3 | the same, filled up with zeros to T5's width; then T5's, or zeros without it | the first two, side by side |
//! | Flux | T5's | CLIP's |
//! | Wan | UMT5's, which does not look at the padding; zeros in its place | none |
//! | LTX-Video | T5's, padding and all, and where it is | none |
//! | PixArt | T5's, which does not look at the padding, and where it is | none |
//! | Sana | Gemma's, of the prompt behind the instruction: the first token and the last; and where padding is | none |

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, IxDyn, Slice, concatenate};

use super::networks::Networks;
use super::new_words::new_words;
use super::prompt_tokenizer::{Padding, PromptTokenizer};
use crate::bundle::{Architecture, Bundle, Role, find, names};
use crate::error::PROMPTS;
use crate::refuse;
use crate::runtime::token_vectors::{KEPT, VECTORS};
use crate::runtime::{Cancel, Port, Tensor};
use crate::text::{Chunk, Chunked, NewWord, Part, Tokenizer, Tokens, parts};

/// Chunks of a text that are read at most: attention to many thousand tokens fills the memory.
const MOST_CHUNKS: usize = 20;

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As it stands, cut where the encoder's length ends: what diffusers does.
    Plain,
    /// Brackets weigh words, and a long text is read in chunks: what Stable Diffusion web UI does.
    Weighted,
    /// As it stands, behind the instruction that the model was trained with; where it has none as [`Reading::Plain`].
    Instructed,
}

/// What the denoiser is told about the texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[B, L, D]` f32, one row for each token of each text.
    pub tokens: ArrayD<f32>,
    /// `[B, P]` f32, each text as a whole; only some denoisers take it.
    pub pooled: Option<ArrayD<f32>>,
    /// `[B, L]` f32, 1 for a token of the text and 0 for padding; only some denoisers take it.
    pub mask: Option<ArrayD<f32>>,
}

/// The tokenizers of a bundle, and how its encoders are called.
pub struct TextEncoders {
    tokenizers: Vec<(Role, PromptTokenizer)>,
    words: Vec<NewWord>,
    architecture: Architecture,
    /// Width of the embeddings that the denoiser takes, where its file or its configuration says so.
    width: Option<usize>,
    /// Whether the denoiser takes embeddings of any number of tokens.
    joins_chunks: bool,
}

impl TextEncoders {
    /// Reads the tokenizers of `bundle`; none where it takes no text. New words are those of its folder `embeddings` and of `embeddings`.
    ///
    /// # Errors
    /// A tokenizer's folder is missing or a file in it is broken; as for the words, see `new_words.rs`.
    pub fn open(bundle: &Bundle, embeddings: &[String]) -> Result<Self> {
        let words = new_words(bundle, embeddings)?;
        let Some(architecture) = bundle.architecture() else {
            return Ok(Self {
                words,
                tokenizers: Vec::new(),
                architecture: Architecture::StableDiffusion,
                width: None,
                joins_chunks: false,
            });
        };
        let there = architecture.text_encoders().iter().filter(|(role, _)| bundle.components.contains_key(role));
        let tokenizers = there
            .map(|(role, folder)| Ok((*role, PromptTokenizer::open(bundle, architecture, *role, folder)?)))
            .collect::<Result<Vec<_>>>()?;
        let denoiser = bundle.component(architecture.denoiser())?;
        let port = denoiser.input(names::ENCODER_HIDDEN_STATES);
        let declared = denoiser.value("joint_attention_dim").and_then(serde_json::Value::as_u64);
        let width = port.and_then(|port| port.shape.last().copied().flatten());
        let width = width.or(declared.filter(|width| *width <= 65_536).and_then(|width| usize::try_from(width).ok()));
        let joins_chunks = port.is_some_and(|port| port.shape.get(1).is_none_or(Option::is_none));
        Ok(Self { tokenizers, words, architecture, width, joins_chunks })
    }

    /// The encoders, in the order in which their embeddings are joined.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<'_> {
        self.tokenizers.iter().map(|(role, _)| *role)
    }

    /// Encodes one text with the encoder of `role`.
    ///
    /// * `reading`: whether brackets weigh words and a long text is read in chunks
    ///
    /// # Errors
    /// The text cannot be tokenized; a weight is out of range, or weights cancel each other out; the encoder fails or gives another shape.
    pub fn encode(
        &self,
        role: Role,
        text: &str,
        reading: Reading,
        networks: &mut Networks,
        cancel: &Cancel,
    ) -> Result<Embeddings> {
        let found = self.tokenizers.iter().find(|(of, _)| *of == role);
        let (_, prompts) = found.with_context(|| format!("{role}: has no tokenizer"))?;
        let tokenizer = &prompts.tokenizer;
        let prepared = prompts.prepared(text);
        let text = prepared.as_ref();
        if let (Reading::Instructed, Some(instruction)) = (reading, &prompts.instruction) {
            let read = instruction.tokenizer.encode(&format!("{}{text}", instruction.text))?;
            self.tell_of_rest(role, &instruction.tokenizer, read.ids.len(), read.truncated.as_deref());
            let whole = self.call(role, &plain(read), networks, cancel)?;
            return whole.of_ends(tokenizer.max_length());
        }
        let has_new = !NewWord::used(text, &self.words).is_empty();
        if reading != Reading::Weighted && !has_new {
            let tokens = tokenizer.encode(text)?;
            self.tell_of_rest(role, tokenizer, tokens.ids.len(), tokens.truncated.as_deref());
            return self.call(role, &plain(tokens), networks, cancel);
        }
        let (most, parts) = match reading {
            Reading::Plain | Reading::Instructed => (1, vec![Part::Text(text.to_owned(), 1.0)]),
            Reading::Weighted if self.joins_chunks && tokenizer.has_ends() => (MOST_CHUNKS, parts("prompt", text)?),
            Reading::Weighted => (1, parts("prompt", text)?),
        };
        let Chunked { chunks, truncated } = tokenizer.chunks(&parts, &self.words, most)?;
        self.tell_of_rest(role, tokenizer, most * tokenizer.max_length(), truncated.as_deref());
        let (mut tokens, mut pooled) = (Vec::new(), None);
        for chunk in chunks {
            let mut embeddings = self.call(role, &chunk, networks, cancel)?;
            weigh(&mut embeddings.tokens, &chunk.weights)?;
            tokens.push(embeddings.tokens);
            // What a chunk says as a whole is said by the first, weights aside.
            pooled = pooled.or(embeddings.pooled);
        }
        let views: Vec<_> = tokens.iter().map(|tokens| tokens.view()).collect();
        Ok(Embeddings { tokens: concatenate(Axis(1), &views)?, pooled, mask: None })
    }

    /// Warns of what of a text was left out.
    fn tell_of_rest(&self, role: Role, tokenizer: &Tokenizer, read: usize, rest: Option<&str>) {
        let Some(rest) = rest else { return };
        let shown: String = rest.chars().take(80).collect();
        let more = if shown.len() < rest.len() { "…" } else { "" };
        let told = format!("{role}: the prompt is longer than the {read} tokens it reads; left out: {shown:?}{more}");
        // Where another encoder reads further the rest is not lost.
        let reads_further = self.tokenizers.iter().any(|(_, other)| other.tokenizer.max_length() > tokenizer.max_length());
        log::log!(target: PROMPTS, if reads_further { log::Level::Info } else { log::Level::Warn }, "{told}");
    }

    /// Runs the encoder of `role` on one chunk.
    fn call(&self, role: Role, chunk: &Chunk, networks: &mut Networks, cancel: &Cancel) -> Result<Embeddings> {
        let length = chunk.ids.len();
        let ids = Tensor::Integer(ArrayD::from_shape_vec(IxDyn(&[1, length]), chunk.ids.clone())?);
        let padding = Padding::of(self.architecture);
        let read = if padding.is_read() { length } else { chunk.used };
        let attention = Tensor::Integer(ArrayD::from_shape_fn(IxDyn(ids.shape()), |at| i64::from(at[1] < read)));
        if !chunk.vectors.is_empty() {
            networks.take_vectors(role)?;
        }
        let inputs: Vec<Port> = networks.inputs(role, cancel)?.to_vec();
        let door = match inputs.iter().find(|port| port.name == VECTORS) {
            Some(port) => Some(self.vectors(role, chunk, port.shape.last().copied().flatten().unwrap_or_default())?),
            None => None,
        };
        let given: Vec<(&str, &Tensor)> = inputs
            .iter()
            .map(|port| match (port.name.as_str(), &door) {
                (KEPT, Some((kept, _))) => (KEPT, kept),
                (VECTORS, Some((_, vectors))) => (VECTORS, vectors),
                ("attention_mask", _) => (port.name.as_str(), &attention),
                _ => (port.name.as_str(), &ids),
            })
            .collect();
        let outputs = networks.outputs(role, cancel)?.to_vec();
        let layer = if takes_last_but_one(self.architecture, role) {
            last_layer_but_one(role, &outputs)?
        } else {
            let port = find(&outputs, names::LAST_HIDDEN_STATE).or_else(|| outputs.first());
            port.map(|port| port.name.clone()).with_context(|| format!("{role}: has no output"))?
        };
        let mut wanted = vec![layer.as_str()];
        let wants_pooled = gives_pooled(self.architecture, role);
        if wants_pooled {
            let pooled = find(&outputs, names::POOLED);
            wanted.push(&pooled.with_context(|| format!("{role}: has no output `{}`", names::POOLED.join("` or `")))?.name);
        }
        let mut results = networks.run(role, &given, &wanted, cancel)?;
        let pooled = if wants_pooled { results.pop() } else { None };
        let mut tokens = results.pop().with_context(|| format!("{role}: gave nothing"))?;
        if tokens.ndim() != 3 {
            bail!("{role}: gave text embeddings of shape {:?}, expected [batch, tokens, width]", tokens.shape());
        }
        if padding == Padding::Zeroed && tokens.len_of(Axis(1)) > chunk.used {
            tokens.slice_axis_mut(Axis(1), Slice::from(chunk.used..)).fill(0.0);
        }
        let mask = ArrayD::from_shape_fn(IxDyn(&[1, length]), |at| if at[1] < chunk.used { 1.0 } else { 0.0 });
        Ok(Embeddings { tokens, pooled, mask: padding.is_told().then_some(mask) })
    }

    /// What goes through the door of a text encoder of `width`: which places keep their own vectors, and the others'.
    fn vectors(&self, role: Role, chunk: &Chunk, width: usize) -> Result<(Tensor, Tensor)> {
        let encoder = self.tokenizers.iter().position(|(of, _)| *of == role).unwrap_or_default();
        let length = chunk.ids.len();
        let (mut kept, mut vectors) = (ArrayD::ones(IxDyn(&[1, length, 1])), ArrayD::zeros(IxDyn(&[1, length, width])));
        for (place, word, vector) in &chunk.vectors {
            let word = &self.words[*word];
            let values = word.vectors.get(encoder).and_then(|vectors| vectors.get(*vector));
            let values = values.with_context(|| format!("embedding `{}`: has no vectors for {role}", word.name))?;
            ensure!(
                values.len() == width,
                "embedding `{}`: has vectors of {}, and {role} takes {width}",
                word.name,
                values.len()
            );
            kept[[0, *place, 0]] = 0.0;
            values.iter().enumerate().for_each(|(at, value)| vectors[[0, *place, at]] = *value);
        }
        Ok((kept.into(), vectors.into()))
    }

    /// The new words that stand in one of `texts`.
    pub fn used<'a>(&'a self, texts: &[&str]) -> Vec<&'a NewWord> {
        let used = texts.iter().flat_map(|text| NewWord::used(text, &self.words)).collect::<BTreeSet<_>>();
        used.into_iter().map(|word| &self.words[word]).collect()
    }

    /// Joins what the encoders say of one text, `parts` in their order.
    ///
    /// # Errors
    /// They give embeddings of different lengths, or wider ones than the denoiser takes.
    pub fn joined(&self, parts: &[Embeddings]) -> Result<Embeddings> {
        let pooled: Vec<_> = parts.iter().filter_map(|part| part.pooled.as_ref().map(|pooled| pooled.view())).collect();
        let pooled = match pooled.is_empty() {
            true => None,
            false => {
                Some(concatenate(Axis(1), &pooled).context("the text encoders give pooled embeddings of different lengths")?)
            }
        };
        let tokens = match (self.architecture, parts) {
            (Architecture::Flux, [.., sentence]) => sentence.tokens.clone(),
            (Architecture::StableDiffusion3, [first, second, rest @ ..]) => {
                let pair = side_by_side(&[first, second])?;
                let sentence = rest.first().map(|sentence| &sentence.tokens);
                let width = sentence.map(|sentence| sentence.len_of(Axis(2))).or(self.width);
                let width = width.context("transformer/config.json: has no `joint_attention_dim`")?;
                below_each_other(&pair, sentence, width)?
            }
            _ => side_by_side(&parts.iter().collect::<Vec<_>>())?,
        };
        // Where padding is, a denoiser with one encoder is told alone.
        let mask = parts.first().and_then(|part| part.mask.clone());
        Ok(Embeddings { tokens, pooled, mask })
    }
}

/// A text that is read as it stands, as one chunk.
fn plain(Tokens { ids, used, .. }: Tokens) -> Chunk {
    Chunk { weights: vec![1.0; ids.len()], ids, vectors: Vec::new(), used }
}

/// Multiplies each token's embedding by its weight, and all of them so that their mean is what it was before.
///
/// * `tokens`: `[1, L, D]` f32
/// * `weights`: `[L]`
fn weigh(tokens: &mut ArrayD<f32>, weights: &[f32]) -> Result<()> {
    if weights.iter().all(|weight| *weight == 1.0) {
        return Ok(());
    }
    let sum = |tokens: &ArrayD<f32>| tokens.iter().map(|value| f64::from(*value)).sum::<f64>();
    let before = sum(tokens);
    for (mut token, weight) in tokens.axis_iter_mut(Axis(1)).zip(weights) {
        token.mapv_inplace(|value| value * weight);
    }
    #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
    let back = (before / sum(tokens)) as f32;
    // Weights above nothing that turn the mean round would turn every word round with it, and a negative prompt into a prompt.
    if !back.is_finite() || (back < 0.0 && weights.iter().all(|weight| *weight >= 0.0)) {
        refuse!("prompt: its weights cancel each other out, so that nothing is left to bring back to the usual size; change one");
    }
    tokens.mapv_inplace(|value| value * back);
    Ok(())
}

/// Whether the last layer but one is taken of an encoder, rather than the last.
fn takes_last_but_one(architecture: Architecture, role: Role) -> bool {
    match architecture {
        Architecture::StableDiffusionXl => true,
        Architecture::StableDiffusion3 => role != Role::TextEncoder3,
        _ => false,
    }
}

/// Whether the denoiser is told an encoder's pooled embedding.
fn gives_pooled(architecture: Architecture, role: Role) -> bool {
    match architecture {
        Architecture::StableDiffusionXl => role == Role::TextEncoder2,
        Architecture::StableDiffusion3 => role != Role::TextEncoder3,
        Architecture::Flux => role == Role::TextEncoder,
        _ => false,
    }
}

fn side_by_side(parts: &[&Embeddings]) -> Result<ArrayD<f32>> {
    let views: Vec<_> = parts.iter().map(|part| part.tokens.view()).collect();
    concatenate(Axis(2), &views).context("the text encoders give embeddings of different lengths")
}

/// `pair` filled up with zeros to `width`, and the tokens of `sentence` after its; zeros where there is none.
fn below_each_other(pair: &ArrayD<f32>, sentence: Option<&ArrayD<f32>>, width: usize) -> Result<ArrayD<f32>> {
    let (batch, tokens, narrow) = (pair.len_of(Axis(0)), pair.len_of(Axis(1)), pair.len_of(Axis(2)));
    ensure!(narrow <= width, "the first two text encoders give embeddings of width {narrow}, and the transformer takes {width}");
    let fill = ArrayD::zeros(IxDyn(&[batch, tokens, width - narrow]));
    let wide = concatenate(Axis(2), &[pair.view(), fill.view()])?;
    let none;
    let sentence = match sentence {
        Some(sentence) => sentence,
        None => {
            let tokens = Architecture::StableDiffusion3.sentence_tokens(Role::TextEncoder3);
            none = ArrayD::zeros(IxDyn(&[batch, tokens, width]));
            &none
        }
    };
    Ok(concatenate(Axis(1), &[wide.view(), sentence.view()])?)
}

impl Embeddings {
    /// All zeros, of the same shapes: what SDXL takes for no negative prompt.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            tokens: ArrayD::zeros(self.tokens.raw_dim()),
            pooled: self.pooled.as_ref().map(|pooled| ArrayD::zeros(pooled.raw_dim())),
            mask: self.mask.clone(),
        }
    }

    /// The first token and as many of the last that there are `length` of them in all.
    fn of_ends(self, length: usize) -> Result<Self> {
        let found = self.tokens.len_of(Axis(1));
        ensure!(0 < length && length <= found, "the text encoder gives {found} tokens, expected {length} or more");
        let ends: Vec<usize> = std::iter::once(0).chain(found + 1 - length..found).collect();
        let tokens = self.tokens.select(Axis(1), &ends);
        Ok(Self { tokens, pooled: self.pooled, mask: self.mask.map(|mask| mask.select(Axis(1), &ends)) })
    }
}

/// The name of the last hidden layer but one among `hidden_states.0` to `hidden_states.N`.
fn last_layer_but_one(role: Role, outputs: &[Port]) -> Result<String> {
    let number = |port: &Port| port.name.strip_prefix("hidden_states.")?.parse::<usize>().ok();
    let Some(last) = outputs.iter().filter_map(number).max() else {
        bail!("{role}: has no outputs `hidden_states.N`, of which SDXL takes the last but one; export it again with them");
    };
    Ok(format!("hidden_states.{}", last.saturating_sub(1)))
}
