"""Writes a bundle of random weights: `bundles.py NAME FOLDER`, in the environment of `onnxruntime` (environments.py).

FOLDER/diffusers is the pipeline as diffusers saves it, FOLDER/onnx optimum's export of it in f32, which is the bundle.
"""

import dataclasses
import json
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tests/tools"), str(HERE.parents[1] / "models/recipes/export")]

import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from optimum.exporters.onnx import main_export  # noqa: E402

import tiny_decoder  # noqa: E402
import tiny_schedulers  # noqa: E402
from exporting import write_json  # noqa: E402
from shapes import SHAPES, Shape  # noqa: E402
from tiny_networks import fill  # noqa: E402
from tiny_pipelines import scheduler, tokenizer  # noqa: E402

# The published vocabulary's size, which makes the table of the text encoder; the words that are known are few.
VOCABULARY = 49_408


def empty(make):
    """Builds a network without drawing the weights that `fill` draws anyway."""
    with torch.device("meta"):
        network = make()
    return network.to_empty(device="cpu")


def text_encoder(shape: Shape) -> transformers.CLIPTextModel:
    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY, max_position_embeddings=77, projection_dim=512, bos_token_id=0, eos_token_id=2, pad_token_id=1, **shape.text_encoder
    )
    encoder = transformers.CLIPTextModel(config)
    return fill(encoder, 1)


def unet(shape: Shape) -> UNet2DConditionModel:
    return fill(empty(lambda: UNet2DConditionModel(sample_size=shape.side // 8, **shape.unet)), 2, gain=0.8)


def autoencoder(shape: Shape):
    if shape.autoencoder is None:
        return fill(AutoencoderTiny(), 3)
    halvings = len(shape.autoencoder["block_out_channels"])
    blocks = dict(down_block_types=("DownEncoderBlock2D",) * halvings, up_block_types=("UpDecoderBlock2D",) * halvings)
    return fill(AutoencoderKL(scaling_factor=0.18215, **blocks, **shape.autoencoder), 3)


def write(name: str, folder: Path) -> None:
    shape = SHAPES[name]
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(shape),
        text_encoder=text_encoder(shape),
        tokenizer=tokenizer("!"),
        unet=unet(shape),
        scheduler=scheduler(tiny_schedulers.SD_TURBO),
        requires_safety_checker=False,
        safety_checker=None,
        feature_extractor=None,
    )
    source, target = folder / "diffusers", folder / "onnx"
    pipeline.save_pretrained(source)
    weights = {part: sum(p.numel() for p in getattr(pipeline, part).parameters()) for part in ("text_encoder", "unet", "vae")}
    tiny = pipeline.vae if shape.autoencoder is None else None
    if tiny is not None:
        # optimum exports the usual decoder alone. A small one stands in for the export, and gives its place to the tiny one.
        pipeline.vae = autoencoder(SHAPES["check"])
        stand_in = folder / "stand-in"
        pipeline.save_pretrained(stand_in)
    del pipeline
    main_export(str(stand_in if tiny else source), str(target), task="text-to-image", library_name="diffusers", do_validation=False)
    shutil.rmtree(target / "vae_encoder", ignore_errors=True)
    if tiny is not None:
        shutil.rmtree(stand_in)
        shutil.rmtree(target / "vae_decoder")
        tiny_decoder.export(tiny, target / "vae_decoder")
        config = json.loads((target / "vae_decoder" / "config.json").read_text())
        # Its eight pixels to a latent are not told by how many blocks it has.
        write_json(target / "vae_decoder" / "config.json", config | {"block_out_channels": [64] * 4})
    write_json(target / "scheduler" / "scheduler_config.json", tiny_schedulers.SD_TURBO)
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    # Written last: a folder without it is unfinished.
    write_json(folder / "made.json", {"shape": dataclasses.asdict(shape), "weights": weights, "versions": versions})


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    name, folder = sys.argv[1:]
    write(name, Path(folder))


if __name__ == "__main__":
    main()
