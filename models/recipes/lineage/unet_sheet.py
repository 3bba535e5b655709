"""Draws a sheet of samples from an exported diffusion bundle: a row for each class.

    python unet_sheet.py --bundle work/bundles/ddpm --steps 50 --sampler ddim --output sheet.png
"""

import argparse
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unet_samplers import Bundle, sample

GAP, ENLARGED = 2, 2


def page(pictures: Tensor, columns: int) -> Image.Image:
    """[N, 3, S, S] in [-1, 1] on a light ground, each pixel drawn 2x2."""
    side, rows = pictures.shape[-1] + GAP, -(-len(pictures) // columns)
    ground = np.full((rows * side + GAP, columns * side + GAP, 3), 236, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (place * side + GAP for place in divmod(i, columns))
        pixels = ((picture.permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        ground[y:y + side - GAP, x:x + side - GAP] = pixels
    return Image.fromarray(ground).resize((ground.shape[1] * ENLARGED, ground.shape[0] * ENLARGED), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="in place of the card's")
    parser.add_argument("--guidance", type=float, help="in place of the card's")
    parser.add_argument("--sampler", choices=("ddpm", "ddim", "lcm"), help="in place of the family's own")
    args = parser.parse_args()
    card = tomllib.loads((args.bundle / "kiln.toml").read_text())
    steps = args.steps or card["steps"]["default"]
    guidance = card.get("guidance", {}).get("default", 1.0) if args.guidance is None else args.guidance
    bundle = Bundle(args.bundle)
    labels = torch.arange(len(card["classes"])).repeat_interleave(args.columns)
    start = time.monotonic()
    pictures = sample(bundle, card["family"], labels, args.seed, steps, guidance, args.sampler)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    page(pictures, args.columns).quantize(256, dither=Image.Dither.NONE).save(args.output, optimize=True)
    print(f"{args.output}: {len(labels)} pictures in {steps} steps, guidance {guidance}, {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
