"""Runs the samplers of score networks for `make_samplers.py`: diffusers' classes in the order of its pipeline, and what it has not.

Each function takes a case's configuration, its run, the standard normal noise that the run starts with, a picture to begin from
(or None) and a source of noise, and returns a `Loop`: for each network call what the network is told (`labels`), whether
noise is drawn, and the sample before and after.

The network is a stand-in, the score of a Gaussian of variance 1 around 0.5 * bias, seen at the noise level that it is told:

    score = (0.5 * bias - x) / (1 + label²),   bias as in `make_samplers.py`

- `variance_exploding`: `ScoreSdeVeScheduler` as `ScoreSdeVePipeline` calls it: correctors, then the predictor, and the mean of
  the last one. The draw for the last predictor, which no result depends on, is not counted.
- `variance_preserving`: `ScoreSdeVpScheduler`. The network is one of exploding variance: it sees x / √ᾱ at the label
  √((1 - ᾱ) / ᾱ), and its answer divided by √ᾱ is the score of x. The class wants -√(1 - ᾱ) times that, and is given it.
  The corrector, which the class has not, is algorithm 5 of arXiv:2011.13456, with α = exp(-β / N).
- `annealed_langevin`: algorithm 1 of arXiv:1907.05600, the last step of arXiv:2006.09011 (proposition 3) and its technique 4.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from diffusers import ScoreSdeVeScheduler
from diffusers.schedulers.deprecated import ScoreSdeVpScheduler

Noise = Callable[[torch.Size], torch.Tensor]


@dataclasses.dataclass
class Loop:
    initial: float
    order: int
    labels: list[float] = dataclasses.field(default_factory=list)
    draws: list[int] = dataclasses.field(default_factory=list)
    samples: list[torch.Tensor] = dataclasses.field(default_factory=list)


def score(sample: torch.Tensor, label: float) -> torch.Tensor:
    """The stand-in for the network."""
    count = math.prod(sample.shape[1:])
    bias = torch.tensor([((7 * i) % 11 - 5) / 11 for i in range(count)], dtype=torch.float32).reshape(1, *sample.shape[1:])
    label = np.float32(label)
    return (0.5 * bias - sample) / float(np.float32(1) + label * label)


def langevin(sample: torch.Tensor, gradient: torch.Tensor, noise: torch.Tensor, snr: float, alpha: float) -> torch.Tensor:
    """Algorithm 5 of arXiv:2011.13456 for a batch of one."""
    step_size = (snr * torch.linalg.norm(noise) / torch.linalg.norm(gradient)) ** 2 * 2 * alpha
    return sample + step_size * gradient + torch.sqrt(2 * step_size) * noise


def variance_exploding(config: dict, run: dict, begin: int, start: torch.Tensor, original: torch.Tensor | None,
                       noise: Noise) -> Loop:
    scheduler = ScoreSdeVeScheduler.from_config(config)
    scheduler.set_timesteps(run["steps"])
    scheduler.set_sigmas(run["steps"])
    correct_steps = scheduler.config.correct_steps
    loop = Loop(initial=float(scheduler.init_noise_sigma), order=correct_steps + 1)
    for sigma in scheduler.sigmas:
        loop.labels += [float(sigma)] * (correct_steps + 1)
    sample = start * scheduler.init_noise_sigma if original is None else original + start * np.float32(loop.labels[begin]).item()
    loop.samples.append(sample)
    for index in range(begin, len(loop.labels)):
        step, place = divmod(index, correct_steps + 1)
        prediction = score(sample, loop.labels[index])
        if place < correct_steps:
            sample = scheduler.step_correct(prediction, sample).prev_sample
        else:
            output = scheduler.step_pred(prediction, scheduler.timesteps[step], sample)
            sample = output.prev_sample if index + 1 < len(loop.labels) else output.prev_sample_mean
        loop.draws.append(int(index + 1 < len(loop.labels)))
        loop.samples.append(sample)
    return loop


def variance_preserving(config: dict, run: dict, begin: int, start: torch.Tensor, original: torch.Tensor | None,
                        noise: Noise) -> Loop:
    scheduler = ScoreSdeVpScheduler.from_config(config)
    scheduler.set_timesteps(run["steps"])
    correct_steps, snr = config.get("correct_steps", 0), config.get("snr", 0.15)
    beta_min, span = scheduler.config.beta_min, scheduler.config.beta_max - scheduler.config.beta_min
    loop = Loop(initial=1.0, order=correct_steps + 1)
    shares = []
    for time in scheduler.timesteps:
        spent = 0.5 * float(time) ** 2 * span + float(time) * beta_min
        shares.append(math.exp(-spent))
        loop.labels += [math.sqrt(math.expm1(spent))] * (correct_steps + 1)
    share = shares[begin // (correct_steps + 1)]
    sample = start if original is None else math.sqrt(share) * original + math.sqrt(1 - share) * start
    loop.samples.append(sample)
    for index in range(begin, len(loop.labels)):
        step, place = divmod(index, correct_steps + 1)
        time, root = scheduler.timesteps[step], math.sqrt(shares[step])
        own = score(sample / root, loop.labels[index]) / root
        if place < correct_steps:
            beta = beta_min + float(time) * span
            sample = langevin(sample, own, noise(sample.shape), snr, math.exp(-beta / run["steps"]))
        else:
            # The class divides by a deviation that f32 rounds coarsely near 0, so the same rounding stands here.
            exponent = -0.25 * time**2 * span - 0.5 * time * beta_min
            deviation = torch.sqrt(1.0 - torch.exp(2.0 * exponent))
            moved, mean = scheduler.step_pred(-deviation * own, sample, time)
            sample = moved if index + 1 < len(loop.labels) else mean
        loop.draws.append(int(index + 1 < len(loop.labels)))
        loop.samples.append(sample)
    return loop


def best_share(ratio: float, steps: int) -> float:
    """Technique 4 of arXiv:2006.09011: ϵ / σ_L² for levels `ratio` apart."""

    def excess(logarithm: float) -> float:
        share = math.exp(logarithm)
        kept = (1 - share) ** 2
        rest = 2 * share / (1 - kept)
        return abs(kept**steps * (ratio**2 - rest) + rest - 1)

    places = np.linspace(math.log(1e-6), math.log(0.9), 2000)
    best = int(np.argmin([excess(place) for place in places]))
    around = (places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)])
    return math.exp(scipy.optimize.minimize_scalar(excess, bounds=around, method="bounded", options={"xatol": 1e-13}).x)


def annealed_langevin(config: dict, run: dict, begin: int, start: torch.Tensor, original: torch.Tensor | None,
                      noise: Noise) -> Loop:
    smallest, largest = config.get("sigma_min", 0.01), config.get("sigma_max", 50.0)
    per_level, denoise = config.get("steps_per_level", 5), config.get("denoise", True)
    levels = torch.exp(torch.linspace(math.log(largest), math.log(smallest), run["steps"]))
    step_size = config.get("step_size")
    if step_size is None:
        ratio = (largest / smallest) ** (1 / max(run["steps"] - 1, 1))
        # The paper of 2020 takes whole steps where that of 2019 takes half ones.
        step_size = 2 * best_share(ratio, per_level) * float(levels[-1]) ** 2
    loop = Loop(initial=largest, order=per_level, labels=[float(level) for level in levels for _ in range(per_level)])
    if denoise:
        loop.labels.append(float(levels[-1]))
    sample = start * largest if original is None else original + start * loop.labels[begin]
    loop.samples.append(sample)
    for index in range(begin, len(loop.labels)):
        gradient = score(sample, loop.labels[index])
        if index < per_level * len(levels):
            width = step_size * (levels[index // per_level] / levels[-1]) ** 2
            sample = sample + width / 2 * gradient + torch.sqrt(width) * noise(sample.shape)
            loop.draws.append(1)
        else:
            sample = sample + levels[-1] ** 2 * gradient
            loop.draws.append(0)
        loop.samples.append(sample)
    return loop


DRIVERS = {
    "ScoreSdeVeScheduler": variance_exploding,
    "ScoreSdeVpScheduler": variance_preserving,
    "AnnealedLangevinScheduler": annealed_langevin,
}
