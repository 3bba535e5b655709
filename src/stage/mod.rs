//! One component's call each: what goes in, what comes out, in which range.
//!
//! In: tensors with a meaning. Out: tensors with a meaning. Not here: loops, samplers, random numbers.

mod ahead;
mod call;
mod causal;
mod causal_decoder;
mod causal_encoder;
mod class_denoiser;
mod clip_decoder;
mod decoder;
mod denoiser;
mod device_loop;
mod device_networks;
mod image_encoder;
mod networks;
mod new_words;
mod picture_encoder;
mod prompt_tokenizer;
mod rows;
mod text_encoder;
mod tiles;
mod told;
mod transformer;

pub use call::{ClassLabels, call, check_shape, picture_shape};
pub use causal_decoder::{CausalDecoder, decode_clip_in_tiles};
pub use causal_encoder::CausalEncoder;
pub use class_denoiser::ClassDenoiser;
pub use clip_decoder::ClipDecoder;
pub use decoder::{Decoding, PreviewMap, decode, decode_within_memory, preview_decode};
pub use denoiser::{Conditioning, Denoiser, MaskChannels};
pub use device_loop::{DeviceDenoiser, DeviceLoop, Predictions, Stepped, Terms};
pub use image_encoder::encode_image;
pub use networks::{ComponentTimes, Networks};
pub use picture_encoder::{EncodedPicture, encode_picture};
pub use text_encoder::{Embeddings, Reading, TextEncoders};
// For `benches/`, which has no bundle to call `decode` with.
#[doc(hidden)]
pub use tiles::decode_tiles;
pub use told::Pass;
pub use transformer::Transformer;
