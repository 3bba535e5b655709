//! The names under which exporters write a port, the commonest first.

/// Token ids into a text encoder.
pub const INPUT_IDS: &[&str] = &["input_ids"];
/// A text encoder's last layer.
pub const LAST_HIDDEN_STATE: &[&str] = &["last_hidden_state"];
/// A text encoder's pooled embedding.
pub const POOLED: &[&str] = &["text_embeds", "pooler_output"];
/// Latents into the denoiser.
pub const SAMPLE: &[&str] = &["sample", "latent", "latents"];
/// Latents into a transformer.
pub const HIDDEN_STATES: &[&str] = &["hidden_states"];
/// The pooled text embedding into a transformer.
pub const POOLED_PROJECTIONS: &[&str] = &["pooled_projections"];
/// Row and column of each patch of latents.
pub const PATCH_PLACES: &[&str] = &["img_ids"];
/// The same for each token of the text, which has none.
pub const TOKEN_PLACES: &[&str] = &["txt_ids"];
/// The guidance scale that a transformer was distilled to be told.
pub const GUIDANCE: &[&str] = &["guidance"];
/// Frames of a clip that are shown in a second.
pub const FRAME_RATE: &[&str] = &["frame_rate"];
/// Where the denoiser stands on the way.
pub const TIMESTEP: &[&str] = &["timestep", "timesteps", "t"];
/// Text embeddings into the denoiser.
pub const ENCODER_HIDDEN_STATES: &[&str] = &["encoder_hidden_states"];
/// What an image encoder gives of a picture, into a transformer.
pub const ENCODER_HIDDEN_STATES_IMAGE: &[&str] = &["encoder_hidden_states_image"];
/// Which tokens of the text embeddings are the text's rather than padding.
pub const ENCODER_ATTENTION_MASK: &[&str] = &["encoder_attention_mask"];
/// Height and width of the picture in pixels.
pub const RESOLUTION: &[&str] = &["resolution"];
/// The picture's height divided by its width.
pub const ASPECT_RATIO: &[&str] = &["aspect_ratio"];
/// The guidance embedding of a latent consistency model.
pub const TIMESTEP_COND: &[&str] = &["timestep_cond"];
/// SDXL's pooled text embedding.
pub const TEXT_EMBEDS: &[&str] = &["text_embeds"];
/// SDXL's sizes and crops.
pub const TIME_IDS: &[&str] = &["time_ids"];
/// A picture into an encoder.
pub const PICTURE: &[&str] = &["sample", "image", "pixel_values"];
/// A picture as CLIP sees it, into an image encoder.
pub const PIXEL_VALUES: &[&str] = &["pixel_values"];
/// What an image encoder gives of it.
pub const IMAGE_EMBEDS: &[&str] = &["image_embeds"];
/// Latents into a decoder.
pub const LATENT: &[&str] = &["latent_sample", "latent", "latents", "sample", "z"];
/// The encoder's mean and logarithm of the variance, one after the other along the channels.
pub const LATENT_PARAMETERS: &[&str] = &["latent_parameters", "moments"];
/// A picture as CLIP sees it, into a safety checker.
pub const CLIP_INPUT: &[&str] = &["clip_input"];
/// The picture itself, into a safety checker.
pub const SHOWN: &[&str] = &["images"];
/// Whether a safety checker holds a picture back.
pub const VERDICT: &[&str] = &["has_nsfw_concepts"];
/// What a causal encoder or decoder is given of what it remembers, one port for each convolution: this and a number.
pub const PAST: &str = "past.";
/// The same as it gives it for the next latents.
pub const PRESENT: &str = "present.";
/// What a dimension is called that is as long as a side of a latent; behind a number and `*`, that many times as long.
pub const LATENT_SIDES: [&str; 2] = ["latent_height", "latent_width"];
/// Which tokens are the text's rather than padding.
pub const ATTENTION_MASK: &[&str] = &["attention_mask"];
/// A picture's class.
pub const CLASS_LABELS: &[&str] = &["class_labels", "labels"];
/// Into how many steps the way is cut, which a denoiser that was distilled by halving is told.
pub const STEP_COUNT: &[&str] = &["step_count"];
/// Styles out of the mapping network and into the synthesis network.
pub const STYLES: &[&str] = &["styles", "w"];
/// Mean of a latent's distribution.
pub const MEAN: &[&str] = &["mean"];
/// Logarithm of its variance.
pub const LOG_VARIANCE: &[&str] = &["log_variance", "logvar"];
/// Logarithm of the determinant of a flow's Jacobian.
pub const LOG_DETERMINANT: &[&str] = &["log_determinant"];
/// Latents that the encoder drew already.
pub const DRAWN_LATENT: &[&str] = &["latent_sample", "latents", "latent"];
/// The picture that steers a denoiser, in [0, 1].
pub const CONTROL: &[&str] = &["controlnet_cond"];
/// How strongly it steers.
pub const CONTROL_SCALE: &[&str] = &["conditioning_scale"];
