//! Words into embeddings.
//!
//! In: texts. Out: [`Embeddings`], one row for each text. One encoder gives its last layer; SDXL's two give their last layer
//! but one, side by side, and the second its pooled embedding.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use super::networks::Networks;
use crate::bundle::{Bundle, Role, find, names};
use crate::runtime::{Cancel, Port, Tensor};
use crate::text::Tokenizer;

/// What the denoiser is told about the texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[B, L, D]` f32, one row for each token of each text.
    pub tokens: ArrayD<f32>,
    /// `[B, P]` f32, each text as a whole; SDXL's denoiser takes it.
    pub pooled: Option<ArrayD<f32>>,
}

/// The tokenizers of a bundle, and how its encoders are called.
pub struct TextEncoders {
    tokenizers: Vec<(Role, Tokenizer)>,
    is_xl: bool,
}

impl TextEncoders {
    /// Reads the tokenizers of `bundle`; none where it takes no text.
    ///
    /// # Errors
    /// A tokenizer's folder is missing or a file in it is broken.
    pub fn open(bundle: &Bundle) -> Result<Self> {
        let mut tokenizers = Vec::new();
        if bundle.takes_text() {
            tokenizers.push((Role::TextEncoder, tokenizer(bundle, Role::TextEncoder, "tokenizer")?));
        }
        if bundle.is_xl() {
            tokenizers.push((Role::TextEncoder2, tokenizer(bundle, Role::TextEncoder2, "tokenizer_2")?));
        }
        Ok(Self { tokenizers, is_xl: bundle.is_xl() })
    }

    /// The encoders, in the order in which their embeddings are joined.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<'_> {
        self.tokenizers.iter().map(|(role, _)| *role)
    }

    /// Encodes one text with the encoder of `role`.
    ///
    /// # Errors
    /// The text cannot be tokenized; the encoder fails or gives another shape.
    pub fn encode(&self, role: Role, text: &str, networks: &mut Networks, cancel: &Cancel) -> Result<Embeddings> {
        let found = self.tokenizers.iter().find(|(of, _)| *of == role);
        let (_, tokenizer) = found.with_context(|| format!("{role}: has no tokenizer"))?;
        let tokens = tokenizer.encode(text)?;
        if let Some(rest) = &tokens.truncated {
            let shown: String = rest.chars().take(80).collect();
            let more = if shown.len() < rest.len() { "…" } else { "" };
            log::warn!("{role}: the prompt is longer than the {} tokens it reads; left out: {shown:?}{more}", tokens.ids.len());
        }
        let ids = Tensor::Integer(ArrayD::from_shape_vec(IxDyn(&[1, tokens.ids.len()]), tokens.ids)?);
        let attention = Tensor::Integer(ArrayD::ones(IxDyn(ids.shape())));
        let inputs: Vec<Port> = networks.inputs(role, cancel)?.to_vec();
        let given: Vec<(&str, &Tensor)> = inputs
            .iter()
            .map(|port| (port.name.as_str(), if port.name == "attention_mask" { &attention } else { &ids }))
            .collect();
        let outputs = networks.outputs(role, cancel)?.to_vec();
        let layer = if self.is_xl {
            last_layer_but_one(role, &outputs)?
        } else {
            let port = find(&outputs, names::LAST_HIDDEN_STATE).or_else(|| outputs.first());
            port.map(|port| port.name.clone()).with_context(|| format!("{role}: has no output"))?
        };
        let mut wanted = vec![layer.as_str()];
        let wants_pooled = role == Role::TextEncoder2;
        if wants_pooled {
            wanted.push(&find(&outputs, names::POOLED).with_context(|| format!("{role}: has no output `text_embeds`"))?.name);
        }
        let mut results = networks.run(role, &given, &wanted, cancel)?;
        let pooled = if wants_pooled { results.pop() } else { None };
        let tokens = results.pop().with_context(|| format!("{role}: gave nothing"))?;
        if tokens.ndim() != 3 {
            bail!("{role}: gave text embeddings of shape {:?}, expected [batch, tokens, width]", tokens.shape());
        }
        Ok(Embeddings { tokens, pooled })
    }
}

impl Embeddings {
    /// Joins what several encoders say of one text, side by side.
    ///
    /// # Errors
    /// They give embeddings of different lengths.
    pub fn joined(parts: &[Self]) -> Result<Self> {
        let views: Vec<_> = parts.iter().map(|part| part.tokens.view()).collect();
        let tokens = concatenate(Axis(2), &views).context("the text encoders give embeddings of different lengths")?;
        Ok(Self { tokens, pooled: parts.iter().find_map(|part| part.pooled.clone()) })
    }

    /// All zeros, of the same shapes: what SDXL takes for no negative prompt.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            tokens: ArrayD::zeros(self.tokens.raw_dim()),
            pooled: self.pooled.as_ref().map(|pooled| ArrayD::zeros(pooled.raw_dim())),
        }
    }
}

/// Reads a tokenizer and holds it against its encoder: as many ids as that takes, and none that it has no embedding for.
fn tokenizer(bundle: &Bundle, role: Role, folder: &str) -> Result<Tokenizer> {
    let folder = bundle.folder.join(folder);
    let mut tokenizer = Tokenizer::open(&folder)?;
    let encoder = bundle.component(role)?;
    let port = encoder.input(names::INPUT_IDS).with_context(|| format!("{role}: has no input for token ids"))?;
    if let Some(length) = port.shape.get(1).copied().flatten().filter(|length| *length != tokenizer.max_length()) {
        log::info!("{role}: takes {length} tokens, its tokenizer says {}", tokenizer.max_length());
        tokenizer = tokenizer.with_max_length(length).with_context(|| folder.display().to_string())?;
    }
    if let Some(size) = encoder.vocabulary_size()?.filter(|size| u64::from(tokenizer.largest_id()) >= *size as u64) {
        bail!(
            "{}: has token ids up to {}, and {role}/config.json says `vocab_size` {size}: they are of two models",
            folder.display(),
            tokenizer.largest_id()
        );
    }
    Ok(tokenizer)
}

/// The name of the last hidden layer but one among `hidden_states.0` to `hidden_states.N`.
fn last_layer_but_one(role: Role, outputs: &[Port]) -> Result<String> {
    let number = |port: &Port| port.name.strip_prefix("hidden_states.")?.parse::<usize>().ok();
    let Some(last) = outputs.iter().filter_map(number).max() else {
        bail!("{role}: has no outputs `hidden_states.N`, of which SDXL takes the last but one; export it again with them");
    };
    Ok(format!("hidden_states.{}", last.saturating_sub(1)))
}
