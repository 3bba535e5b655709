"""What the one-shot families' training runs share: the pictures as tensors, the clock, augmentation, lengths of runs."""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import data
from neighbour import module

run = module("run")

# `minutes` is processor time.
CONFIGURATIONS = {
    "smoke": {"judge": 0.1, "vae": 0.1, "gan": 0.1, "flow": 0.15},
    "cpu": {"judge": 8, "vae": 7, "gan": 32, "flow": 14},
}


class ProcessorClock(run.Clock):
    """Minutes of processor time rather than of the clock on the wall: the machine may be shared."""

    def __init__(self, minutes: float):
        super().__init__(minutes)
        self.start = time.process_time()

    def spent(self) -> float:
        return self.before + (time.process_time() - self.start) / 60


class Pictures:
    """Pictures [N, 3, 32, 32] uint8 with labels [N], and the classes drawn with a frequency of the root of their size."""

    def __init__(self, path: Path, held_out: bool):
        stickers = data.load(path)
        chosen = stickers["held_out"] == held_out
        self.pictures = torch.from_numpy(stickers["pictures"][chosen]).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(stickers["labels"][chosen])
        self.classes = [str(name) for name in stickers["classes"]]
        counts = np.maximum(np.bincount(stickers["labels"][chosen], minlength=len(self.classes)), 1)
        self.weights = torch.from_numpy(counts ** -0.5)[self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, count: int, shift: int = 0) -> tuple[Tensor, Tensor]:
        """`count` pictures [B, 3, 32, 32] uint8 and labels [B], mirrored half of the time, moved by up to `shift` pixels."""
        chosen = torch.multinomial(self.weights, count, replacement=True)
        pictures = self.pictures[chosen]
        mirrored = torch.rand(count) < 0.5
        pictures[mirrored] = pictures[mirrored].flip(-1)
        if shift:
            side = pictures.shape[-1]
            wide = torch.nn.functional.pad(pictures, [shift] * 4, value=255)
            places = torch.randint(0, 2 * shift + 1, (count, 2)).tolist()
            pictures = torch.stack([p[:, y:y + side, x:x + side] for p, (y, x) in zip(wide, places, strict=True)])
        return pictures, self.labels[chosen]


def dequantise(pictures: Tensor) -> Tensor:
    """uint8 u to x = 2 (u + r) / 256 - 1 with r uniform in [0, 1), so that a density over x bounds one over u."""
    return 2 * (pictures.float() + torch.rand(pictures.shape)) / 256 - 1


def bits_per_dimension(log_likelihood: Tensor, dimensions: int) -> float:
    """Mean of -ln p(x) / (D ln 2) + 7 over a batch of ln p(x) in nats: x is 128 times narrower than u."""
    return float(-log_likelihood.double().mean() / (dimensions * np.log(2)) + 7)


def arguments(family: str, description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="processor time, in place of the configuration's")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.minutes = args.minutes or CONFIGURATIONS[args.configuration][family]
    args.checkpoint = args.work / f"{family}.pt"
    args.data = args.work / "data" / "stickers32.npz"
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    return args
