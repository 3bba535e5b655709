"""Reference loops of the diffusion families: diffusers' schedulers, solvers of the field, Langevin dynamics.

A `Predict` takes a sample `[1, 3, H, W]` and a timestep, and has class and guidance within it.
"""

from collections.abc import Callable

import diffusers
import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from family_noise import Draws

Predict = Callable[[Tensor, float], Tensor]
Field = Callable[[float, Tensor], Tensor]


def scheduler_loop(predict: Predict, config: dict, steps: int, eta: float | None, draw: Draws, side: int) -> Tensor:
    """The loop of diffusers' DDPM, DDIM and consistency pipelines."""
    kind = getattr(diffusers, config["_class_name"])
    scheduler = kind.from_config(config)
    scheduler.set_timesteps(steps)
    sample = draw(1, 3, side, side) * scheduler.init_noise_sigma
    more = {} if eta is None else {"eta": eta}
    with draw.within(scheduler) as generator:
        for timestep in scheduler.timesteps:
            prediction = predict(scheduler.scale_model_input(sample, timestep), float(timestep))
            sample = scheduler.step(prediction, timestep, sample, generator=generator, **more).prev_sample
    return sample


def implicit_inversion(predict: Predict, config: dict, steps: int, picture: Tensor) -> Tensor:
    """From a picture to its noise, by diffusers' DDIMInverseScheduler."""
    scheduler = diffusers.DDIMInverseScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        picture = scheduler.step(predict(picture, float(timestep)), int(timestep), picture).prev_sample
    return picture


def implicit_sampling(predict: Predict, config: dict, steps: int, sample: Tensor) -> Tensor:
    """From noise to a picture by DDIM without fresh noise."""
    scheduler = diffusers.DDIMScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(predict(sample, float(timestep)), int(timestep), sample, eta=0.0).prev_sample
    return sample


def fixed_steps(field: Field, method: str, steps: int, sample: Tensor, begin: float, end: float) -> Tensor:
    """`steps` equal steps of dx/dt = field(t, x) from `begin` to `end`."""
    length = (end - begin) / steps
    for at in range(steps):
        now, then = begin + at * length, begin + (at + 1) * length
        first = field(now, sample)
        if method == "euler":
            change = first
        elif method == "heun":
            change = (first + field(then, sample + length * first)) / 2
        else:
            second = field((now + then) / 2, sample + length / 2 * first)
            third = field((now + then) / 2, sample + length / 2 * second)
            change = (first + 2 * second + 2 * third + field(then, sample + length * third)) / 6
        sample = sample + length * change
    return sample


def adaptive(field: Field, sample: Tensor, begin: float, end: float, tolerance: float = 1e-6) -> Tensor:
    """Dormand and Prince's method as scipy has it, in f64 around the f32 network."""

    def derivative(time: float, flat: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(flat.astype(np.float32)).reshape(sample.shape)
        return field(time, given).double().numpy().ravel()

    found = solve_ivp(derivative, (begin, end), sample.double().numpy().ravel(), method="RK45", rtol=tolerance, atol=tolerance)
    if not found.success:
        raise SystemExit(f"RK45: {found.message}")
    return torch.from_numpy(found.y[:, -1].astype(np.float32)).reshape(sample.shape)


def velocity_field(predict: Predict) -> Field:
    return lambda sigma, sample: predict(sample, 1000 * sigma)


def score_field(predict: Predict) -> Field:
    """The probability flow over the logarithm of the noise level: dx / d ln σ = −σ² score."""

    def field(logarithm: float, sample: Tensor) -> Tensor:
        sigma = float(np.exp(logarithm))
        return -(sigma**2) * predict(sample, sigma)

    return field


def exploding(predict: Predict, config: dict, steps: int, draw: Draws, side: int) -> Tensor:
    """The loop of diffusers' ScoreSdeVePipeline, without its clamping."""
    scheduler = diffusers.ScoreSdeVeScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    scheduler.set_sigmas(steps)
    sample = draw(1, 3, side, side) * scheduler.init_noise_sigma
    with draw.within(scheduler) as generator:
        for at, timestep in enumerate(scheduler.timesteps):
            sigma = float(scheduler.sigmas[at])
            for _ in range(scheduler.config.correct_steps):
                sample = scheduler.step_correct(predict(sample, sigma), sample, generator=generator).prev_sample
            step = scheduler.step_pred(predict(sample, sigma), timestep, sample, generator=generator)
            sample = step.prev_sample
    return step.prev_sample_mean


def preserving(predict: Predict, config: dict, steps: int, draw: Draws, side: int) -> Tensor:
    """The loop of diffusers' variance-preserving scheduler, with a network that knows the exploding scores.

    With x = α y and y of noise level σ = s / α, where s is the noise's deviation in x: score(x, t) = score(y, σ) / α. The scheduler is
    given a noise, which it divides by −s.
    """
    from diffusers.schedulers.deprecated import ScoreSdeVpScheduler

    scheduler = ScoreSdeVpScheduler(**{key: value for key, value in config.items() if not key.startswith("_")})
    low, high = scheduler.config.beta_min, scheduler.config.beta_max
    scheduler.set_timesteps(steps)
    sample = draw(1, 3, side, side)
    with draw.within(scheduler) as generator:
        for timestep in scheduler.timesteps:
            logarithm = -0.25 * timestep**2 * (high - low) - 0.5 * timestep * low
            alpha, spread = logarithm.exp(), (1 - (2 * logarithm).exp()).sqrt()
            noise = -spread * predict(sample / alpha, float(spread / alpha)) / alpha
            sample, mean = scheduler.step_pred(noise, sample, timestep, generator=generator)
    return mean


def langevin(predict: Predict, config: dict, count: int, draw: Draws, side: int) -> Tensor:
    """Annealed Langevin dynamics (Y. Song, S. Ermon, 2019, arXiv:1907.05600, algorithm 1), begun at normals of the greatest level.

    With `denoise` the mean that the last score tells closes it (Y. Song, S. Ermon, 2020, arXiv:2006.09011, proposition 3).
    """
    levels = np.geomspace(config["sigma_max"], config["sigma_min"], count)
    sample = draw(1, 3, side, side) * config["sigma_max"]
    for sigma in levels:
        length = config["step_size"] * float(sigma / levels[-1]) ** 2
        for _ in range(config["steps_per_level"]):
            sample = sample + length / 2 * predict(sample, float(sigma)) + length**0.5 * draw(1, 3, side, side)
    if config["denoise"]:
        sample = sample + float(levels[-1]) ** 2 * predict(sample, float(levels[-1]))
    return sample
