"""Style-based generator and its discriminator: a mapping network, modulated convolutions, one style a layer, the class mapped along.

Karras, Laine & Aila 2018, "A Style-Based Generator Architecture for Generative Adversarial Networks", arXiv:1812.04948; weight
demodulation, skip connections to the picture and R1 as in Karras et al. 2019, "Analyzing and Improving the Image Quality of
StyleGAN", arXiv:1912.04958. There are no noise inputs: a picture is a function of its styles.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import onnx_file

SLOPE = 0.2


def activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE) * math.sqrt(2)


class Mapping(nn.Module):
    """Latents [B, D] and labels [B] to styles [B, W]."""

    def __init__(self, latent_size: int, style_size: int, classes: int, layers: int = 3):
        super().__init__()
        self.latent_size = latent_size
        self.of_class = nn.Embedding(classes, latent_size)
        widths = [2 * latent_size] + [style_size] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, latent: Tensor, class_labels: Tensor) -> Tensor:
        kind = self.of_class(class_labels)
        x = torch.cat([part * torch.rsqrt(part.square().mean(1, keepdim=True) + 1e-8) for part in (latent, kind)], 1)
        for layer in self.layers:
            x = activate(layer(x))
        return x


class ModulatedConvolution(nn.Module):
    """A convolution whose input channels are scaled by the style, its outputs brought back to unit deviation.

    Scaling features before and after is the same as scaling the weight (arXiv:1912.04958, eq. 1 and 3) and needs no kernel for
    each picture.
    """

    def __init__(self, channels: int, out_channels: int, style_size: int, size: int = 3, demodulate: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out_channels, size, padding=size // 2)
        self.style = nn.Linear(style_size, channels)
        self.demodulate = demodulate
        nn.init.normal_(self.convolution.weight, std=1 / math.sqrt(channels * size**2))
        nn.init.zeros_(self.convolution.bias)
        nn.init.normal_(self.style.weight, std=1 / math.sqrt(style_size))
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.style(style).float()
        weight = self.convolution.weight
        y = functional.conv2d(x * scale[:, :, None, None].to(x.dtype), weight, None, padding=self.convolution.padding)
        if self.demodulate:
            power = functional.linear(scale.square(), weight.square().sum((2, 3)))
            y = y * torch.rsqrt(power + 1e-8)[:, :, None, None].to(y.dtype)
        return y + self.convolution.bias[:, None, None].to(y.dtype)


class Synthesis(nn.Module):
    """Styles [B, L, W] to pictures [B, 3, S, S]; the first width belongs to sides of 4, each further one doubles them."""

    def __init__(self, widths: tuple[int, ...], style_size: int):
        super().__init__()
        self.style_size, self.side = style_size, 4 << (len(widths) - 1)
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = ModulatedConvolution(widths[0], widths[0], style_size)
        self.pairs = nn.ModuleList(
            nn.ModuleList([ModulatedConvolution(a, b, style_size), ModulatedConvolution(b, b, style_size)])
            for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.colours = nn.ModuleList(ModulatedConvolution(w, 3, style_size, 1, demodulate=False) for w in widths)
        # As in the paper, a layer to colours takes the style of the convolution that follows it.
        self.style_count = 2 * len(widths)

    def forward(self, styles: Tensor) -> Tensor:
        x = activate(self.first(self.constant.expand(styles.shape[0], -1, -1, -1), styles[:, 0]))
        picture = self.colours[0](x, styles[:, 1])
        for level, (widen, refine) in enumerate(self.pairs, start=1):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = activate(widen(x, styles[:, 2 * level - 1]))
            x = activate(refine(x, styles[:, 2 * level]))
            picture = functional.interpolate(picture, scale_factor=2.0, mode="bilinear", align_corners=False)
            picture = picture + self.colours[level](x, styles[:, 2 * level + 1])
        return picture.float()


class Generator(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (96, 96, 64, 48), latent_size: int = 64, style_size: int = 96, classes: int = 8):
        super().__init__()
        self.mapping = Mapping(latent_size, style_size, classes)
        self.synthesis = Synthesis(widths, style_size)
        self.latent_size, self.classes = latent_size, classes

    def forward(self, latent: Tensor, class_labels: Tensor) -> Tensor:
        return self.synthesis(self.mapping(latent, class_labels)[:, None].expand(-1, self.synthesis.style_count, -1))


class Down(nn.Module):
    """A residual block of the discriminator that halves the sides."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(activate(self.first(x)), 2)
        return (activate(self.second(y)) + self.skip(functional.avg_pool2d(x, 2))) / math.sqrt(2)


class Discriminator(nn.Module):
    """Pictures [B, 3, S, S] and labels [B] to one score each [B]; the class enters by an inner product (arXiv:1802.05637)."""

    def __init__(self, widths: tuple[int, ...] = (96, 96, 64, 48), classes: int = 8, group: int = 4):
        super().__init__()
        self.group = group
        self.stem = nn.Conv2d(3, widths[-1], 3, padding=1)
        self.blocks = nn.ModuleList(Down(a, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Conv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.dense = nn.Linear(widths[0] * 16, widths[0])
        self.score = nn.Linear(widths[0], 1)
        self.of_class = nn.Embedding(classes, widths[0])
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.normal_(part.weight, std=1 / math.sqrt(part.weight[0].numel()))
        nn.init.normal_(self.of_class.weight, std=1 / math.sqrt(widths[0]))

    def variety(self, x: Tensor) -> Tensor:
        """How far the pictures of a group lie apart, as one more channel (Karras et al. 2017, arXiv:1710.10196, section 3)."""
        grouped = x.float().reshape(self.group, -1, *x.shape[1:])
        deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, deviation.repeat(self.group)[:, None, None, None].expand(-1, 1, *x.shape[2:]).to(x.dtype)], 1)

    def forward(self, sample: Tensor, class_labels: Tensor) -> Tensor:
        x = activate(self.stem(sample))
        for block in self.blocks:
            x = block(x)
        x = activate(self.last(self.variety(x)))
        x = activate(self.dense(x.flatten(1))).float()
        return (self.score(x).float() + (x * self.of_class(class_labels)).sum(1, keepdim=True))[:, 0]


@torch.no_grad()
def mean_styles(generator: Generator, count: int = 4096) -> Tensor:
    """The mean style of each class [K, W]: where truncation leads."""
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(count, generator.latent_size, generator=random)
    return torch.stack([generator.mapping(latent, torch.full((count,), k)).mean(0) for k in range(generator.classes)])


def export_gan(generator: Generator, folder: Path, bits: int = 32) -> float:
    """Writes `mapping/` and `synthesis/` under `folder`; gives the largest difference from PyTorch."""
    onnx_file.round_weights(generator, bits)
    mapping, synthesis = generator.mapping, generator.synthesis
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(2, generator.latent_size, generator=random)
    styles = torch.randn(2, synthesis.style_count, synthesis.style_size, generator=random)
    worst = max(
        onnx_file.export(mapping, folder / "mapping" / "model.onnx",
                         {"latent": latent, "class_labels": torch.tensor([0, generator.classes - 1])}, ["styles"], bits, exact=True),
        onnx_file.export(synthesis, folder / "synthesis" / "model.onnx", {"styles": styles}, ["sample"], bits, exact=True,
                         fold=False),
    )
    onnx_file.write_config(folder / "mapping" / "config.json", {
        "_class_name": "GanMapping", "latent_size": generator.latent_size,
        "mean_styles": [[round(value, 6) for value in row] for row in mean_styles(generator).tolist()],
    })
    onnx_file.write_config(folder / "synthesis" / "config.json", {
        "_class_name": "GanSynthesis", "style_count": synthesis.style_count, "style_size": synthesis.style_size,
        "sample_size": synthesis.side, "out_channels": 3,
    })
    return worst
