"""Writes a folder that Kiln opens out of a PixArt-Alpha or PixArt-Sigma pipeline. See README.md beside this file."""

import argparse
import math
from pathlib import Path
from unittest import mock

import torch
from diffusers import DiffusionPipeline
from diffusers.models.embeddings import PatchEmbed

from exporting import example_mask, export, picture_autoencoder, plain_config, write_around
from wan import export_text_encoder

# Tokens that the published pipelines give the transformer, by class.
TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
# The largest wavelength of the places, over 2 pi.
LONGEST = 10000.0


def waves(places: torch.Tensor, width: int) -> torch.Tensor:
    """`places` [N] as sines, then cosines, [N, width]."""
    frequencies = torch.exp(torch.arange(width // 2) * (-2.0 * math.log(LONGEST) / width))
    angles = places[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def embed(patches: PatchEmbed, latent: torch.Tensor) -> torch.Tensor:
    """`PatchEmbed.forward` with its places computed in the graph, since the exporter fixes them to the size it sees."""
    hidden = patches.proj(latent)
    rows, columns = hidden.shape[2:]
    hidden = hidden.flatten(2).transpose(1, 2)
    if patches.pos_embed is None:
        return hidden

    def places(count):
        return torch.arange(count, dtype=torch.float32) * (patches.base_size / count / patches.interpolation_scale)

    width = hidden.shape[-1] // 2
    across = waves(places(columns), width)[None].expand(rows, -1, -1)
    down = waves(places(rows), width)[:, None].expand(-1, columns, -1)
    return hidden + torch.cat([across, down], dim=-1).flatten(0, 1)[None]


def export_transformer(transformer, tokens: int, sizes: bool, target: Path) -> None:
    """`sizes`: whether its pipeline tells it the picture's size."""
    config = plain_config(transformer)

    def call(network, sample, timestep, words, mask, resolution=None, aspect_ratio=None):
        added = {"resolution": resolution, "aspect_ratio": aspect_ratio}
        return network(sample, words, timestep, added, encoder_attention_mask=mask, return_dict=False)[0]

    sides = {0: "batch", 2: "height", 3: "width"}
    words = {0: "batch", 1: "tokens"}
    inputs = {
        "hidden_states": (torch.randn(2, config["in_channels"], 8, 12), sides),
        "timestep": (torch.tensor([999.0, 999.0]), {0: "batch"}),
        "encoder_hidden_states": (torch.randn(2, tokens, config["caption_channels"]), words),
        "encoder_attention_mask": (example_mask(tokens), words),
    }
    if sizes:
        inputs["resolution"] = (torch.tensor([[64.0, 96.0]] * 2), {0: "batch"})
        inputs["aspect_ratio"] = (torch.tensor([[64.0 / 96.0]] * 2), {0: "batch"})
    # Of a dimension that the exporter does not know to be one it writes a branch; the patches that are squeezed here are many.
    alone = mock.patch.object(torch.Tensor, "squeeze", lambda tensor, axis: tensor)
    with mock.patch.object(PatchEmbed, "forward", embed), alone:
        export(transformer, call, target, inputs, {"out_hidden_states": sides}, config)


def export_pipeline(pipeline, target: Path) -> None:
    kind = type(pipeline).__name__
    write_around(pipeline, target, kind, ["tokenizer"])
    export_text_encoder(pipeline.text_encoder, target / "text_encoder")
    # As its pipeline decides it: of the models for large pictures alone.
    sizes = kind == "PixArtAlphaPipeline" and pipeline.transformer.config.sample_size == 128
    export_transformer(pipeline.transformer, TOKENS[kind], sizes, target / "transformer")
    picture_autoencoder(pipeline.vae, target, encoder=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved")
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32)
    if type(pipeline).__name__ not in TOKENS:
        parser.error(f"{given.source} holds a {type(pipeline).__name__}, expected one of {', '.join(TOKENS)}")
    export_pipeline(pipeline, given.target)


if __name__ == "__main__":
    main()
