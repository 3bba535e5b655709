"""Where the random numbers of a family case come from: one seed's generator, or a walk between two seeds'."""

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

SMALLEST_SINE = 1e-4


def slerp(left: Tensor, right: Tensor, share: float) -> Tensor:
    """Spherical interpolation of the two as flat vectors, reckoned in f64; linear where they are nearly parallel."""
    first, second = left.double().flatten(), right.double().flatten()
    cosine = (first @ second / (first.norm() * second.norm())).clamp(-1, 1)
    angle = cosine.arccos()
    if angle.sin() < SMALLEST_SINE:
        mixed = (1 - share) * first + share * second
    else:
        mixed = (((1 - share) * angle).sin() * first + (share * angle).sin() * second) / angle.sin()
    return mixed.float().reshape(left.shape)


class Draws:
    """Standard normals as torch's generator of `seed` draws them, or those on the way from it to the generator of `to`."""

    def __init__(self, seed: int, to: int | None = None, share: float = 0.0):
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.other = None if to is None else torch.Generator("cpu").manual_seed(to)
        self.share = share

    def __call__(self, *shape: int) -> Tensor:
        left = torch.randn(shape, generator=self.generator)
        if self.other is None:
            return left
        return slerp(left, torch.randn(shape, generator=self.other), self.share)

    @contextlib.contextmanager
    def within(self, scheduler) -> Iterator[torch.Generator | None]:
        """Gives the generator that `scheduler` draws from; on a walk it is made to draw from here instead."""
        if self.other is None:
            yield self.generator
            return
        module = sys.modules[type(scheduler).__module__]
        kept = module.randn_tensor
        module.randn_tensor = lambda shape, **_: self(*shape)
        try:
            yield None
        finally:
            module.randn_tensor = kept
