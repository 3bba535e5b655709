//! The table of providers: the one place that says what each is called, what it takes and what it is like.

use super::option::Values::{Integer, OneOf};
use super::option::{OptionKey, Values};
use super::{Provider, chips, graphics};
use crate::runtime::Precision;

/// What is known of a provider.
#[derive(Debug)]
pub struct Facts {
    /// The name by which a person asks for it.
    pub name: &'static str,
    /// The name under which ONNX Runtime knows it, built in or as a plugin's device.
    pub runtime_name: &'static str,
    /// What it runs on.
    pub hardware: &'static str,
    /// Where a library with it comes from.
    pub source: &'static str,
    /// What it makes on opening a network that is worth keeping for the next time.
    pub kept: Kept,
    /// The precisions that it runs best, the best first; a bundle's plain file where none of them is there.
    pub precisions: &'static [Precision],
    /// Whether tensors live in memory that the processor does not see.
    pub has_own_memory: bool,
    /// That memory, where a result may stay in it for the next network; `None` where it is not known how.
    pub keeps: Option<DeviceMemory>,
    /// Whether a batch of several costs clearly less than as many single runs.
    pub gains_from_batches: bool,
    /// Whether it takes only networks whose every dimension is known when they are opened.
    pub takes_fixed_shapes: bool,
    /// Whether it leaves arithmetic on shapes to the processor on purpose, since that costs less there.
    pub leaves_shapes: bool,
    /// Whether it is chosen when nobody names one.
    pub auto: Auto,
    /// The largest difference from the processor's results that rounding explains, as a share of the largest value.
    pub tolerance: f32,
    /// On what that was measured; `None` where it is an assumption.
    pub measured_on: Option<&'static str>,
    /// Its words for off and on.
    pub(super) switch: [&'static str; 2],
    /// What it takes.
    pub options: &'static [OptionKey],
}

/// Memory of a device in which tensors stay from network to network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// ONNX Runtime's name for it.
    pub name: &'static str,
    /// Who runs small networks on it: a provider that compiles would take longer over one than it is worth.
    pub by: Provider,
    /// The option by which a network's kernels are recorded, and would go on to read and write where they did then.
    pub records_by: &'static str,
}

/// What a provider makes on opening a network that is worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// An engine or a compiled model in a folder, which the option of this key names.
    InFolder(&'static str),
    /// A model file that holds or names what was compiled (ONNX Runtime's `ep.context_enable`).
    Context,
}

/// Whether a provider is chosen when nobody names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto {
    /// Where it is there and runs a small network.
    Tried,
    /// Never, for this reason.
    Never(&'static str),
}

pub(super) const SLOW_FIRST: &str = "it compiles for minutes before the first picture";
pub(super) const FIXED_ONLY: &str = "it compiles each network anew for each size of picture";
pub(super) const MAYBE_SLOWER: &str = "it is not quicker than the processor on every board";

/// A row without surprises, from which the others differ.
pub(super) const PLAIN: Facts = Facts {
    name: "cpu",
    runtime_name: "CPUExecutionProvider",
    hardware: "the processor",
    source: "every ONNX Runtime holds it",
    kept: Kept::Nothing,
    precisions: &[Precision::F32],
    has_own_memory: false,
    keeps: None,
    gains_from_batches: false,
    takes_fixed_shapes: false,
    leaves_shapes: false,
    auto: Auto::Tried,
    tolerance: 0.0,
    measured_on: None,
    switch: ["0", "1"],
    options: &[],
};

static CPU: Facts = Facts { measured_on: Some("the others are held against it"), ..PLAIN };

pub(super) const fn option(key: &'static str, values: Values, meaning: &'static str) -> OptionKey {
    OptionKey { key, meaning, values }
}

pub(super) const DEVICE_ID: OptionKey = option("device_id", Integer(0, 63), "which device, from 0");
pub(super) const LARGEST_BYTES: i64 = 1 << 40;
pub(super) const ARENA: OptionKey = option(
    "arena_extend_strategy",
    OneOf(&["kNextPowerOfTwo", "kSameAsRequested"]),
    "how its memory grows: kSameAsRequested holds less",
);
pub(super) const HALF_FIRST: &[Precision] = &[Precision::Fp16, Precision::F32];
pub(super) const INTEGERS_FIRST: &[Precision] = &[Precision::Int8, Precision::Fp16, Precision::F32];

pub(super) fn facts(provider: Provider) -> &'static Facts {
    match provider {
        Provider::Cpu => &CPU,
        Provider::Cuda => &graphics::CUDA,
        Provider::TensorRt => &graphics::TENSORRT,
        Provider::NvRtx => &graphics::NVRTX,
        Provider::OpenVino => &chips::OPENVINO,
        Provider::Qnn => &chips::QNN,
        Provider::WebGpu => &graphics::WEBGPU,
        Provider::Xnnpack => &chips::XNNPACK,
        Provider::Acl => &chips::ACL,
        Provider::ArmNn => &chips::ARMNN,
        Provider::Rknpu => &chips::RKNPU,
        Provider::Vitis => &chips::VITIS,
        Provider::Cann => &chips::CANN,
        Provider::MiGraphX => &graphics::MIGRAPHX,
        Provider::DirectMl => &graphics::DIRECTML,
        Provider::CoreMl => &chips::COREML,
        Provider::NnApi => &chips::NNAPI,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_keys_are_told_apart() {
        let names: BTreeSet<_> = Provider::ALL.iter().map(|provider| provider.name()).collect();
        let runtime_names: BTreeSet<_> = Provider::ALL.iter().map(|provider| provider.runtime_name()).collect();
        assert_eq!((names.len(), runtime_names.len()), (17, 17));
        assert!(!names.contains("auto"));
        for provider in Provider::ALL {
            let keys: BTreeSet<_> = provider.facts().options.iter().map(|option| option.key.to_ascii_lowercase()).collect();
            assert_eq!(keys.len(), provider.facts().options.len(), "{provider}");
            assert!(keys.iter().all(|key| key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')));
            assert!(!provider.facts().precisions.is_empty());
            // One shape serves every request then: a single row.
            assert!(!(provider.facts().takes_fixed_shapes && provider.gains_from_batches()), "{provider}");
            if let Kept::InFolder(key) = provider.facts().kept {
                assert!(
                    provider.facts().options.iter().any(|option| option.key == key && option.values == Values::Folder),
                    "{provider}"
                );
            }
            assert_eq!(Provider::named(&provider.name().to_uppercase()), Some(provider));
            assert_eq!(Provider::of_runtime_name(provider.runtime_name()), Some(provider));
        }
    }
}
