"""The student: a teacher's denoiser with narrower hidden layers, its modulation matrices squeezed through a low rank."""

from pathlib import Path

import torch
from torch import Tensor, nn

import neighbours
import run
from denoiser import Denoiser, Model


def teacher(work: Path, vocabulary: dict[str, int]) -> tuple[Model, dict]:
    """The averaged teacher, frozen, with its mixtures of unheard words."""
    weights, facts = run.averaged(work / "denoiser.pt")
    network = Model(facts, len(vocabulary)).eval().requires_grad_(False)
    network.load_state_dict(weights)
    neighbours.apply(work, network.text_encoder, vocabulary)
    return network.to(run.device()), facts


def squeezed(matrix: Tensor, inputs: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors whose product is nearest to `matrix` on `inputs` (n, width), in the sense of least squares."""
    second = inputs.t() @ inputs / len(inputs)
    values, vectors = torch.linalg.eigh(second + 1e-5 * second.diagonal().mean() * torch.eye(len(second), device=second.device))
    root, inverse = (vectors * values.sqrt()) @ vectors.t(), (vectors / values.sqrt()) @ vectors.t()
    left, middle, right = torch.linalg.svd(matrix @ root, full_matrices=False)
    share = middle[:rank].sqrt()
    return (share[:, None] * right[:rank]) @ inverse, left[:, :rank] * share


def narrowed(up: nn.Linear, down: nn.Linear, hidden: Tensor, width: int) -> dict[str, Tensor]:
    """The `width` most telling hidden numbers of two layers; the second is fitted again, so that they stand in for the rest.

    `hidden` (n, hidden width) is what the second layer sees.
    """
    chosen = (hidden.var(0) * down.weight.square().sum(0)).topk(width).indices
    seen = torch.cat([hidden[:, chosen], torch.ones(len(hidden), 1, device=hidden.device)], dim=1)
    square = seen.t() @ seen
    square += 1e-3 * square.diagonal().mean() * torch.eye(len(square), device=square.device)
    fitted = torch.linalg.solve(square, seen.t() @ (hidden @ down.weight.t()))
    return {"up.weight": up.weight[chosen], "up.bias": up.bias[chosen], "down.weight": fitted[:-1].t().contiguous(),
            "down.bias": down.bias + fitted[-1]}


@torch.no_grad()
def student(whole: Denoiser, facts: dict, rank: int, hidden: int, sample: Tensor, time: Tensor, text: Tensor) -> Denoiser:
    """A student that does on `sample`, `time` and `text` nearly what the teacher does."""
    made = Denoiser(facts["width"], facts["layers"], facts["heads"], facts["text_width"], rank, hidden).to(time.device)
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda _, arguments: seen.__setitem__(name, arguments[0].float().flatten(0, -2))

    hooks = [whole.modulation.register_forward_pre_hook(keep("condition"))]
    hooks += [layer.down.register_forward_pre_hook(keep(f"layers.{i}.")) for i, layer in enumerate(whole.layers)]
    whole(sample, time, text)
    for hook in hooks:
        hook.remove()
    state = {}
    for name, value in whole.state_dict().items():
        if name.endswith("modulation.weight"):
            head = name.removesuffix("weight")
            state[f"{head}0.weight"], state[f"{head}1.weight"] = squeezed(value, seen["condition"], rank)
        elif name.endswith("modulation.bias"):
            state[name.replace("modulation.", "modulation.1.")] = value
        else:
            state[name] = value
    for i, layer in enumerate(whole.layers):
        prefix = f"layers.{i}."
        state |= {prefix + name: value for name, value in narrowed(layer.up, layer.down, seen[prefix], hidden).items()}
    made.load_state_dict(state)
    return made
