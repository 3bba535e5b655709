"""Tiny transformers that are told where a text's padding is, of diffusers' own classes with random weights: PixArt and Sana."""

import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
)
from transformers import Gemma2Config, Gemma2Model

import tiny_schedulers
from tiny_gemma import gemma_tokenizer, vocabulary
from tiny_networks import LATENT_CHANNELS, SAMPLE_SIZE, autoencoder, fill
from tiny_transformers import SENTENCE_WIDTH, sentence_tokenizer, t5

# Three parts of it are told the size and the proportions of the picture.
PIXART_WIDTH = 24


def pix_art_transformer(seed: int, **changes) -> PixArtTransformer2DModel:
    plain = dict(
        num_attention_heads=2,
        attention_head_dim=PIXART_WIDTH // 2,
        in_channels=LATENT_CHANNELS,
        # The half of them is a variance, which no sampler takes.
        out_channels=2 * LATENT_CHANNELS,
        num_layers=2,
        cross_attention_dim=PIXART_WIDTH,
        sample_size=SAMPLE_SIZE,
        patch_size=2,
        caption_channels=SENTENCE_WIDTH,
        use_additional_conditions=False,
    )
    transformer = fill(PixArtTransformer2DModel(**(plain | changes)), seed)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "scale_shift_table" in name or name == "adaln_single.linear.weight":
                # Each block multiplies by what a random projection of the time says, and two blocks of that blow up.
                parameter.mul_(0.1)
            if "resolution_embedder.linear_2" in name or "aspect_ratio_embedder.linear_2" in name:
                parameter.mul_(2.0)
    steady(transformer)
    return transformer


def steady(transformer: PixArtTransformer2DModel, keep: float = 4.0) -> None:
    """Lets the latents run through beside the random part, as they do in a trained noise predictor: the
    network is wider than a patch of them, and its first places hold them. Without this they grow as 1/alpha."""
    weight, out = transformer.pos_embed.proj.weight, transformer.proj_out
    with torch.no_grad():
        weight.mul_(0.2)
        out.weight.mul_(0.05)
        out.bias.mul_(0.1)
        for channel in range(LATENT_CHANNELS):
            for place in range(4):
                at = 4 * channel + place
                weight[at, channel, place // 2, place % 2] += keep
                out.weight[2 * LATENT_CHANNELS * place + channel, at] += 0.82


def pixart_sigma() -> PixArtSigmaPipeline:
    seed = 800
    return PixArtSigmaPipeline(
        tokenizer=sentence_tokenizer(),
        text_encoder=t5(seed),
        vae=autoencoder(seed + 2, scaling_factor=0.13025),
        transformer=pix_art_transformer(seed + 1, interpolation_scale=2),
        scheduler=DPMSolverMultistepScheduler.from_config(tiny_schedulers.PIXART),
    )


def pixart_lcm() -> PixArtAlphaPipeline:
    """PixArt-Alpha of the size at which its pipeline tells the transformer the picture's, with the sampler of PixArt-LCM."""
    seed = 820
    return PixArtAlphaPipeline(
        tokenizer=sentence_tokenizer(),
        text_encoder=t5(seed),
        vae=autoencoder(seed + 2),
        transformer=pix_art_transformer(seed + 1, sample_size=128, use_additional_conditions=True),
        scheduler=LCMScheduler.from_config(tiny_schedulers.PIXART_LCM),
    )


SANA_CHANNELS, SANA_WIDTH, GEMMA_WIDTH = 8, 16, 32
# As a pipeline's own: lines, of which the last ends where the prompt begins.
INSTRUCTION = ["Say what a picture of it shows, with colours and light:", "- a cat -> a small cat in the sun", "It is: "]


def gemma(seed: int) -> Gemma2Model:
    config = Gemma2Config(
        vocab_size=len(vocabulary()),
        hidden_size=GEMMA_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=8192,
        sliding_window=4096,
        use_cache=False,
    )
    encoder = fill(Gemma2Model(config), seed, gain=0.7)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            # Gemma's norms multiply by one more than their weight.
            if "norm" in name:
                parameter.sub_(1.0)
    return encoder


def deep_autoencoder(seed: int) -> AutoencoderDC:
    """Four pixels to a latent; the last blocks have linear attention."""
    vae = AutoencoderDC(
        latent_channels=SANA_CHANNELS,
        attention_head_dim=16,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (3,)),
        decoder_qkv_multiscales=((), (), (3,)),
        scaling_factor=0.41407,
    )
    fill(vae, seed)
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.6)
    return vae


def sana_transformer(seed: int, **changes) -> SanaTransformer2DModel:
    plain = dict(
        in_channels=SANA_CHANNELS,
        out_channels=SANA_CHANNELS,
        num_attention_heads=2,
        attention_head_dim=SANA_WIDTH // 2,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=SANA_WIDTH // 2,
        cross_attention_dim=SANA_WIDTH,
        caption_channels=GEMMA_WIDTH,
        mlp_ratio=2.0,
        attention_bias=True,
        sample_size=SAMPLE_SIZE,
        patch_size=1,
    )
    transformer = fill(SanaTransformer2DModel(**(plain | changes)), seed)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "scale_shift_table" in name or name == "time_embed.linear.weight":
                parameter.mul_(0.3)
            if ".attn2." in name and name.endswith("weight"):
                # The words must show.
                parameter.mul_(1.2)
            if name.endswith(("attn1.to_q.bias", "attn1.to_k.bias")):
                # Linear attention divides by what is left of them above zero, of which few features may leave nothing.
                parameter.add_(1.0)
    return transformer


def sana_tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        return gemma_tokenizer(Path(folder))


def sana() -> SanaPipeline:
    seed = 840
    return SanaPipeline(
        tokenizer=sana_tokenizer(),
        text_encoder=gemma(seed),
        vae=deep_autoencoder(seed + 2),
        transformer=sana_transformer(seed + 1),
        scheduler=DPMSolverMultistepScheduler.from_config(tiny_schedulers.SANA),
    )


def sana_sprint() -> SanaSprintPipeline:
    seed = 860
    return SanaSprintPipeline(
        tokenizer=sana_tokenizer(),
        text_encoder=gemma(seed),
        vae=deep_autoencoder(seed + 2),
        transformer=sana_transformer(seed + 1, guidance_embeds=True, qk_norm="rms_norm_across_heads"),
        scheduler=SCMScheduler.from_config(tiny_schedulers.SANA_SPRINT),
    )
