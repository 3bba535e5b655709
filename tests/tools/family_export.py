"""Writes one network of a family bundle: the ONNX file, held against torch, and its configuration."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import surgery

OPSET = 17
LIMIT = 1e-4


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def as_tuple(found) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def export(network: nn.Module, path: Path, inputs: dict[str, Tensor], outputs: list[str], limit: float = LIMIT) -> float:
    """Exports with a free batch axis and states the outputs' shapes; returns the largest difference from torch.

    `inputs` have a batch of two; those without an axis stay numbers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "batch"} for name, value in inputs.items() if value.ndim} | {name: {0: "batch"} for name in outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs, dynamic_axes=axes,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        found = as_tuple(network(*inputs.values()))
    model = onnx.load(path)
    for output, value in zip(model.graph.output, found, strict=True):
        dims = output.type.tensor_type.shape.dim
        del dims[:]
        dims.add().dim_param = "batch"
        for size in value.shape[1:]:
            dims.add().dim_value = size
    onnx.save(model, path)
    surgery.tidy(path)
    onnx.checker.check_model(str(path))
    return agree(network, path, inputs, outputs, limit)


def agree(network: nn.Module, path: Path, inputs: dict[str, Tensor], outputs: list[str], limit: float) -> float:
    opened = session(path)
    taken = [port.name for port in opened.get_inputs()]
    if taken != list(inputs):
        raise SystemExit(f"{path}: takes {taken}, expected {list(inputs)}")
    worst = 0.0
    for rows in (1, 2, 3):
        values = {name: torch.cat([value, value])[:rows] if value.ndim else value for name, value in inputs.items()}
        with torch.no_grad():
            expected = as_tuple(network(*values.values()))
        found = opened.run(outputs, {name: value.numpy() for name, value in values.items()})
        for name, left, right in zip(outputs, found, expected, strict=True):
            if left.shape != tuple(right.shape):
                raise SystemExit(f"{path}: `{name}` is {left.shape}, torch gives {tuple(right.shape)}")
            worst = max(worst, float(np.abs(left - right.numpy()).max()))
    if not worst < limit:
        raise SystemExit(f"{path}: differs from torch by {worst}, at most {limit} is allowed")
    return worst
