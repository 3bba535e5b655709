"""Reference likelihoods: evidence lower bound, change of variables, and the trace along an ODE, by autograd.

Nats are of the picture in [-1, 1]; bits per dimension are of its 8-bit values.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from family_noise import Draws
from family_sampling import Field


def cell_centres(pixels: np.ndarray) -> Tensor:
    """`[H, W, 3]` bytes to `[1, 3, H, W]` in (-1, 1): the middle of each value's cell."""
    values = 2 * (pixels.astype(np.float64) + 0.5) / 256 - 1
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def bits_per_dimension(nats: float, dimensions: int) -> float:
    return -nats / (dimensions * math.log(2)) + 7


def log_normal(values: Tensor, mean: Tensor | float = 0.0, deviation: float = 1.0) -> float:
    """The logarithm of the density of independent normals, summed in f64."""
    scaled = (values.double() - mean) / deviation
    return float(-0.5 * scaled.square().sum() - values.numel() * (math.log(deviation) + 0.5 * math.log(2 * math.pi)))


def with_bits(nats: float, dimensions: int) -> dict[str, float]:
    return {"nats": nats, "bits_per_dimension": bits_per_dimension(nats, dimensions)}


def evidence_lower_bound(encode: Callable, decode: Callable, picture: Tensor, deviation: float, samples: int, draw: Draws) -> float:
    """D. P. Kingma, M. Welling, 2013, arXiv:1312.6114, eq. 7 with `samples` latents, and appendix B."""
    mean, log_variance = encode(picture)
    latents = [mean + (log_variance / 2).exp() * draw(*mean.shape) for _ in range(samples)]
    reconstruction = sum(log_normal(picture, decode(latent).double(), deviation) for latent in latents) / samples
    mean, log_variance = mean.double(), log_variance.double()
    return reconstruction - float(0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum())


def exact_trace(field: Field, time: float, sample: Tensor) -> tuple[Tensor, np.ndarray]:
    """The field and its divergence: row i of a batch of copies is asked for the derivative of its i-th value."""
    count = sample.numel()
    copies = sample.expand(count, *sample.shape[1:]).clone().requires_grad_(True)
    with torch.enable_grad():
        values = field(time, copies)
        (gradient,) = torch.autograd.grad(values.reshape(count, count).diagonal().sum(), copies)
    return values[:1].detach(), gradient.reshape(count, count).diagonal().double().sum().reshape(1).numpy()


def probed_trace(probes: Tensor) -> Callable:
    """Hutchinson's estimates of the divergence, one for each of `probes` `[S, 3, H, W]`: probe · Jacobian · probe."""

    def trace(field: Field, time: float, sample: Tensor) -> tuple[Tensor, np.ndarray]:
        copies = sample.expand_as(probes).clone().requires_grad_(True)
        with torch.enable_grad():
            values = field(time, copies)
            (gradient,) = torch.autograd.grad((values * probes).sum(), copies)
        return values[:1].detach(), (gradient * probes).double().flatten(1).sum(1).numpy()

    return trace


def rademacher(draw: Draws, count: int, side: int) -> Tensor:
    """`[count, 3, side, side]` of +1 and −1: the signs of normals, zero counting as +1."""
    normals = torch.cat([draw(1, 3, side, side) for _ in range(count)])
    return torch.where(normals >= 0, 1.0, -1.0)


def along_flow(field: Field, trace: Callable, picture: Tensor, begin: float, end: float, deviation: float) -> np.ndarray:
    """ln p(picture) = ln N(end of the way; 0, deviation²) + ∫ divergence (W. Grathwohl et al., 2018, arXiv:1810.01367, eq. 4).

    One value for each divergence that `trace` gives.
    """
    count, size = len(trace(field, begin, picture)[1]), picture.numel()

    def derivative(time: float, state: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(state[:size].astype(np.float32)).reshape(picture.shape)
        value, divergences = trace(field, time, given)
        return np.append(value.double().numpy().ravel(), divergences)

    start = np.append(picture.double().numpy().ravel(), np.zeros(count))
    found = solve_ivp(derivative, (begin, end), start, method="RK45", rtol=1e-6, atol=1e-6)
    if not found.success:
        raise SystemExit(f"RK45: {found.message}")
    return log_normal(torch.from_numpy(found.y[:size, -1]), deviation=deviation) + found.y[size:, -1]
