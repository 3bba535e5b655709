//! The execution providers that a network can be given to.

use std::fmt;

/// An ONNX Runtime execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// The processor's own kernels, in every build of ONNX Runtime.
    #[default]
    Cpu,
}

impl Provider {
    /// The name under which ONNX Runtime knows it.
    #[must_use]
    pub fn runtime_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
        }
    }

    /// Whether a batch of several costs clearly less than as many single runs.
    #[must_use]
    pub fn gains_from_batches(self) -> bool {
        match self {
            Self::Cpu => false,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "cpu",
        })
    }
}
