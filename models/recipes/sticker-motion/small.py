"""Matrices in six bits: rounded column by column, each column's error made good by those that are still to come.

Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", 2022, arXiv:2210.17323, algorithm 1, with one factor for each output.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

BITS = 6
LARGEST = 2 ** (BITS - 1) - 1
# Of the mean of the diagonal: keeps inputs that hardly occur from ruling the others.
DAMPING = 0.01


def factors(weight: Tensor) -> Tensor:
    """(n, inputs) to the factor (n, 1), rounded to fp16, with which rounding is off least."""
    most = weight.abs().amax(1, keepdim=True).clamp_min(1e-3)
    best, chosen = torch.full_like(most, torch.inf), most / LARGEST
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        factor = (most * share / LARGEST).half().float()
        off = (weight - rounded(weight, factor)).square().sum(1, keepdim=True)
        chosen, best = torch.where(off < best, factor, chosen), torch.minimum(off, best)
    return chosen


def rounded(weight: Tensor, factor: Tensor) -> Tensor:
    return (weight / factor).round().clamp(-LARGEST, LARGEST) * factor


def fitted(weight: Tensor, factor: Tensor, second: Tensor) -> Tensor:
    """A matrix (out, in) rounded to multiples of its outputs' factors, given the second moments of its inputs."""
    weight, inputs = weight.clone(), weight.shape[1]
    second = second + DAMPING * second.diagonal().mean() * torch.eye(inputs)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(second)), upper=True)
    made = torch.zeros_like(weight)
    for column in range(inputs):
        made[:, column] = rounded(weight[:, column : column + 1], factor)[:, 0]
        error = (weight[:, column] - made[:, column]) / upper[column, column]
        weight[:, column:] -= error[:, None] * upper[column, column:]
    return made


@torch.no_grad()
def shrink(network: nn.Module, forward: Callable[[], object]) -> dict[str, Tensor]:
    """Rounds every linear layer on what it sees when `forward` runs, in the order in which they run, and every table by itself.

    Returns the factor of each output (n, 1) by the parameter's name.
    """
    order: dict[str, None] = {}
    kept = {f"{name}.weight": factors(layer.weight) for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Embedding))}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Embedding):
            layer.weight.copy_(rounded(layer.weight, kept[f"{name}.weight"]))
    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
             for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    forward()
    for hook in hooks:
        hook.remove()
    for name in order:
        layer, seen = network.get_submodule(name), []
        hook = layer.register_forward_pre_hook(lambda _, arguments, seen=seen: seen.append(arguments[0].float().flatten(0, -2)))
        forward()
        hook.remove()
        inputs = torch.cat(seen)
        layer.weight.copy_(fitted(layer.weight, kept[f"{name}.weight"], inputs.T @ inputs / len(inputs)))
    return kept
