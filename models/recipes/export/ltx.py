"""Writes a folder that Kiln opens out of an LTX-Video pipeline. See README.md beside this file."""

import argparse
import math
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import LTXPipeline

from exporting import example_mask, export, plain_config, write_around
from wan import export_text_encoder

# Tokens that the published pipelines give the transformer.
TOKENS = 128
# What the mask of the padding adds to the scores of a token that is none.
HIDDEN = -10000.0
# Where the distilled decoders are told that they stand, and the noise that is mixed into their latents, as they are published.
DECODE_TIMESTEP, DECODE_NOISE_SCALE = 0.05, 0.025


def rotations(rope, sides, scales):
    """`LTXVideoRotaryPosEmbed.forward` with its places computed in the graph.

    sides: frames, rows and columns of latents; scales: frames in seconds, rows and columns in pixels
    """
    bases = (rope.base_num_frames, rope.base_height, rope.base_width)
    axes = [torch.arange(side, dtype=torch.float32) * scale / base for side, scale, base in zip(sides, scales, bases)]
    frame, row, column = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    nowhere = (frame + row + column) * 0
    grid = torch.stack([(place + nowhere).flatten() for place in (frame, row, column)], dim=-1)
    frequencies = rope.theta ** torch.linspace(0.0, 1.0, rope.dim // 6, dtype=torch.float32) * math.pi / 2.0
    angles = (frequencies * (grid.unsqueeze(-1) * 2 - 1)).transpose(-1, -2).flatten(1)

    def twice(values):
        # `repeat_interleave` makes the exporter mend another node's constant: the -1 of every reshape becomes 1.
        return torch.stack([values, values], dim=2).flatten(1)

    cosine, sine = twice(angles.cos()), twice(angles.sin())
    rest = rope.dim % 6
    if rest:
        cosine = torch.cat([torch.ones_like(cosine[:, :rest]), cosine], dim=-1)
        sine = torch.cat([torch.zeros_like(sine[:, :rest]), sine], dim=-1)
    return cosine[None], sine[None]


def rotated(values, cosine, sine):
    pairs = values.reshape(values.shape[0], values.shape[1], -1, 2)
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).reshape(values.shape)
    return values * cosine + turned * sine


def attend(attention, values, words=None, bias=None, places=None):
    """`LTXVideoAttnProcessor` with a mask that is not repeated for each head."""
    source = values if words is None else words
    query, key, value = attention.norm_q(attention.to_q(values)), attention.norm_k(attention.to_k(source)), attention.to_v(source)
    if places is not None:
        query, key = rotated(query, *places), rotated(key, *places)
    width = attention.inner_dim // attention.heads
    query, key, value = (
        part.reshape(values.shape[0], -1, attention.heads, width).transpose(1, 2) for part in (query, key, value)
    )
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2)
    found = found.reshape(values.shape[0], -1, attention.inner_dim)
    return attention.to_out[1](attention.to_out[0](found))


def block_of(block, hidden, words, time, places, bias):
    """One `LTXVideoTransformerBlock` with a time for each frame, [B, F, 6D], rather than for each patch, which takes as many times less."""
    batch, frames, width = time.shape[0], time.shape[1], block.scale_shift_table.shape[-1]
    told = (block.scale_shift_table + time.reshape(batch, frames, 6, width)).unsqueeze(2)
    shift_attention, scale_attention, gate_attention, shift_forward, scale_forward, gate_forward = told.unbind(dim=3)

    def by_frame(values, change):
        return change(values.reshape(batch, frames, -1, width)).reshape(batch, -1, width)

    given = by_frame(block.norm1(hidden), lambda values: values * (1 + scale_attention) + shift_attention)
    hidden = hidden + by_frame(attend(block.attn1, given, places=places), lambda values: values * gate_attention)
    hidden = hidden + attend(block.attn2, hidden, words=words, bias=bias)
    given = by_frame(block.norm2(hidden), lambda values: values * (1 + scale_forward) + shift_forward)
    return hidden + by_frame(block.ff(given), lambda values: values * gate_forward)


def export_transformer(transformer, ratios: tuple[int, int], target: Path) -> None:
    """ratios: frames and pixels to a latent."""
    config = plain_config(transformer)
    in_time, in_space = ratios

    def predict(network, sample, timestep, words, mask, frame_rate):
        sides, width = sample.shape[2:], network.scale_shift_table.shape[-1]
        places = rotations(network.rope, sides, (in_time / frame_rate, in_space, in_space))
        channels = network.proj_in.in_features
        hidden = network.proj_in(sample.reshape(sample.shape[0], channels, -1).transpose(1, 2))
        time, embedded = network.time_embed(timestep.flatten(), hidden_dtype=hidden.dtype)
        time, embedded = (
            part.reshape(sample.shape[0], sides[0], size) for part, size in ((time, 6 * width), (embedded, width))
        )
        words = network.caption_projection(words)
        bias = (1 - mask.to(hidden.dtype))[:, None, None, :] * HIDDEN
        for block in network.transformer_blocks:
            hidden = block_of(block, hidden, words, time, places, bias)
        shift, scale = (network.scale_shift_table + embedded[:, :, None]).unsqueeze(2).unbind(dim=3)
        hidden = network.norm_out(hidden).reshape(sample.shape[0], sides[0], -1, width)
        found = network.proj_out((hidden * (1 + scale) + shift).reshape(sample.shape[0], -1, width))
        return found.transpose(1, 2).reshape(sample.shape)

    clip = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    words = {0: "batch", 1: "tokens"}
    inputs = {
        "hidden_states": (torch.randn(2, config["in_channels"], 3, 4, 6), clip),
        "timestep": (torch.full((2, 3), 999.0), {0: "batch", 1: "frames"}),
        "encoder_hidden_states": (torch.randn(2, TOKENS, config["caption_channels"]), words),
        "encoder_attention_mask": (example_mask(TOKENS), words),
        "frame_rate": (torch.tensor(25.0), {}),
    }
    export(transformer, predict, target, inputs, {"out_hidden_states": clip}, config)


def moved(values, source, target):
    """`movedim` of five dimensions, which the exporter counts from the end where it has lost their number."""
    return values.permute(0, 2, 3, 4, 1) if (source, target) == (1, -1) else values.permute(0, 4, 1, 2, 3)


def export_autoencoder(vae, target: Path, decode_timestep: float, decode_noise_scale: float) -> None:
    config = plain_config(vae) | {"latents_mean": vae.latents_mean.tolist(), "latents_std": vae.latents_std.tolist()}
    config |= {"spatial_compression_ratio": vae.spatial_compression_ratio, "temporal_compression_ratio": vae.temporal_compression_ratio}
    side = vae.spatial_compression_ratio
    latent = (torch.randn(2, config["latent_channels"], 3, 4, 6), {0: "batch", 2: "latent_frames", 3: "latent_height", 4: "latent_width"})
    clip = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    inputs = {"latent_sample": latent}
    if vae.config.timestep_conditioning:
        config |= {"decode_timestep": decode_timestep, "decode_noise_scale": decode_noise_scale}
        inputs["timestep"] = (torch.full((2,), decode_timestep), {0: "batch"})

    def decode(network, latent, timestep=None):
        return network.decoder(latent, timestep)

    with mock.patch.object(torch.Tensor, "movedim", moved):
        export(vae, decode, target / "vae_decoder", inputs, {"sample": clip}, config)

    def encode(network, picture):
        # A clip of one frame.
        return network.encoder(picture.unsqueeze(2)).select(2, 0)

    picture = (torch.randn(2, 3, 4 * side, 6 * side), {0: "batch", 2: "height", 3: "width"})
    latent_axes = {0: "batch", 2: "latent_height", 3: "latent_width"}
    with mock.patch.object(torch.Tensor, "movedim", moved):
        export(vae, encode, target / "vae_encoder", {"sample": picture}, {"latent_parameters": latent_axes}, config)


def check(pipeline) -> None:
    """What would be exported as something else than it is."""
    patches = (pipeline.transformer.config.patch_size, pipeline.transformer.config.patch_size_t)
    if patches != (1, 1):
        raise SystemExit(f"transformer/config.json: patches of {patches} latents, expected single latents, as they are published")
    if any(pipeline.vae.config.decoder_inject_noise):
        raise SystemExit(
            "vae/config.json: `decoder_inject_noise` draws noise inside the decoder, which no seed reaches: the same clip would never come "
            "again; take weights whose decoder draws none (0.9.0, or 0.9.5 and later)"
        )


def export_pipeline(
    pipeline, target: Path, decode_timestep: float = DECODE_TIMESTEP, decode_noise_scale: float = DECODE_NOISE_SCALE
) -> None:
    check(pipeline)
    write_around(pipeline, target, "LTXPipeline", ["tokenizer"])
    export_text_encoder(pipeline.text_encoder, target / "text_encoder")
    ratios = (pipeline.vae.temporal_compression_ratio, pipeline.vae.spatial_compression_ratio)
    export_transformer(pipeline.transformer, ratios, target / "transformer")
    export_autoencoder(pipeline.vae, target, decode_timestep, decode_noise_scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved, with LoRA weights merged into it")
    parser.add_argument("target", type=Path)
    parser.add_argument("--decode-timestep", type=float, default=DECODE_TIMESTEP, help="where a distilled decoder is told it stands, 0 to 1")
    parser.add_argument("--decode-noise-scale", type=float, default=DECODE_NOISE_SCALE, help="share of noise in its latents, 0 to 1")
    given = parser.parse_args()
    pipeline = LTXPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32)
    export_pipeline(pipeline, given.target, given.decode_timestep, given.decode_noise_scale)


if __name__ == "__main__":
    main()
