"""Writes a denoiser as ONNX by the contract of the diffusion families' bundles."""

from pathlib import Path

import torch
from torch import Tensor, nn

from forms import StepCounting
from onnx_file import export, write_config


def example(network: nn.Module, side: int, classes: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "sample": torch.randn(2, 3, side, side, generator=generator), "timestep": torch.tensor([500.0, 0.5]),
        "class_labels": torch.tensor([0, classes]),
    }
    return inputs | ({"step_count": torch.tensor([1, 4])} if isinstance(network, StepCounting) else {})


def export_unet(network: nn.Module, folder: Path, side: int, classes: int, bits: int = 32, extra: dict | None = None) -> float:
    """Writes `folder/model.onnx` and `folder/config.json`; gives the largest difference from PyTorch.

    `network` is one of `forms.form`'s. With 8 `bits` large weights are kept as int8, with 16 as fp16, with 32 as they are.
    """
    found = export(network, folder / "model.onnx", example(network, side, classes), ["out_sample"], bits)
    write_config(folder / "config.json", {
        "_class_name": "UNet2DModel", "sample_size": side, "in_channels": 3, "out_channels": 3, "num_class_embeds": classes + 1,
        **(extra or {}),
    })
    return found
