//! The tokenizer of a text encoder, as its architecture reads prompts: how long, in which letters, behind which instruction.
//!
//! In: a bundle. Out: a [`PromptTokenizer`], held against its encoder.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::{Architecture, Bundle, Role, names};
use crate::text::Tokenizer;

/// What becomes of the padding behind a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// The encoder reads it like the text.
    Read,
    /// The encoder is told where it is, and the denoiser given zeros for it.
    Zeroed,
    /// The encoder is told where it is, and so is the denoiser.
    Told,
    /// The encoder reads it like the text, and the denoiser is told where it is.
    ToldAfter,
}

impl Padding {
    pub(super) fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Wan => Self::Zeroed,
            Architecture::Ltx => Self::ToldAfter,
            architecture if architecture.is_masked() => Self::Told,
            _ => Self::Read,
        }
    }

    /// Whether the encoder reads it like the text.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ToldAfter)
    }

    /// Whether the denoiser is told where it is.
    pub(super) fn is_told(self) -> bool {
        matches!(self, Self::Told | Self::ToldAfter)
    }
}

/// A text that stands before every prompt, and the tokenizer of both together.
pub(super) struct Instruction {
    pub(super) text: String,
    pub(super) tokenizer: Tokenizer,
}

/// The tokenizer of one text encoder.
pub(super) struct PromptTokenizer {
    pub(super) tokenizer: Tokenizer,
    /// What the model was trained to see before a prompt, where its folder has it.
    pub(super) instruction: Option<Instruction>,
    /// Whether texts are read in small letters, without blanks around them.
    lowers: bool,
}

impl PromptTokenizer {
    /// Reads the tokenizer in `folder` and holds it against the encoder of `role`: as many ids as that takes, and none that it has no
    /// embedding for.
    ///
    /// # Errors
    /// A file is missing or broken; the encoder takes no ids or, where it has to know the padding, no mask; its vocabulary is smaller;
    /// the instruction and a prompt are longer than it reads.
    pub(super) fn open(bundle: &Bundle, architecture: Architecture, role: Role, folder: &str) -> Result<Self> {
        let folder = bundle.folder.join(folder);
        let name = || folder.display().to_string();
        let mut tokenizer = Tokenizer::open(&folder)?;
        let longest = architecture.sentence_tokens(role);
        if tokenizer.max_length() > longest || (architecture.fills_up() && tokenizer.max_length() != longest) {
            tokenizer = tokenizer.with_max_length(longest).with_context(name)?;
        }
        let encoder = bundle.component(role)?;
        let port = encoder.input(names::INPUT_IDS).with_context(|| format!("{role}: has no input for token ids"))?;
        if !Padding::of(architecture).is_read() && encoder.input(names::ATTENTION_MASK).is_none() {
            bail!(
                "{role}/model.onnx: has no input `{}`, and the text would be read together with its padding",
                names::ATTENTION_MASK[0]
            );
        }
        let fixed = port.shape.get(1).copied().flatten();
        if let Some(length) = fixed.filter(|length| *length != tokenizer.max_length()) {
            log::info!("{role}: takes {length} tokens, its tokenizer says {}", tokenizer.max_length());
            tokenizer = tokenizer.with_max_length(length).with_context(name)?;
        }
        if let Some(size) = encoder.vocabulary_size()?.filter(|size| u64::from(tokenizer.largest_id()) >= *size as u64) {
            bail!(
                "{}: has token ids up to {}, and {role}/config.json says `vocab_size` {size}: they are of two models",
                folder.display(),
                tokenizer.largest_id()
            );
        }
        let instruction = match &bundle.instruction {
            Some(text) => Some(Instruction::new(text, &tokenizer, fixed).with_context(name)?),
            None => None,
        };
        Ok(Self { tokenizer, instruction, lowers: architecture.is_masked() })
    }

    /// The text as the encoder was trained to see it.
    pub(super) fn prepared<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.lowers { Cow::Owned(text.to_lowercase().trim().to_owned()) } else { Cow::Borrowed(text) }
    }
}

impl Instruction {
    /// * `fixed`: tokens that the encoder takes when it takes no other count
    fn new(text: &str, tokenizer: &Tokenizer, fixed: Option<usize>) -> Result<Self> {
        // Both counts hold what stands around a text, of which one is enough; diffusers takes the start of the prompt away as well.
        let together = tokenizer.count(text)? + tokenizer.max_length() - 2;
        ensure!(
            fixed.is_none_or(|fixed| fixed == together),
            "text_encoder/model.onnx: takes {} tokens, and the instruction in model_index.json makes it {together} of a prompt; export it \
             with its tokens left open",
            fixed.unwrap_or_default()
        );
        let tokenizer =
            tokenizer.clone().with_max_length(together).context("model_index.json: `complex_human_instruction` is too long")?;
        Ok(Self { text: text.to_owned(), tokenizer })
    }
}
