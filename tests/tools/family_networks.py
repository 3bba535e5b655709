"""Tiny networks of the small families: diffusers' UNet2DModel behind a steady part, and a judge.

Random weights alone make no denoiser: its samples blow up as 1/alpha. So each prediction is that of the best denoiser for data that are
normal with deviation `DATA_DEVIATION`, which is known in closed form, plus a random network's. See `fill` for the weights.
"""

import torch
from diffusers import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar
from torch import Tensor, nn

from tiny_networks import fill

CLASSES = ["red", "green", "blue"]
DATA_DEVIATION = 0.5
GAIN = 0.5
SIGMA_MIN, SIGMA_MAX = 0.01, 10.0
VARIANCE = DATA_DEVIATION**2


def unet(seed: int, side: int, classes: int | None, attention: bool = False, **more) -> UNet2DModel:
    down = "AttnDownBlock2D" if attention else "DownBlock2D"
    up = "AttnUpBlock2D" if attention else "UpBlock2D"
    network = UNet2DModel(
        sample_size=side,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", down),
        up_block_types=(up, "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        add_attention=attention,
        num_class_embeds=classes,
        **more,
    )
    return fill(network, seed, gain=0.8)


def smooth(network: UNet2DModel) -> UNet2DModel:
    """Takes away what changes quickly with time, so that a solver of any tolerance finds one and the same way."""
    with torch.no_grad():
        if network.config.time_embedding_type == "fourier":
            network.time_proj.weight.mul_(0.2)
        else:
            # Cosines and sines of the frequencies 1, 0.1, 0.01 and 0.001.
            network.time_embedding.linear_1.weight[:, [0, 1, 4, 5]] = 0
    return network


def wide(value: Tensor) -> Tensor:
    """`[B]` or a number as `[B or 1, 1, 1, 1]`."""
    return value.reshape(-1, 1, 1, 1)


class Denoiser(nn.Module):
    """A noise, picture or velocity predictor on a variance-preserving schedule; `timestep` is a number or `[B]`, of any type."""

    def __init__(self, network: UNet2DModel, betas: Tensor, prediction: str):
        super().__init__()
        self.network, self.prediction = network, prediction
        kept = torch.cumprod(1 - betas.double(), 0)
        self.register_buffer("alphas", kept.sqrt().float())
        self.register_buffer("sigmas", (1 - kept).sqrt().float())

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        at = timestep.round().long().clamp(0, len(self.alphas) - 1)
        alpha, sigma = wide(self.alphas[at]), wide(self.sigmas[at])
        total = alpha**2 * VARIANCE + sigma**2
        noise, picture = sigma / total * sample, alpha * VARIANCE / total * sample
        other = GAIN * self.network(sample, timestep, class_labels).sample
        if self.prediction == "epsilon":
            return noise + alpha * other
        if self.prediction == "sample":
            return picture + sigma * other
        return alpha * noise - sigma * picture + other


class StepCountDenoiser(nn.Module):
    """A denoiser that is told into how many steps the whole way is cut."""

    def __init__(self, denoiser: Denoiser, seed: int):
        super().__init__()
        self.denoiser = denoiser
        self.shift = fill(nn.Linear(2, 3), seed)

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor, step_count: Tensor) -> Tensor:
        octave = torch.log2(step_count.float())[:, None]
        shift = 0.2 * self.shift(torch.cat([octave.sin(), octave.cos()], 1))
        return self.denoiser(sample, timestep, class_labels) + wide_channels(shift)


def wide_channels(value: Tensor) -> Tensor:
    return value[:, :, None, None]


class Velocity(nn.Module):
    """The velocity noise − data of a straight path; `timestep` is 1000 σ. Without a network it is exact for normal data."""

    def __init__(self, network: UNet2DModel | None):
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        sigma = wide(timestep / 1000)
        steady = (sigma - (1 - sigma) * VARIANCE) / ((1 - sigma) ** 2 * VARIANCE + sigma**2)
        if self.network is None:
            return steady * sample
        return steady * sample + GAIN * self.network(sample, timestep, class_labels).sample


class Score(nn.Module):
    """The score at noise level `timestep`. The Fourier embedding makes the network divide its own output by it.

    Without a network it is exact for normal data.
    """

    def __init__(self, network: UNet2DModel | None):
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        total = VARIANCE + wide(timestep) ** 2
        if self.network is None:
            return -sample / total
        return -sample / total + GAIN * self.network(sample / total.sqrt(), timestep, class_labels).sample


class Plain(nn.Module):
    """The network as it is; consistency models scale by themselves."""

    def __init__(self, network: UNet2DModel):
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        return self.network(sample, timestep, class_labels).sample


class Judge(nn.Module):
    """Features of unit length of a 64×64 picture."""

    def __init__(self, seed: int, features: int = 16):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, 2), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU()
        )
        self.head = nn.Linear(16 * 16, features)
        fill(self, seed, gain=1.5)

    def forward(self, sample: Tensor) -> Tensor:
        found = self.head(self.body(sample).flatten(1))
        return found / found.square().sum(1, keepdim=True).sqrt()


def linear_betas() -> Tensor:
    return torch.linspace(1e-4, 0.02, 1000)


def build(name: str) -> nn.Module:
    """The network of a diffusion bundle, or the judge."""
    null = len(CLASSES) + 1
    if name == "ddpm":
        return Denoiser(unet(1, 16, null, attention=True), linear_betas(), "epsilon").eval()
    if name == "progressive":
        inner = Denoiser(unet(2, 8, len(CLASSES)), betas_for_alpha_bar(1000), "v_prediction")
        return StepCountDenoiser(inner, 3).eval()
    if name == "consistency":
        return Denoiser(unet(4, 8, None), linear_betas(), "epsilon").eval()
    if name == "consistency_cm":
        return Plain(unet(5, 8, len(CLASSES))).eval()
    if name == "cnf":
        return Velocity(smooth(unet(6, 8, null))).eval()
    if name == "score":
        return Score(smooth(unet(7, 8, None, time_embedding_type="fourier"))).eval()
    if name == "cnf_gaussian":
        return Velocity(None).eval()
    if name == "score_gaussian":
        return Score(None).eval()
    if name == "judge":
        return Judge(8).eval()
    raise SystemExit(f"{name}: is no bundle of this file")
