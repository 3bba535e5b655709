"""Tiny networks of the one-pass families, of the classes that the recipes under models/recipes/lineage/ train."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from family_networks import CLASSES
from tiny_networks import fill

sys.path.append(str(Path(__file__).resolve().parents[2] / "models" / "recipes" / "lineage"))

import flow as flow_recipe  # noqa: E402
import gan as gan_recipe  # noqa: E402
import vae as vae_recipe  # noqa: E402

SIDE = {"vae": 16, "gan": 16, "flow": 8}
VAE_DEVIATION = 0.25


def autoencoder() -> vae_recipe.Autoencoder:
    network = fill(vae_recipe.Autoencoder((8, 16), latent_size=8, classes=len(CLASSES), side=SIDE["vae"]), 21)
    with torch.no_grad():
        # A posterior that is narrower than the prior, so that what was drawn shows and the divergence is more than noise.
        network.encoder.head.weight[8:] *= 0.3
        network.encoder.head.bias[8:] -= 2.0
    return network


def generator() -> gan_recipe.Generator:
    network = fill(gan_recipe.Generator((8, 8, 6), latent_size=20, style_size=12, classes=len(CLASSES)), 22)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, gan_recipe.ModulatedConvolution):
                part.style.bias += 1
        for colours in network.synthesis.colours:
            colours.convolution.weight *= 0.3
    return network


class Encoder(nn.Module):
    """The flow without classes: the one that it has is always given."""

    def __init__(self, flow: flow_recipe.Flow):
        super().__init__()
        self.flow = flow

    def forward(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow(sample, labels(sample))


class Decoder(Encoder):
    def forward(self, latent: Tensor) -> Tensor:
        return self.flow.inverse(latent, labels(latent))


def labels(values: Tensor) -> Tensor:
    return torch.zeros(values.shape[0], dtype=torch.long)


def flow() -> flow_recipe.Flow:
    network = fill(flow_recipe.Flow(steps=(3, 2), widths=(8, 8), classes=1, side=SIDE["flow"]), 23, gain=0.7)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, flow_recipe.Step):
                part.matrix.copy_(torch.linalg.qr(part.matrix)[0])
                part.log_scale.add_(0.1)
    network.settle()
    return network


def modules(name: str) -> dict[str, nn.Module]:
    """The torch networks of a bundle by component."""
    if name == "vae":
        network = autoencoder()
        return {"encoder": network.encoder, "decoder": network.decoder}
    if name == "gan":
        network = generator()
        return {"mapping": network.mapping, "synthesis": network.synthesis}
    network = flow()
    return {"encoder": Encoder(network).eval(), "decoder": Decoder(network).eval()}


def mean_styles(mapping: nn.Module, count: int = 4096) -> list[list[float]]:
    """The mean style of each class, as the configuration holds it."""
    latent = torch.randn(count, mapping.latent_size, generator=torch.Generator("cpu").manual_seed(0))
    with torch.no_grad():
        rows = [mapping(latent, torch.full((count,), label)).mean(0) for label in range(len(CLASSES))]
    return [[round(value, 6) for value in row.tolist()] for row in rows]


def configurations(name: str, parts: dict[str, nn.Module]) -> dict[str, dict]:
    """`config.json` of each component."""
    side = SIDE[name]
    if name == "gan":
        synthesis = parts["synthesis"]
        mapping = {"_class_name": "GanMapping", "latent_size": parts["mapping"].latent_size, "mean_styles": mean_styles(parts["mapping"])}
        sizes = {"style_count": synthesis.style_count, "style_size": synthesis.style_size}
        return {"mapping": mapping, "synthesis": {"_class_name": "GanSynthesis", **sizes, "sample_size": side, "out_channels": 3}}
    shared = {"latent_size": 8 if name == "vae" else 3 * side**2, "sample_size": side}
    likelihood = {"deviation": VAE_DEVIATION} if name == "vae" else {}
    title = "Vae" if name == "vae" else "Flow"
    return {
        "encoder": {"_class_name": f"{title}Encoder", **shared, "in_channels": 3},
        "decoder": {"_class_name": f"{title}Decoder", **shared, "out_channels": 3, **likelihood},
    }


def ports(name: str, role: str, given: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The inputs of a component with an example of each, and its outputs."""
    labelled = {} if name == "flow" else {"class_labels": torch.tensor([2, 0])}
    outputs = {
        "encoder": ["mean", "log_variance"] if name == "vae" else ["latent", "log_determinant"],
        "mapping": ["styles"],
    }
    if role == "synthesis":
        return {"styles": given["styles"]}, ["sample"]
    main = "sample" if role == "encoder" else "latent"
    return {main: given[main], **labelled}, outputs.get(role, ["sample"])
