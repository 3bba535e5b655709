"""The denoiser in the form that each family's bundle has it: what goes in and comes out is turned, the network is the same.

Every family mixes picture and noise, in proportions that scale to alpha and sigma with alpha^2 + sigma^2 = 1. So a velocity or a
score is a linear function of sample and v, and a network trained for one family starts the next one where it stood.
"""

import math

import torch
from torch import Tensor, nn

from unet import Unet

# The cosine schedule of Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17.
OFFSET = 0.008
START = math.cos(OFFSET / (1 + OFFSET) * math.pi / 2)
TIMES = 1000
LARGEST_BETA = 0.999


def cumulative_alphas() -> Tensor:
    """(1000) f32, as diffusers' `squaredcos_cap_v2` has them."""
    def bar(share: float) -> float:
        return math.cos((share + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2

    betas = [min(1 - bar((i + 1) / TIMES) / bar(i / TIMES), LARGEST_BETA) for i in range(TIMES)]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float32), dim=0)


def position(alpha: Tensor) -> Tensor:
    """Where on the cosine schedule a picture has the share `alpha` (0 to 1): -1 is the picture itself, 999 noise."""
    return TIMES * ((1 + OFFSET) * 2 / math.pi * torch.acos(alpha * START) - OFFSET) - 1


class Velocity(nn.Module):
    """Flow matching (Lipman et al. 2022, arXiv:2210.02747): x = (1 - s) * picture + s * noise to noise - picture, timestep 1000 * s."""

    def __init__(self, unet: Unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        share = timestep.reshape(-1, 1, 1, 1) / 1000
        length = (share.square() + (1 - share).square()).sqrt()
        alpha, sigma, scaled = (1 - share) / length, share / length, sample / length
        v = self.unet(scaled, position(alpha.reshape(-1)), class_labels)
        return (sigma - alpha) * scaled + (sigma + alpha) * v


class Score(nn.Module):
    """Denoising score matching, variance exploding (Song et al. 2021, arXiv:2011.13456): x = picture + timestep * noise to the
    gradient of log p(x). Input scaling and skip are those of Karras et al. 2022 (arXiv:2206.00364), eq. 7, for pictures of deviation 1."""

    def __init__(self, unet: Unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        level = timestep.reshape(-1, 1, 1, 1)
        alpha = (1 + level.square()).rsqrt()
        scaled = alpha * sample
        v = self.unet(scaled, position(alpha.reshape(-1)), class_labels)
        return -(alpha * level * scaled + alpha * v) / level


class StepCounting(nn.Module):
    """The denoiser with its count of steps as a third input, in the order of the bundle's ports."""

    def __init__(self, unet: Unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor, step_count: Tensor) -> Tensor:
        return self.unet(sample, timestep, class_labels, step_count)


def form(family: str, unet: Unet) -> nn.Module:
    """`unet` as the bundle of `family` has it."""
    return {"cnf": Velocity, "score": Score, "progressive": StepCounting}.get(family, lambda network: network)(unet)
