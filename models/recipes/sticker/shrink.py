"""Makes an ONNX file smaller without changing what it computes in: large weights are kept as fp16 or int8.

A Cast (and for int8 a multiplication by one factor per output) turns them back into f32. The runtime folds both
while it loads, so every product stays in f32.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256


def shrink(path: Path, precision: str) -> None:
    """Rewrites `path`: with `int8` matrices and kernels in int8; what is large and left in fp16, small tensors as they are.

    `fp32` leaves everything as it is; `fp16` keeps the modulation matrices in int8, without which a bundle would be over its size.
    """
    if precision == "fp32":
        return
    model = onnx.load(path)
    graph = model.graph
    ahead, kept = [], []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size < SMALLEST:
            kept.append(weight)
        elif array.ndim in (2, 4) and (precision == "int8" or "modulation" in weight.name):
            tensors, nodes = as_int8(weight.name, array, output_axis(graph, weight.name))
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


def output_axis(graph: onnx.GraphProto, name: str) -> int:
    """The axis of a weight that counts outputs (or a table's rows), each of which gets its own factor."""
    for node in graph.node:
        if name not in node.input:
            continue
        turned = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        return 1 if node.op_type in ("MatMul", "Gemm") and not turned else 0
    raise ValueError(f"{name} is used by no node")


def as_half(name: str, array: np.ndarray) -> tuple[list, list]:
    half = numpy_helper.from_array(array.astype(np.float16), f"{name}.half")
    return [half], [helper.make_node("Cast", [half.name], [name], f"{name}.cast", to=TensorProto.FLOAT)]


def as_int8(name: str, array: np.ndarray, axis: int) -> tuple[list, list]:
    """int8 with one fp16 factor for each index along `axis`."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    factor = (np.abs(array).max(axis=others, keepdims=True) / 127).astype(np.float16)
    factor[factor == 0] = 1
    whole = np.clip(np.rint(array / factor.astype(np.float32)), -127, 127).astype(np.int8)
    tensors = [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(factor, f"{name}.factor")]
    return tensors, [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.wide"], f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}.factor"], [f"{name}.scale"], f"{name}.cast_factor", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name], f"{name}.multiply"),
    ]
