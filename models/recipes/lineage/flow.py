"""Normalizing flow: squeezed levels of ActNorm, invertible 1x1 convolution and affine coupling, all told the class.

Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039; the multi-scale form and the
coupling are Dinh, Sohl-Dickstein & Bengio's 2016, "Density estimation using Real NVP", arXiv:1605.08803. The couplings' log-scale
is bounded, so that neither direction can run away.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import onnx_file

BOUND = 2.0


def squeeze(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, 4 C, H / 2, W / 2]: each square of four pixels becomes channels."""
    channels, height, width = x.shape[1:]
    x = x.reshape(-1, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(-1, channels * 4, height // 2, width // 2)


def unsqueeze(x: Tensor) -> Tensor:
    channels, height, width = x.shape[1:]
    x = x.reshape(-1, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(-1, channels // 4, height * 2, width * 2)


class Conditioner(nn.Module):
    """Features and labels to a log-scale and a shift for `out_channels` channels; zero at first."""

    def __init__(self, channels: int, out_channels: int, width: int, classes: int):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 2 * out_channels, 3, padding=1)
        self.of_class = nn.Embedding(classes, width)
        for weight in (self.last.weight, self.last.bias, self.of_class.weight):
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # While training only these convolutions run in bf16; everything else that a likelihood is made of stays in f32.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            x = functional.relu(self.first(x) + self.of_class(labels)[:, :, None, None])
            scale, shift = self.last(functional.relu(self.second(x))).float().chunk(2, 1)
        return BOUND * torch.tanh(scale / BOUND), shift


class Step(nn.Module):
    """One step of flow (arXiv:1807.03039, table 1)."""

    def __init__(self, channels: int, width: int, classes: int):
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.matrix = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.register_buffer("inverse_matrix", torch.linalg.inv(self.matrix.detach()))
        self.kept = channels // 2
        self.conditioner = Conditioner(self.kept, channels - self.kept, width, classes)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """ActNorm's first batch: zero mean, unit deviation."""
        deviation, mean = torch.std_mean(x, (0, 2, 3))
        self.log_scale.copy_(-(deviation + 1e-4).log())
        self.bias.copy_(-mean)

    @torch.no_grad()
    def settle(self) -> None:
        """Keeps the inverse of the matrix that training left, worked out in f64."""
        self.inverse_matrix.copy_(torch.linalg.inv(self.matrix.double()).float())

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.shape[2] * x.shape[3]
        x = (x + self.bias[:, None, None]) * self.log_scale.exp()[:, None, None]
        x = functional.conv2d(x, self.matrix[:, :, None, None])
        x1, x2 = x[:, :self.kept], x[:, self.kept:]
        scale, shift = self.conditioner(x1, labels)
        fixed = pixels * (self.log_scale.sum() + self.volume())
        return torch.cat([x1, (x2 + shift) * scale.exp()], 1), scale.sum((1, 2, 3)) + fixed

    def volume(self) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return torch.tensor(float(torch.linalg.slogdet(self.matrix.double())[1]))
        return torch.linalg.slogdet(self.matrix)[1]

    def inverse(self, y: Tensor, labels: Tensor) -> Tensor:
        y1, y2 = y[:, :self.kept], y[:, self.kept:]
        scale, shift = self.conditioner(y1, labels)
        x = torch.cat([y1, y2 * (-scale).exp() - shift], 1)
        x = functional.conv2d(x, self.inverse_matrix[:, :, None, None])
        return x * (-self.log_scale).exp()[:, None, None] - self.bias[:, None, None]


class Prior(nn.Module):
    """What leaves the flow, made standard normal by an affine map that the class, and what stays, may choose."""

    def __init__(self, seen: int, channels: int, width: int, classes: int):
        super().__init__()
        self.seen = seen
        self.conditioner = Conditioner(seen, channels, width, classes) if seen else None
        self.of_class = nn.Embedding(classes, 2 * channels)
        nn.init.zeros_(self.of_class.weight)

    def affine(self, seen: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.of_class(labels)[:, :, None, None].chunk(2, 1)
        scale = BOUND * torch.tanh(scale / BOUND)
        if self.conditioner is not None and seen is not None:
            more, further = self.conditioner(seen, labels)
            scale, shift = scale + more, shift + further
        return scale, shift

    def forward(self, x: Tensor, seen: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.affine(seen, labels)
        return (x + shift) * scale.exp(), (scale + torch.zeros_like(x)).sum((1, 2, 3))

    def inverse(self, z: Tensor, seen: Tensor | None, labels: Tensor) -> Tensor:
        scale, shift = self.affine(seen, labels)
        return z * (-scale).exp() - shift


class Flow(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] and labels [B] to latents [B, 3 S S], N(0, I), and the log-determinant [B]; and back.

    `steps` and `widths` have an entry for each level; a level halves the sides and, but for the last, lets half the channels go.
    """

    def __init__(self, steps: tuple[int, ...] = (8, 8, 6), widths: tuple[int, ...] = (96, 96, 96), classes: int = 8, side: int = 32):
        super().__init__()
        self.side, self.classes = side, classes
        self.levels, self.priors, self.shapes = nn.ModuleList(), nn.ModuleList(), []
        channels = 3
        for level, (count, width) in enumerate(zip(steps, widths, strict=True)):
            channels, side = channels * 4, side // 2
            self.levels.append(nn.ModuleList(Step(channels, width, classes) for _ in range(count)))
            last = level == len(steps) - 1
            leaving = channels if last else channels // 2
            self.priors.append(Prior(channels - leaving, leaving, width, classes))
            self.shapes.append((leaving, side, side))
            channels -= leaving

    def forward(self, sample: Tensor, class_labels: Tensor) -> tuple[Tensor, Tensor]:
        latents, x = [], sample
        total = torch.zeros_like(sample[:, 0, 0, 0])
        for steps, prior, (leaving, _, _) in zip(self.levels, self.priors, self.shapes, strict=True):
            x = squeeze(x)
            for step in steps:
                x, more = step(x, class_labels)
                total = total + more
            z, x = x[:, :leaving], x[:, leaving:]
            z, more = prior(z, x if prior.seen else None, class_labels)
            total = total + more
            latents.append(z.flatten(1))
        return torch.cat(latents, 1), total

    def inverse(self, latent: Tensor, class_labels: Tensor) -> Tensor:
        parts = latent.split([c * h * w for c, h, w in self.shapes], 1)
        x = None
        for steps, prior, part, shape in reversed(list(zip(self.levels, self.priors, parts, self.shapes, strict=True))):
            z = prior.inverse(part.reshape(-1, *shape), x, class_labels)
            x = z if x is None else torch.cat([z, x], 1)
            for step in reversed(steps):
                x = step.inverse(x, class_labels)
            x = unsqueeze(x)
        return x

    @torch.no_grad()
    def start(self, sample: Tensor, labels: Tensor) -> None:
        """Sets every ActNorm by a first batch."""
        x = sample
        for steps, (leaving, _, _) in zip(self.levels, self.shapes, strict=True):
            x = squeeze(x)
            for step in steps:
                step.start(x)
                x, _ = step(x, labels)
            x = x[:, leaving:]

    def settle(self) -> None:
        for steps in self.levels:
            for step in steps:
                step.settle()


class Inverse(nn.Module):
    def __init__(self, flow: Flow):
        super().__init__()
        self.flow = flow

    def forward(self, latent: Tensor, class_labels: Tensor) -> Tensor:
        return self.flow.inverse(latent, class_labels)


def export_flow(network: Flow, folder: Path, bits: int = 32) -> float:
    """Writes `encoder/` and `decoder/` under `folder`, of the same rounded weights; gives the largest difference from PyTorch."""
    onnx_file.round_weights(network, bits)
    network.settle()
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, network.classes - 1])
    sample = torch.rand(2, 3, network.side, network.side, generator=random) * 2 - 1
    latent = torch.randn(2, 3 * network.side**2, generator=random) * 0.7
    worst = max(
        onnx_file.export(network, folder / "encoder" / "model.onnx", {"sample": sample, "class_labels": labels},
                         ["latent", "log_determinant"], bits, exact=True),
        onnx_file.export(Inverse(network), folder / "decoder" / "model.onnx", {"latent": latent, "class_labels": labels}, ["sample"], bits,
                         exact=True),
    )
    shared = {"latent_size": 3 * network.side**2, "sample_size": network.side}
    onnx_file.write_config(folder / "encoder" / "config.json", {"_class_name": "FlowEncoder", **shared, "in_channels": 3})
    onnx_file.write_config(folder / "decoder" / "config.json", {"_class_name": "FlowDecoder", **shared, "out_channels": 3})
    return worst
