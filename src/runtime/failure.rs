//! What ONNX Runtime's words for a failed run mean.

use anyhow::anyhow;

use crate::error::OutOfMemory;

/// The error of a run of the network `name`, of which the runtime `says` why.
pub(super) fn failed(name: &str, says: &str) -> anyhow::Error {
    let message = format!("{name}: {says}");
    // The file's name may hold any words.
    if says_out_of_memory(says) { OutOfMemory(message).into() } else { anyhow!(message) }
}

/// Whether a failed call is one that found no memory. The runtime has no code of its own for it, so its words must tell: those of the
/// C++ library, of its own arena, and of the drivers of accelerators.
pub(super) fn says_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["bad_alloc", "failed to allocate memory", "out of memory", "out_of_memory", "cudaerrormemoryallocation"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_out_of_memory;

    #[test]
    fn the_runtimes_words_for_no_memory_are_known() {
        for message in [
            "Non-zero status code returned while running Softmax node. Name:'' Status Message: std::bad_alloc",
            "bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate \
             memory for requested buffer of size 1073741824",
            "CUDA failure 2: out of memory ; GPU=0",
        ] {
            assert!(says_out_of_memory(message), "{message}");
        }
        let other = "Got invalid dimensions for input: latent_sample";
        assert!(!says_out_of_memory(other));
        assert!(!is_out_of_memory(&failed("out_of_memory/unet/model.onnx", other)), "a folder's name is no failure");
        assert!(is_out_of_memory(&failed("unet/model.onnx", "std::bad_alloc")));
    }
}
