"""Trains the denoiser as ddpm from nothing, or as cnf or score from the ddpm's weights.

    python train_diffusion.py --family ddpm --work work --configuration cpu

Writes `<family>.pt` as it goes; run again to resume.
"""

import math

import torch
from torch import Tensor, nn

from diffusion import arguments, build, clean_batch, drop, load, train
from forms import TIMES, cumulative_alphas, form
from training import Pictures

SIGMA_MIN, SIGMA_MAX = 0.01, 50.0
# A warm start needs no longer steps than the end of the ddpm's own training had.
WARM_RATE_SHARE = 0.25


def spread(count: int) -> Tensor:
    """Numbers in [0, 1), one in each of `count` equal parts: the loss of a batch then depends less on the times it drew."""
    return (torch.arange(count) + torch.rand(count)) / count


def wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


class Losses:
    def __init__(self, pictures: Pictures, batch: int):
        self.pictures, self.size, self.classes = pictures, batch, len(pictures.classes)
        self.alphas = cumulative_alphas()

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        clean, labels = clean_batch(self.pictures, self.size)
        return clean, torch.randn(clean.shape), drop(labels, self.classes)

    def ddpm(self, network: nn.Module, _share: float) -> Tensor:
        """The error of v, which weighs the error of the noise by 1 + signal / noise (Salimans & Ho 2022, section 4)."""
        clean, noise, labels = self.batch()
        times = (spread(self.size) * TIMES).long()
        alpha, sigma = wide(self.alphas[times].sqrt()), wide((1 - self.alphas[times]).sqrt())
        made = network(alpha * clean + sigma * noise, times.float(), labels)
        return (made.float() - (alpha * noise - sigma * clean)).square().mean()

    def cnf(self, network: nn.Module, _share: float) -> Tensor:
        """Conditional flow matching on straight paths (Lipman et al. 2022, eq. 23): half of the times logit-normal, half uniform."""
        clean, noise, labels = self.batch()
        middle = torch.sigmoid(torch.special.ndtri(spread(self.size).clamp(1e-3, 1 - 1e-3)))
        share = torch.where(torch.rand(self.size) < 0.5, middle, spread(self.size)[torch.randperm(self.size)])
        made = network(torch.lerp(clean, noise, wide(share)), 1000 * share, labels)
        return (made.float() - (noise - clean)).square().mean()

    def score(self, network: nn.Module, _share: float) -> Tensor:
        """Denoising score matching (Vincent 2011; Song & Ermon 2019, eq. 6), each level weighed by sigma^2 (1 + sigma^2)."""
        clean, noise, labels = self.batch()
        # Most levels lie where pictures take shape, a quarter anywhere between the ends.
        middle = torch.exp(-0.2 + 1.4 * torch.special.ndtri(spread(self.size).clamp(1e-3, 1 - 1e-3)))
        low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
        anywhere = torch.exp(low + (high - low) * torch.rand(self.size))
        level = torch.where(torch.rand(self.size) < 0.25, anywhere, middle).clamp(SIGMA_MIN, SIGMA_MAX)
        made = network(clean + wide(level) * noise, level, labels)
        weight = wide(1 + level.square())
        return (weight * (wide(level) * made.float() + noise).square()).mean()


def main() -> None:
    args = arguments(__doc__.splitlines()[0], ("ddpm", "cnf", "score"))
    pictures, settings = Pictures(args.data, held_out=False), args.settings
    classes, facts = len(pictures.classes), {"pictures": len(pictures), "step_counts": False}
    rate = settings["rate"]
    if args.family == "ddpm":
        network = build(settings, classes)
    else:
        network, teacher = load(args.work / "ddpm.pt")
        rate *= WARM_RATE_SHARE
        facts["warm_minutes"] = teacher["minutes"]
    facts["classes"] = classes
    losses = Losses(pictures, settings["batch"])
    named = form(args.family, network)
    train(network, args, lambda _network, share: getattr(losses, args.family)(named, share), facts, rate)


if __name__ == "__main__":
    main()
