"""Counts how often a bundle draws what it is asked for.

    python measure.py --work work --bundle ../../sticker

Every name in the data is a prompt. A drawing is right when the nearest training picture of all, by squared distance on
premultiplied colour and alpha, is one of that name. This measures memory, which is what so small a set of pictures can teach.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import data
from autoencoder import premultiplied
from captions import COMMON
from sheet import Bundle
from train_autoencoder import to_network


def flat(pictures: np.ndarray) -> torch.Tensor:
    return premultiplied(to_network(torch.from_numpy(pictures))).flatten(1)


def right(bundle: Bundle, prompts: list[tuple[str, str]], pictures: torch.Tensor, names: np.ndarray, steps: int, guidance: float) -> float:
    """The share of (prompt, name) pairs whose drawing lies nearest to a picture of that name."""
    hits = 0
    for start in range(0, len(prompts), 50):
        part = prompts[start : start + 50]
        drawn = flat(bundle.draw([p for p, _ in part], start, steps, guidance))
        nearest = torch.cdist(drawn, pictures).argmin(1).numpy()
        hits += sum(names[n] == name for n, (_, name) in zip(nearest, part, strict=True))
    return hits / len(prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.0])
    parser.add_argument("--every", type=int, default=1, help="take only every n-th prompt")
    args = parser.parse_args()
    pictures, entries = data.load(args.work)
    names, everything = np.array([e["name"] for e in entries]), flat(pictures)
    plain = sorted({e["name"] for e in entries})
    common = [(caption, name) for name, captions in COMMON.items() for caption in captions]
    sets = {"names": [(n, n) for n in plain], "flat names": [(f"flat {n}", n) for n in plain], "common.json": common}
    bundle = Bundle(args.bundle)
    for guidance in args.guidance:
        for label, prompts in sets.items():
            prompts = prompts[:: args.every]
            share = right(bundle, prompts, everything, names, args.steps, guidance)
            print(f"guidance {guidance}, {args.steps} steps, {label}: {share:.1%} of {len(prompts)}", flush=True)


if __name__ == "__main__":
    main()
