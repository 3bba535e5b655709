//! Words into embeddings.
//!
//! In: texts. Out: [`Embeddings`], one row for each text. One encoder gives its last layer; SDXL's two give their last layer
//! but one, side by side, and the second its pooled embedding.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use super::networks::Networks;
use crate::bundle::{Architecture, Bundle, Role, find, names};
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

impl Embeddings {
    /// All zeros, of the same shapes: what SDXL takes for no negative prompt.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self {
            tokens: ArrayD::zeros(self.tokens.raw_dim()),
            pooled: self.pooled.as_ref().map(|pooled| ArrayD::zeros(pooled.raw_dim())),
        }
    }
}

/// The tokenizers of a bundle, and how its encoders are called.
pub struct TextEncoders {
    tokenizers: Vec<(Role, Tokenizer)>,
    architecture: Architecture,
}

impl TextEncoders {
    /// Reads the tokenizers of `bundle`.
    ///
    /// # Errors
    /// A tokenizer's folder is missing or a file in it is broken.
    pub fn open(bundle: &Bundle) -> Result<Self> {
        let mut tokenizers = vec![(Role::TextEncoder, Tokenizer::open(&bundle.folder.join("tokenizer"))?)];
        if bundle.architecture == Architecture::StableDiffusionXl {
            tokenizers.push((Role::TextEncoder2, Tokenizer::open(&bundle.folder.join("tokenizer_2"))?));
        }
        Ok(Self { tokenizers, architecture: bundle.architecture })
    }

    /// Encodes one text.
    ///
    /// # Errors
    /// The text cannot be tokenized; an encoder fails or gives shapes that do not fit together.
    pub fn encode(&self, networks: &mut Networks, text: &str, cancel: &Cancel) -> Result<Embeddings> {
        let mut layers = Vec::new();
        let mut pooled = None;
        for (role, tokenizer) in &self.tokenizers {
            let tokens = tokenizer.encode(text)?;
            if let Some(rest) = &tokens.truncated {
                log::warn!("{role}: the prompt is longer than the {} tokens it reads; left out: {rest:?}", tokens.ids.len());
            }
            let ids = Tensor::Integer(ArrayD::from_shape_vec(IxDyn(&[1, tokens.ids.len()]), tokens.ids)?);
            let attention = Tensor::Integer(ArrayD::ones(IxDyn(ids.shape())));
            let inputs: Vec<Port> = networks.inputs(*role, cancel)?.to_vec();
            let given: Vec<(&str, &Tensor)> = inputs
                .iter()
                .map(|port| (port.name.as_str(), if port.name == "attention_mask" { &attention } else { &ids }))
                .collect();
            let outputs = networks.outputs(*role, cancel)?.to_vec();
            let layer = match self.architecture {
                Architecture::StableDiffusion => {
                    let port = find(&outputs, names::LAST_HIDDEN_STATE).or_else(|| outputs.first());
                    port.map(|port| port.name.clone()).with_context(|| format!("{role}: has no output"))?
                }
                Architecture::StableDiffusionXl => last_layer_but_one(*role, &outputs)?,
            };
            let wants_pooled = *role == Role::TextEncoder2;
            let mut wanted = vec![layer.as_str()];
            if wants_pooled {
                wanted.push(&find(&outputs, names::POOLED).with_context(|| format!("{role}: has no output `text_embeds`"))?.name);
            }
            let mut results = networks.run(*role, &given, &wanted, cancel)?;
            if wants_pooled {
                pooled = results.pop();
            }
            let layer = results.pop().with_context(|| format!("{role}: gave nothing"))?;
            if layer.ndim() != 3 {
                bail!("{role}: gave text embeddings of shape {:?}, expected [batch, tokens, width]", layer.shape());
            }
            layers.push(layer);
        }
        let views: Vec<_> = layers.iter().map(|layer| layer.view()).collect();
        let tokens = concatenate(Axis(2), &views).context("the text encoders give embeddings of different lengths")?;
        Ok(Embeddings { tokens, pooled })
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
