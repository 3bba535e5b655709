"""Tiny diffusion transformers of diffusers' own classes: Stable Diffusion 3 and Flux, with random weights."""

import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import T5Config, T5EncoderModel

import tiny_schedulers
from tiny_networks import SAMPLE_SIZE, fill, text_encoder
from tiny_sentences import sentences, vocabulary
from tiny_tokenizer import END

LATENT_CHANNELS = 16
SENTENCE_WIDTH = 64


def t5(seed: int, width: int = SENTENCE_WIDTH) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(vocabulary()),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=32,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return fill(T5EncoderModel(config), seed, gain=0.7)


def sentence_tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        return sentences(Path(folder))


def autoencoder(seed: int, scaling_factor: float, shift_factor: float) -> AutoencoderKL:
    """Sixteen latent channels, no convolution between them and the decoder, a shift beside the factor: as both publish it."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=SAMPLE_SIZE * 4,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    fill(vae, seed)
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.6)
    return vae


def calmer(transformer: torch.nn.Module) -> torch.nn.Module:
    """Tames the modulation: each block multiplies by what a random projection of the time says, and two blocks of that blow up."""
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name == "context_embedder.weight":
                # The words must show.
                parameter.mul_(3.0)
            if ".norm" in name and ".linear" in name or name.startswith("norm_out.linear"):
                parameter.mul_(0.3)
    return transformer


def stable_diffusion_3(seed: int, config: dict, encoders: tuple = (24, 32), third: bool = True, **transformer):
    first, second = encoders
    return StableDiffusion3Pipeline(
        transformer=calmer(
            fill(
                SD3Transformer2DModel(
                    **(
                        dict(
                            sample_size=SAMPLE_SIZE,
                            patch_size=2,
                            in_channels=LATENT_CHANNELS,
                            out_channels=LATENT_CHANNELS,
                            num_layers=2,
                            attention_head_dim=8,
                            num_attention_heads=2,
                            joint_attention_dim=SENTENCE_WIDTH,
                            caption_projection_dim=16,
                            pooled_projection_dim=first + second,
                            pos_embed_max_size=16,
                        )
                        | transformer
                    )
                ),
                seed + 1,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(config),
        vae=autoencoder(seed + 2, 1.5305, 0.0609),
        text_encoder=text_encoder(seed, hidden=first, layers=2, activation="quick_gelu", projection=first),
        text_encoder_2=text_encoder(seed + 3, hidden=second, layers=3, activation="gelu", projection=second),
        text_encoder_3=t5(seed + 4) if third else None,
        tokenizer=tokenizer(END),
        tokenizer_2=tokenizer("!"),
        tokenizer_3=sentence_tokenizer() if third else None,
    )


def tokenizer(pad: str):
    # Here, since the other pipelines' module imports this one.
    from tiny_pipelines import tokenizer as clip

    return clip(pad)


def sd3():
    return stable_diffusion_3(600, tiny_schedulers.SD3)


def sd35_turbo():
    """Normalised queries and keys, a second attention in the first block: what 3.5 added. Without the third encoder."""
    return stable_diffusion_3(620, tiny_schedulers.SD3, third=False, qk_norm="rms_norm", dual_attention_layers=(0,))


def flux(seed: int, config: dict, guided: bool):
    width = 24
    return FluxPipeline(
        transformer=calmer(
            fill(
                FluxTransformer2DModel(
                    patch_size=1,
                    in_channels=4 * LATENT_CHANNELS,
                    num_layers=1,
                    num_single_layers=2,
                    attention_head_dim=16,
                    num_attention_heads=2,
                    joint_attention_dim=SENTENCE_WIDTH,
                    pooled_projection_dim=width,
                    guidance_embeds=guided,
                    axes_dims_rope=(4, 6, 6),
                ),
                seed + 1,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(config),
        vae=autoencoder(seed + 2, 0.3611, 0.1159),
        text_encoder=text_encoder(seed, hidden=width, layers=2, activation="quick_gelu"),
        text_encoder_2=t5(seed + 4),
        tokenizer=tokenizer(END),
        tokenizer_2=sentence_tokenizer(),
    )


def flux_schnell():
    return flux(640, tiny_schedulers.FLUX_SCHNELL, guided=False)


def flux_dev():
    return flux(660, tiny_schedulers.FLUX_DEV, guided=True)
