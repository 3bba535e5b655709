"""Writes a network of the small families as ONNX: free batch axis, stated shapes, weights kept small, compared with PyTorch."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from neighbour import module

OPSET = 17


def write_config(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def round_weights(network: nn.Module, bits: int) -> None:
    """Rounds each convolution's and linear layer's weight to what the file will hold, so that what is computed from it agrees."""
    sticker = module("shrink")
    for part in network.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, nn.Conv2d | nn.Linear) and weight.numel() >= sticker.SMALLEST:
            array = weight.detach().numpy()
            if bits == 8:
                others = tuple(range(1, array.ndim))
                factor = (np.abs(array).max(axis=others, keepdims=True) / 127).astype(np.float16).astype(np.float32)
                factor[factor == 0] = 1
                array = np.clip(np.rint(array / factor), -127, 127) * factor
            elif bits == 16:
                array = array.astype(np.float16).astype(np.float32)
            weight.data.copy_(torch.from_numpy(array))


def export(network: nn.Module, path: Path, inputs: dict[str, Tensor], outputs: list[str], bits: int = 32, exact: bool = False,
           fold: bool = True) -> float:
    """Writes one network; gives its largest difference from PyTorch.

    With 8 `bits` large kernels and matrices are kept as int8, with 16 as fp16, with 32 everything as it is. `exact` shrinks only what
    `round_weights` has rounded already, so that the file computes what the network computes. Without
    `fold` what follows from weights alone is left to the runtime, where writing it down would take more room than the weights.
    """
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [*inputs, *outputs]
    # The exporter warns that lengths become fixed numbers, which is what they are.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs,
                          dynamic_axes={name: {0: "batch"} for name in names}, opset_version=OPSET, dynamo=False,
                          do_constant_folding=fold)
    model = onnx.load(path)
    with torch.no_grad():
        made = as_tuple(network(*inputs.values()))
    for output, value in zip(model.graph.output, made, strict=True):
        for dimension, size in zip(output.type.tensor_type.shape.dim[1:], value.shape[1:], strict=True):
            dimension.dim_value = size
    onnx.save(model, path)
    if bits < 32:
        shrink(path, bits, exact)
    return difference(network, path, inputs)


def shrink(path: Path, bits: int, exact: bool) -> None:
    """Keeps large kernels and matrices as int8 or fp16 (stacks of matrices always as fp16); with `exact` only those whose numbers do not change by it."""
    sticker = module("shrink")
    model = onnx.load(path)
    graph, ahead, kept = model.graph, [], []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size < sticker.SMALLEST or array.ndim not in (2, 3, 4):
            kept.append(weight)
            continue
        if bits == 8 and array.ndim != 3:
            tensors, nodes = sticker.as_int8(weight.name, array, sticker.output_axis(graph, weight.name))
        else:
            tensors, nodes = sticker.as_half(weight.name, array)
        values = [numpy_helper.to_array(t).astype(np.float32) for t in tensors]
        change = not exact or np.array_equal(np.prod(np.broadcast_arrays(*values), 0), array)
        kept += tensors if change else [weight]
        ahead += nodes if change else []
    nodes = ahead + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def as_tuple(made: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return made if isinstance(made, tuple) else (made,)


def difference(network: nn.Module, path: Path, inputs: dict[str, Tensor]) -> float:
    """The largest difference of any output, at the batch of the trace and at three times as much."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for repeat in (1, 3):
        wider = {name: torch.cat([value] * repeat) for name, value in inputs.items()}
        with torch.no_grad():
            wanted = as_tuple(network(*wider.values()))
        made = session.run(None, {name: value.numpy() for name, value in wider.items()})
        worst = max(worst, *(float(np.abs(m - w.numpy()).max()) for m, w in zip(made, wanted, strict=True)))
    return worst
