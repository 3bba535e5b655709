"""Writes a random SD-Turbo-like bundle of some 100 MB into a folder, for benchmarks of forecasts: `make_medium_bundle.py FOLDER`."""

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from diffusers import AutoencoderKL, StableDiffusionPipeline  # noqa: E402
from optimum.exporters.onnx import main_export  # noqa: E402

import tiny_schedulers  # noqa: E402
from make_bundles import write_json  # noqa: E402
from tiny_networks import LATENT_CHANNELS, denoiser, fill, text_encoder  # noqa: E402
from tiny_pipelines import scheduler, tokenizer  # noqa: E402


def autoencoder(seed: int) -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=256,
        scaling_factor=0.18215,
    )
    return fill(vae, seed)


def main() -> None:
    target = Path(sys.argv[1])
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(702),
        text_encoder=text_encoder(700, hidden=24, layers=2, activation="gelu"),
        tokenizer=tokenizer("!"),
        unet=denoiser(
            701,
            structured=False,
            sample_size=32,
            layers_per_block=2,
            block_out_channels=(64, 128, 256),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=4,
            norm_num_groups=16,
        ),
        scheduler=scheduler(tiny_schedulers.SD_TURBO),
        requires_safety_checker=False,
        safety_checker=None,
        feature_extractor=None,
    )
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        main_export(folder, str(target), task="text-to-image", library_name="diffusers", do_validation=False)
    write_json(target / "scheduler" / "scheduler_config.json", tiny_schedulers.SD_TURBO)


if __name__ == "__main__":
    main()
