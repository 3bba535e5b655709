"""Writes a folder that Kiln opens out of a Wan 2.1 pipeline. See README.md beside this file."""

import argparse
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import WanPipeline
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanRotaryPosEmbed

from exporting import export, plain_config, write_around

# Tokens that the published pipelines give the transformer.
TOKENS = 512
CACHED_FRAMES = 2


def export_text_encoder(encoder, target: Path) -> None:
    """UMT5: token ids and a mask of the padding into embeddings."""
    encoder.set_attn_implementation("eager")

    def call(network, ids, mask):
        return network(ids, mask).last_hidden_state

    axes = {0: "batch", 1: "tokens"}
    ids = torch.ones(2, 16, dtype=torch.int64)
    inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    export(encoder, call, target, inputs, {"last_hidden_state": axes}, plain_config(encoder.config))


def rotations(rope, hidden_states):
    """`WanRotaryPosEmbed.forward` by looking up places, since the exporter fixes the sizes of its slices."""
    frames, rows, columns = (size // part for size, part in zip(hidden_states.shape[2:], rope.patch_size))
    frame = torch.arange(frames)[:, None, None]
    row = torch.arange(rows)[None, :, None]
    column = torch.arange(columns)[None, None, :]
    nowhere = (frame + row + column) * 0
    places = [(place + nowhere).flatten() for place in (frame, row, column)]
    widths = [rope.t_dim, rope.h_dim, rope.w_dim]

    def looked_up(table):
        return torch.cat([part[place] for part, place in zip(table.split(widths, dim=1), places)], dim=-1)[None, :, None, :]

    return looked_up(rope.freqs_cos), looked_up(rope.freqs_sin)


def rotated(values, cosine, sine):
    first, second = values.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[..., 0::2], sine[..., 1::2]
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)


def attend(_, attention, values, words=None, attention_mask=None, rotary_emb=None):
    """`WanAttnProcessor` without writing into slices, whose sizes the exporter fixes."""
    source = values if words is None else words
    query = attention.norm_q(attention.to_q(values)).unflatten(2, (attention.heads, -1))
    key = attention.norm_k(attention.to_k(source)).unflatten(2, (attention.heads, -1))
    value = attention.to_v(source).unflatten(2, (attention.heads, -1))
    if rotary_emb is not None:
        query, key = rotated(query, *rotary_emb), rotated(key, *rotary_emb)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2, 3)
    return attention.to_out[1](attention.to_out[0](found))


def export_transformer(transformer, target: Path) -> None:
    config = plain_config(transformer)

    def call(network, sample, timestep, words):
        return network(sample, timestep, words, return_dict=False)[0]

    sides = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    inputs = {
        "hidden_states": (torch.randn(2, config["in_channels"], 3, 8, 12), sides),
        "timestep": (torch.tensor([999.0, 999.0]), {0: "batch"}),
        "encoder_hidden_states": (torch.randn(2, TOKENS, config["text_dim"]), {0: "batch", 1: "tokens"}),
    }
    with mock.patch.object(WanRotaryPosEmbed, "forward", rotations), mock.patch.object(WanAttnProcessor, "__call__", attend):
        export(transformer, call, target, inputs, {"out_hidden_states": sides}, config)


class Caches:
    """The frames that the decoder's causal convolutions remember from one frame of latents to the next, two for each.

    `vae_decoder_first` decodes the first frame of latents into one frame of the clip, and `vae_decoder` each further one into as many as
    the clip has for it. The first gives as `present.N` what the other takes as `past.N` and gives again.
    """

    def __init__(self, vae):
        self.count = sum(1 for module in vae.decoder.modules() if type(module).__name__ == "WanCausalConv3d")
        with torch.no_grad():
            caches = [None] * self.count
            vae.decoder(torch.zeros(1, vae.config.z_dim, 1, 2, 2), feat_cache=caches, feat_idx=[0], first_chunk=True)
        self.used = [at for at, cache in enumerate(caches) if cache is not None]

    def first(self, vae, latent):
        caches = [None] * self.count
        frame = vae.decoder(vae.post_quant_conv(latent), feat_cache=caches, feat_idx=[0], first_chunk=True)
        present, before = [], None
        for at in self.used:
            cache = caches[at]
            if isinstance(cache, str):
                # Nothing went through this convolution yet: it remembers black, at the size of the one before it.
                cache = torch.zeros_like(before)
            elif cache.shape[2] < CACHED_FRAMES:
                cache = torch.cat([torch.zeros_like(cache), cache], dim=2)
            before = cache
            present.append(cache)
        return torch.clamp(frame, -1.0, 1.0), *present

    def following(self, vae, latent, *past):
        caches = [None] * self.count
        for at, cache in zip(self.used, past):
            caches[at] = cache
        frames = vae.decoder(vae.post_quant_conv(latent), feat_cache=caches, feat_idx=[0])
        return torch.clamp(frames, -1.0, 1.0), *(caches[at] for at in self.used)


def export_decoder(vae, target: Path) -> None:
    for module in vae.modules():
        if type(module).__name__ == "WanUpsample":
            # The exporter does not know `nearest-exact`; at twice the size it is the same.
            module.mode = "nearest"
    config = plain_config(vae)
    caches = Caches(vae)
    latent = torch.randn(1, config["z_dim"], 1, 8, 12)
    sides = {0: "batch", 3: "latent_height", 4: "latent_width"}
    frame = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    with torch.no_grad():
        past = caches.first(vae, latent)[1:]

    def axes(name: str) -> dict:
        return {0: "batch", 3: f"{name}.height", 4: f"{name}.width"}

    present = {f"present.{at}": axes(f"present.{at}") for at in range(len(past))}
    inputs = {"latent_sample": (latent, sides)}
    # Of a dimension that the exporter does not know to be one it writes a branch.
    with mock.patch.object(torch.Tensor, "squeeze", lambda tensor, axis: tensor.select(axis, 0)):
        export(vae, caches.first, target / "vae_decoder_first", inputs, {"sample": frame} | present, config)
        inputs |= {f"past.{at}": (cache, axes(f"past.{at}")) for at, cache in enumerate(past)}
        export(vae, caches.following, target / "vae_decoder", inputs, {"sample": frame} | present, config)


def export_pipeline(pipeline, target: Path) -> None:
    write_around(pipeline, target, "WanPipeline", ["tokenizer"])
    export_text_encoder(pipeline.text_encoder, target / "text_encoder")
    export_transformer(pipeline.transformer, target / "transformer")
    export_decoder(pipeline.vae, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved, with LoRA weights merged into it")
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    pipeline = WanPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32)
    export_pipeline(pipeline, given.target)


if __name__ == "__main__":
    main()
