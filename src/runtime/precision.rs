//! The precisions in which the weights of a network are kept.

use std::fmt;
use std::str::FromStr;

/// How the weights of a variant of a network are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Precision {
    /// As the network was exported, 32-bit floating point as a rule.
    #[default]
    F32,
    /// 16-bit floating point.
    Fp16,
    /// 8-bit integers.
    Int8,
    /// 4-bit integers.
    Q4,
}

impl Precision {
    /// Every precision, the most exact first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Fp16, Self::Int8, Self::Q4];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::Q4 => "q4",
        }
    }

    /// The word that an ONNX file's header has for weights of this kind.
    #[must_use]
    pub fn weights(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Fp16 => "f16",
            Self::Int8 => "int8",
            Self::Q4 => "int4",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("is `{text}`, expected f32, fp16, int8 or q4"))
    }
}
