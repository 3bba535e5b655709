"""Makes an ONNX file smaller without changing what it computes in: large weights are kept as fp16 or int8.

A Cast (and for int8 a multiplication by one factor per column) turns them back into f32. The runtime folds both
while it loads, so every product stays in f32.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 1024


def shrink(path: Path, bits: int) -> None:
    """Rewrites `path`: matrices and kernels in `bits` (8 or 16), other large tensors in fp16, small ones as they are."""
    model = onnx.load(path)
    graph = model.graph
    ahead, kept = [], []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size < SMALLEST:
            kept.append(weight)
        elif bits == 8 and array.ndim == 2:
            tensors, nodes = as_int8(weight.name, array, axis=1 if is_table(graph, weight.name) else 0)
            kept += tensors
            ahead += nodes
        else:
            tensors, nodes = as_half(weight.name, array)
            kept += tensors
            ahead += nodes
    nodes = ahead + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def is_table(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a tensor is an embedding table, whose rows are taken one by one."""
    return any(node.op_type == "Gather" and node.input[0] == name for node in graph.node)


def as_half(name: str, array: np.ndarray) -> tuple[list, list]:
    half = numpy_helper.from_array(array.astype(np.float16), f"{name}.half")
    return [half], [helper.make_node("Cast", [half.name], [name], f"{name}.cast", to=TensorProto.FLOAT)]


def as_int8(name: str, array: np.ndarray, axis: int) -> tuple[list, list]:
    """int8 with one factor along the other axis, so that each output (or each row of a table) has its own range."""
    factor = np.abs(array).max(axis=axis, keepdims=True) / 127
    factor[factor == 0] = 1
    whole = np.clip(np.rint(array / factor), -127, 127).astype(np.int8)
    tensors = [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(factor.astype(np.float32), f"{name}.factor")]
    return tensors, [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.wide"], f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.wide", f"{name}.factor"], [name], f"{name}.scale"),
    ]
