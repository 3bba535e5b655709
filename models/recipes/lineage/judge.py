"""Judge network: 64x64 pictures to unit features in which pictures of one thing lie together, for distances between sets of pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import onnx_file


class Residual(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False), nn.BatchNorm2d(out_channels),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels, out_channels, 1)) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.skip(x) + self.body(x))


class Judge(nn.Module):
    """[B, 3, 64, 64] RGB on white in [-1, 1] to features [B, F] of length one."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 160), features: int = 96):
        super().__init__()
        self.features = features
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 2, 1), nn.ReLU())
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.blocks = nn.Sequential(*(Residual(a, b, 1 if level == 0 else 2) for level, (a, b) in enumerate(pairs)))
        self.head = nn.Linear(widths[-1], features)

    def forward(self, sample: Tensor) -> Tensor:
        x = self.blocks(self.stem(sample)).mean((2, 3))
        return functional.normalize(self.head(x).float(), dim=1)


def export_judge(network: Judge, folder: Path, bits: int = 32) -> float:
    """Writes `folder/model.onnx` and `folder/config.json`; gives the largest difference from PyTorch."""
    sample = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    worst = onnx_file.export(network, folder / "model.onnx", {"sample": sample}, ["features"], bits)
    onnx_file.write_config(folder / "config.json",
                           {"_class_name": "Judge", "sample_size": 64, "in_channels": 3, "features": network.features})
    return worst
