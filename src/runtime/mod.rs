//! The one place that names ONNX Runtime: finding the library, opening networks, running them, stopping them.
//!
//! In: files and tensors. Out: tensors. What a tensor means (a prompt, a latent, a picture) is not known here.

mod board;
mod cancel;
mod conversion;
mod device;
mod device_tensor;
mod dimensions;
#[cfg(unix)]
mod elf;
mod failure;
mod graph;
mod held;
mod library;
mod network;
mod opening;
mod precision;
mod provider;
mod tensor;
pub mod token_vectors;
pub(crate) mod wire;

pub use board::{
    Accelerator, AcceleratorKind, Board, CoreKind, Driver, Fact, MachineMemory, MemoryLimit, PowerMode, Processor, Temperature,
};
pub use cancel::{Cancel, Watch};
pub use device::{free_disk_bytes, load_average, logical_cores, peak_memory_bytes, resident_memory_bytes};
#[cfg(test)]
pub(crate) use device_tensor::stand_in::PROCESSOR_KEEPS;
pub use device_tensor::{DeviceTensor, Given};
pub use dimensions::Dimensions;
pub use graph::Graph;
pub use held::HeldInputs;
pub use library::{OLDEST_RUNTIME, Runtime, library_identity};
pub use network::{Fallback, Network, NetworkOptions};
pub use precision::Precision;
pub use provider::{Auto, DeviceMemory, Facts, Kept, OptionKey, Placement, Provider, ProviderSetup, Values};
pub use tensor::{Element, Port, Tensor};

/// ONNX Runtime's messages span lines; an error is one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
