"""Reference samplers of the diffusion families, over a bundle's ONNX file alone: what Kiln is compared with and sheets are drawn by."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler
from torch import Tensor

Predict = Callable[[Tensor, float], Tensor]


class Bundle:
    def __init__(self, folder: Path, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.folder = folder
        self.session = onnxruntime.InferenceSession(folder / "unet" / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.config = json.loads((folder / "unet" / "config.json").read_text())
        self.counted = any(port.name == "step_count" for port in self.session.get_inputs())
        self.none = self.config["num_class_embeds"] - 1

    def predict(self, labels: Tensor, guidance: float, steps: int) -> Predict:
        """The network at one time for all pictures, guided (Ho & Salimans 2022, arXiv:2207.12598) where `guidance` is not 1."""
        def call(sample: Tensor, time: float, which: Tensor) -> Tensor:
            inputs = {"sample": sample.numpy(), "timestep": np.full(len(sample), time, np.float32), "class_labels": which.numpy()}
            if self.counted:
                inputs["step_count"] = np.full(len(sample), steps, np.int64)
            return torch.from_numpy(self.session.run(None, inputs)[0])

        def predict(sample: Tensor, time: float) -> Tensor:
            with_class = call(sample, time, labels)
            if guidance == 1:
                return with_class
            without = call(sample, time, torch.full_like(labels, self.none))
            return without + guidance * (with_class - without)

        return predict


def noise(count: int, side: int, seed: int) -> Tensor:
    """Picture `i` starts from the noise of seed `seed + i`."""
    return torch.cat([torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])


def scheduled(bundle: Bundle, predict: Predict, start: Tensor, steps: int, sampler: str, eta: float = 0.0) -> Tensor:
    """A loop of diffusers' DDPMScheduler, DDIMScheduler or LCMScheduler with the bundle's configuration."""
    config = json.loads((bundle.folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "lcm": LCMScheduler}[sampler].from_config(config)
    if sampler == "lcm":
        scheduler.set_timesteps(steps, original_inference_steps=config["original_inference_steps"])
    else:
        scheduler.set_timesteps(steps)
    generator, sample = torch.Generator().manual_seed(0), start
    extra = {"eta": eta} if sampler == "ddim" else {}
    for time in scheduler.timesteps:
        made = scheduler.step(predict(sample, float(time)), time, sample, generator=generator, **extra)
        sample = made.denoised if sampler == "lcm" and time == scheduler.timesteps[-1] else made.prev_sample
    return sample


def heun(field: Predict, start: Tensor, begin: float, end: float, steps: int) -> Tensor:
    """Heun's method in equal steps: two calls each."""
    sample, width = start, (end - begin) / steps
    for i in range(steps):
        time = begin + i * width
        first = field(sample, time)
        sample = sample + width / 2 * (first + field(sample + width * first, time + width))
    return sample


def continuous_flow(bundle: Bundle, predict: Predict, start: Tensor, steps: int) -> Tensor:
    """dx/ds = velocity from noise at s = 1 to pictures at 0."""
    return heun(lambda sample, share: predict(sample, 1000 * share), start, 1.0, 0.0, steps)


def score_flow(bundle: Bundle, predict: Predict, start: Tensor, steps: int) -> Tensor:
    """Probability flow (Song et al. 2021, eq. 13) over the logarithm of the noise level: dx / d ln sigma = -sigma^2 score."""
    low, high = math.log(bundle.config["sigma_min"]), math.log(bundle.config["sigma_max"])
    return heun(lambda sample, level: -math.exp(2 * level) * predict(sample, math.exp(level)), math.exp(high) * start, high, low, steps)


def sample(bundle: Bundle, family: str, labels: Tensor, seed: int, steps: int, guidance: float, sampler: str | None = None) -> Tensor:
    """Pictures [B, 3, S, S] f32 in [-1, 1] by the family's own sampler, or by `sampler` ("ddpm", "ddim", "lcm")."""
    start = noise(len(labels), bundle.config["sample_size"], seed)
    predict = bundle.predict(labels, guidance, steps)
    if family in ("cnf", "score") and sampler is None:
        return (continuous_flow if family == "cnf" else score_flow)(bundle, predict, start, steps).clamp(-1, 1)
    chosen = sampler or {"ddpm": "ddpm", "progressive": "ddim", "consistency": "lcm"}[family]
    return scheduled(bundle, predict, start, steps, chosen).clamp(-1, 1)
