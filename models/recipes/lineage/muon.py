"""Muon (Jordan et al. 2024) for kernels: the momentum of each convolution or matrix, made orthogonal, is the step.

torch.optim.Muon takes matrices alone; here a kernel counts as the matrix of its outputs by everything else.
"""

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
DECAY = 0.01


def orthogonal(matrix: Tensor) -> Tensor:
    """Five Newton-Schulz steps with the coefficients of the original."""
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if turned else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: list[nn.Parameter], lr: float):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                step = orthogonal(parameter.grad.lerp(momentum, MOMENTUM).flatten(1))
                # Steps as long as AdamW's, so both take the same rate.
                length = 0.2 * max(step.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * DECAY).add_(step.view_as(parameter), alpha=-group["lr"] * length)


def optimizers(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for what lies between the first and the last layer, AdamW for the rest."""
    apart = ("enter", "leave", "condition", "modulation")
    inner = [p for n, p in network.named_parameters() if p.ndim in (2, 4) and not any(part in n for part in apart)]
    chosen = {id(p) for p in inner}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [Muon(inner, rate), torch.optim.AdamW(rest, lr=rate, weight_decay=DECAY, betas=(0.9, 0.99))]
