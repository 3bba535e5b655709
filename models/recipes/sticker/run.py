"""What the training runs share: configurations, the moving average, checkpoints, the clock."""

import json
import time
from pathlib import Path

import torch
from torch import nn

# `minutes` is the length of a run; `--minutes` changes it. A run that resumes goes on with the time it has left.
CONFIGURATIONS = {
    "smoke": {
        "autoencoder": {"widths": (16, 24, 32), "batch": 16, "rate": 2e-3, "minutes": 0.3},
        "denoiser": {"width": 64, "layers": 2, "heads": 2, "text_width": 32, "text_layers": 1, "text_heads": 2, "batch": 32,
                     "rate": 2e-3, "minutes": 0.3},
        "student": {"rank": 8, "hidden": 96, "minutes": 0.2},
    },
    "cpu": {
        "autoencoder": {"widths": (48, 96, 160), "batch": 32, "rate": 2e-3, "minutes": 14},
        "denoiser": {"width": 256, "layers": 6, "heads": 4, "text_width": 192, "text_layers": 2, "text_heads": 4, "batch": 128,
                     "rate": 1e-3, "minutes": 200},
        "student": {"rank": 24, "hidden": 400, "minutes": 60},
    },
    "gpu": {
        "autoencoder": {"widths": (64, 128, 192), "batch": 256, "rate": 2e-3, "minutes": 10},
        "denoiser": {"width": 384, "layers": 12, "heads": 6, "text_width": 256, "text_layers": 2, "text_heads": 4, "batch": 1024,
                     "rate": 1e-3, "minutes": 60},
        "student": {"rank": 48, "hidden": 768, "minutes": 30},
    },
}


def device() -> torch.device:
    # Networks start with zeroed layers; the tiny numbers that follow from them would slow a CPU down many times.
    torch.set_flush_denormal(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Average:
    """The exponential moving average of a network's weights: what is exported and drawn with."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay, self.count = decay, 0
        self.weights = {name: value.detach().clone().float() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.count += 1
        # A young average follows quickly, or it would keep the random start for thousands of steps.
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for name, value in network.state_dict().items():
            self.weights[name].lerp_(value.detach().float(), 1 - decay)


class Clock:
    """Minutes spent training, over all resumed parts of a run."""

    def __init__(self, minutes: float):
        self.minutes, self.before, self.start = minutes, 0.0, time.monotonic()

    def spent(self) -> float:
        return self.before + (time.monotonic() - self.start) / 60

    def share(self) -> float:
        return min(1.0, self.spent() / self.minutes)


def rate_at(share: float, step: int, warmup: int, floor: float = 0.02) -> float:
    """Factor on the learning rate: a warm-up in steps, then flat, then down to the floor over the last 60 % of the time."""
    fall = 1.0 if share < 0.4 else 1.0 - (share - 0.4) / 0.6
    return min(1.0, (step + 1) / warmup) * max(floor, fall)


def save(path: Path, *, network, optimizers, average: Average, clock: Clock, step: int, facts: dict) -> None:
    """Writes a checkpoint under a temporary name first, so a killed run leaves the last whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save({
        "network": network.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "average": average.weights,
        "average_count": average.count, "minutes": clock.spent(), "step": step, "facts": json.dumps(facts),
    }, temporary)
    temporary.replace(path)


def resume(path: Path, *, network, optimizers, average: Average, clock: Clock) -> int:
    """Takes up a checkpoint where there is one; returns the step to go on from."""
    if not path.exists():
        return 0
    kept = torch.load(path, map_location=device(), weights_only=True)
    network.load_state_dict(kept["network"])
    for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    average.weights, average.count = kept["average"], kept["average_count"]
    clock.before = kept["minutes"]
    return kept["step"]


def averaged(path: Path) -> tuple[dict, dict]:
    """The averaged weights of a checkpoint and the facts noted beside them."""
    kept = torch.load(path, map_location="cpu", weights_only=True)
    return kept["average"], {**json.loads(kept["facts"]), "step": kept["step"], "minutes": kept["minutes"]}
