//! The execution providers that a network can be given to: what each is, what it takes, whether it is there.
//!
//! In: a name and options as a person types them. Out: a [`ProviderSetup`] that sessions are opened with. Which component gets which
//! is decided elsewhere.

mod chips;
mod graphics;
mod option;
mod placement;
mod plugin;
mod probe;
mod registration;
mod setup;
mod shapes;
mod table;

use std::fmt;

pub use option::{OptionKey, Values};
pub use placement::Placement;
pub(super) use placement::{LEFT_TO_PROCESSOR, PlacementLog};
pub(super) use registration::{append, is_built_in};
pub use setup::ProviderSetup;
pub(super) use shapes::ShapeNodes;
pub use table::{Auto, DeviceMemory, Facts, Kept};

/// An ONNX Runtime execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Provider {
    /// The processor's own kernels, in every build of ONNX Runtime.
    #[default]
    Cpu,
    /// NVIDIA GPUs by CUDA and cuDNN.
    Cuda,
    /// NVIDIA GPUs and DLA by TensorRT engines.
    TensorRt,
    /// NVIDIA RTX GPUs by TensorRT for RTX.
    NvRtx,
    /// Intel processors, GPUs and NPUs by OpenVINO.
    OpenVino,
    /// Qualcomm's NPU and GPU by QNN.
    Qnn,
    /// GPUs by WebGPU over Vulkan, Metal or Direct3D.
    WebGpu,
    /// ARM and x86 processors by XNNPACK.
    Xnnpack,
    /// ARM processors by the Arm Compute Library.
    Acl,
    /// ARM processors and Mali GPUs by Arm NN.
    ArmNn,
    /// Rockchip's NPU.
    Rknpu,
    /// AMD's NPU and Xilinx devices by Vitis AI.
    Vitis,
    /// Huawei Ascend by CANN.
    Cann,
    /// AMD GPUs by MIGraphX.
    MiGraphX,
    /// Windows GPUs and NPUs by DirectML.
    DirectMl,
    /// Apple's processor, GPU and Neural Engine by Core ML.
    CoreMl,
    /// Android's accelerators by NNAPI.
    NnApi,
}

impl Provider {
    /// Every provider; those that `auto` takes stand in the order in which it tries them.
    pub const ALL: [Self; 17] = [
        Self::Cpu,
        Self::Cuda,
        Self::TensorRt,
        Self::NvRtx,
        Self::MiGraphX,
        Self::DirectMl,
        Self::CoreMl,
        Self::OpenVino,
        Self::Qnn,
        Self::WebGpu,
        Self::Xnnpack,
        Self::Acl,
        Self::ArmNn,
        Self::Rknpu,
        Self::Vitis,
        Self::Cann,
        Self::NnApi,
    ];

    /// What is known of it.
    #[must_use]
    pub fn facts(self) -> &'static Facts {
        table::facts(self)
    }

    /// The name by which a person asks for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The provider of that name, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name().eq_ignore_ascii_case(name))
    }

    /// The name under which ONNX Runtime knows it.
    #[must_use]
    pub fn runtime_name(self) -> &'static str {
        self.facts().runtime_name
    }

    /// The provider that ONNX Runtime knows under `name`.
    #[must_use]
    pub fn of_runtime_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.runtime_name().eq_ignore_ascii_case(name))
    }

    /// Whether a batch of several costs clearly less than as many single runs.
    #[must_use]
    pub fn gains_from_batches(self) -> bool {
        self.facts().gains_from_batches
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
