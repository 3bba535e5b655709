"""Writes a denoiser as ONNX by the contract of the diffusion families' bundles."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from forms import StepCounting
from onnx_file import shrink

OPSET = 17


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


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
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    path, inputs = folder / "model.onnx", example(network, side, classes)
    # The exporter warns that lengths become fixed numbers, which is what they are.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, tuple(inputs.values()), path, input_names=list(inputs), output_names=["out_sample"],
                          dynamic_axes={name: {0: "batch"} for name in [*inputs, "out_sample"]}, opset_version=OPSET, dynamo=False)
    model = onnx.load(path)
    for dimension, size in zip(model.graph.output[0].type.tensor_type.shape.dim[1:], (3, side, side), strict=True):
        dimension.dim_value = size
    onnx.save(model, path)
    if bits < 32:
        shrink(path, bits, exact=False)
    write(folder / "config.json", {
        "_class_name": "UNet2DModel", "sample_size": side, "in_channels": 3, "out_channels": 3, "num_class_embeds": classes + 1,
        **(extra or {}),
    })
    return difference(network, path, inputs)


def difference(network: nn.Module, path: Path, inputs: dict[str, Tensor]) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for repeat in (1, 3):
        wider = {name: torch.cat([value] * repeat) for name, value in inputs.items()}
        with torch.no_grad():
            wanted = network(*wider.values()).numpy()
        made = session.run(None, {name: value.numpy() for name, value in wider.items()})[0]
        worst = max(worst, float(np.abs(made - wanted).max()))
    return worst
