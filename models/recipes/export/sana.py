"""Writes a folder that Kiln opens out of a Sana or Sana-Sprint pipeline. See README.md beside this file."""

import argparse
import inspect
import json
from pathlib import Path
from unittest import mock

import torch
from diffusers import DiffusionPipeline

from exporting import example_mask, export, plain_config, write_around, write_json

CLASSES = ("SanaPipeline", "SanaSprintPipeline")
# Tokens that the pipelines give the transformer.
TOKENS = 300


def moved(tensor: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """`torch.movedim` without axes counted from the end, which the exporter leaves so."""
    order = list(range(tensor.dim()))
    order.insert(target % tensor.dim(), order.pop(source % tensor.dim()))
    return tensor.permute(order)


def export_text_encoder(encoder, target: Path) -> None:
    """Gemma 2 without its head: token ids and a mask of the padding into embeddings."""
    encoder.set_attn_implementation("eager")
    nowhere = torch.finfo(torch.float32).min

    def call(network, ids, mask):
        # transformers makes its masks with functions that the exporter cannot follow.
        at = torch.arange(ids.shape[1])
        back = at[:, None] - at[None]
        seen = (back >= 0)[None, None] & (mask[:, None, None] > 0)
        near = seen & (back < network.config.sliding_window)[None, None]

        def added(allowed):
            return torch.where(allowed, 0.0, nowhere)

        masks = {"full_attention": added(seen), "sliding_attention": added(near)}
        return network(input_ids=ids, attention_mask=masks, use_cache=False).last_hidden_state

    axes = {0: "batch", 1: "tokens"}
    ids = torch.ones(2, 16, dtype=torch.int64)
    inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    export(encoder, call, target, inputs, {"last_hidden_state": axes}, plain_config(encoder.config))


def export_transformer(transformer, target: Path) -> None:
    config = plain_config(transformer)

    def call(network, sample, words, mask, timestep, guidance=None):
        return network(sample, words, timestep, guidance, encoder_attention_mask=mask, return_dict=False)[0]

    sides = {0: "batch", 2: "height", 3: "width"}
    words = {0: "batch", 1: "tokens"}
    inputs = {
        "hidden_states": (torch.randn(2, config["in_channels"], 8, 12), sides),
        "encoder_hidden_states": (torch.randn(2, TOKENS, config["caption_channels"]), words),
        "encoder_attention_mask": (example_mask(TOKENS), words),
        "timestep": (torch.tensor([0.7, 0.7]), {0: "batch"}),
    }
    if config["guidance_embeds"]:
        inputs["guidance"] = (torch.tensor([0.45, 0.45]), {0: "batch"})
    if config["interpolation_scale"] is not None:
        raise SystemExit("this transformer has places for its latents (4096 pixels), which this recipe does not write")
    export(transformer, call, target, inputs, {"out_hidden_states": sides}, config)


def export_autoencoder(vae, target: Path) -> None:
    """AutoencoderDC, whose encoder says latents and no distribution of them."""
    config = plain_config(vae)
    side = 2 ** (len(config["encoder_block_out_channels"]) - 1)
    latent_axes = {0: "batch", 2: "latent_height", 3: "latent_width"}
    picture_axes = {0: "batch", 2: "height", 3: "width"}
    latent = (torch.randn(2, config["latent_channels"], 8, 12), latent_axes)
    picture = (torch.randn(2, config["in_channels"], 8 * side, 12 * side), picture_axes)

    def decode(network, latent):
        return network.decode(latent).sample

    def encode(network, picture):
        return network.encode(picture).latent

    with mock.patch.object(torch.Tensor, "movedim", moved):
        export(vae, decode, target / "vae_decoder", {"latent_sample": latent}, {"sample": picture_axes}, config)
        export(vae, encode, target / "vae_encoder", {"sample": picture}, {"latent_sample": latent_axes}, config)


def add_instruction(target: Path, instruction: list[str]) -> None:
    """What the pipeline says to the text encoder before each prompt; in no file of diffusers."""
    path = target / "model_index.json"
    write_json(path, json.loads(path.read_text()) | {"complex_human_instruction": instruction})


def usual_instruction(kind: type) -> list[str]:
    return inspect.signature(kind.__call__).parameters["complex_human_instruction"].default


def export_pipeline(pipeline, target: Path, instruction: list[str]) -> None:
    write_around(pipeline, target, type(pipeline).__name__, ["tokenizer"])
    add_instruction(target, instruction)
    export_text_encoder(pipeline.text_encoder, target / "text_encoder")
    export_transformer(pipeline.transformer, target / "transformer")
    export_autoencoder(pipeline.vae, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved")
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32)
    if type(pipeline).__name__ not in CLASSES:
        parser.error(f"{given.source} holds a {type(pipeline).__name__}, expected one of {', '.join(CLASSES)}")
    export_pipeline(pipeline, given.target, usual_instruction(type(pipeline)))


if __name__ == "__main__":
    main()
