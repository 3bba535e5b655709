"""Tiny Stable Diffusion networks of diffusers' and transformers' own classes, with weights that make a picture.

Every weight is drawn from its own generator, seeded by the weight's name, so a network is the same wherever and in
whatever order it is built. Plain random weights would test little: a random denoiser hardly reacts to its prompt and
its latents blow up. So a few weights are set by hand (`denoiser`, `steady_denoiser`, `autoencoder`).
"""

import zlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tiny_tokenizer import MAX_LENGTH, vocabulary

LATENT_CHANNELS = 4
SAMPLE_SIZE = 16


def fill(module: torch.nn.Module, seed: int, gain: float = 1.0) -> torch.nn.Module:
    """Draws every parameter by name: matrices with unit-variance outputs times `gain`, norms near 1, biases near 0."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                fan_in = parameter[0].numel()
                scale = 1.0 if "embedding" in name and "weight" in name and parameter.dim() == 2 else fan_in**-0.5
                parameter.copy_(values * scale * gain)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.1 * values)
            else:
                parameter.copy_(0.1 * values)
    return module.eval()


def text_encoder(seed: int, hidden: int, layers: int, activation: str, projection: int | None = None):
    tokens, _ = vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        projection_dim=projection or hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
        hidden_act=activation,
        # As published: 2 makes the class pool at the highest id, whatever the vocabulary.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    encoder = CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)
    fill(encoder, seed)
    with torch.no_grad():
        # Positions must not drown the words.
        encoder.text_model.embeddings.position_embedding.weight.mul_(0.3)
    return encoder


def denoiser(seed: int, structured: bool = True, **config) -> UNet2DConditionModel:
    defaults = dict(
        sample_size=SAMPLE_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(8, 12),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    unet = fill(UNet2DConditionModel(**(defaults | config)), seed, gain=0.8)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            # The words must show: sharper attention to them, and more of it in the result.
            if ".attn2." in name and name.endswith("weight"):
                parameter.mul_(3.0 if "to_out" in name else 2.0)
    if structured:
        steady_denoiser(unet)
    return unet


def steady_denoiser(unet: UNet2DConditionModel, keep: float = 4.0) -> None:
    """Lets the latent run through beside the random part, as it does in a trained noise predictor.

    Eight channels carry +x and -x of the four latent channels from `conv_in` over the last skip connection to
    `conv_out`; there silu(x) - silu(-x) = x, so the output is the normalised latent plus the random part. Without this
    the latents grow as 1/alpha.
    """
    with torch.no_grad():
        last = unet.up_blocks[-1].resnets[-1]
        before = last.conv_shortcut.weight.shape[1] - unet.conv_in.out_channels
        norm, out = unet.conv_norm_out, unet.conv_out
        out.weight.mul_(0.4)
        out.bias.mul_(0.5)
        for channel in range(LATENT_CHANNELS):
            for at, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
                unet.conv_in.weight[at].mul_(0.2)
                unet.conv_in.weight[at, channel, 1, 1] += sign
                last.conv_shortcut.weight[at, before + at, 0, 0] += keep
                norm.weight[at], norm.bias[at] = 1.0, 0.0
                out.weight[channel, at, 1, 1] += 0.8 * sign


def autoencoder(seed: int, scaling_factor: float = 0.18215) -> AutoencoderKL:
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
    )
    fill(vae, seed)
    with torch.no_grad():
        # Latents of a spread near 1 / scaling_factor, and a posterior wide enough for its noise to show in the result.
        vae.quant_conv.weight.zero_()
        for channel in range(2 * LATENT_CHANNELS):
            vae.quant_conv.weight[channel, channel] = 4.0 if channel < LATENT_CHANNELS else 0.7
        vae.decoder.conv_out.weight.mul_(0.6)
    return vae
