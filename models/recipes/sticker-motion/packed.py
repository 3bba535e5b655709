"""Six-bit weights in an ONNX file: four bits of each in one plane of bytes, two in another.

Plain integer operators take the planes apart while the runtime loads the file, so every product stays in f32 and any operator set from 11
on will do.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import neighbour
import small
import still
from shrink import SMALLEST, as_half

# Added to a weight, which makes it a number without a sign.
OFFSET = 2 ** (small.BITS - 1)


def planes(whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers from -31 to 31, a multiple of four of them, to their upper four bits, two in a byte, and their lower two, four in a byte."""
    value = (whole.reshape(-1) + OFFSET).astype(np.uint8)
    upper, lower = value >> 2, value & 3
    return upper[0::2] | upper[1::2] << 4, lower[0::4] | lower[1::4] << 2 | lower[2::4] << 4 | lower[3::4] << 6


def unpacked(name: str, shape: tuple[int, ...], factor: np.ndarray, whole: np.ndarray) -> tuple[list, list]:
    """Tensors and nodes that give `whole` times `factor` under `name`."""
    upper, lower = planes(whole)
    tensors = [numpy_helper.from_array(upper[:, None], f"{name}.u"), numpy_helper.from_array(lower[:, None], f"{name}.l"),
               numpy_helper.from_array(factor.astype(np.float16), f"{name}.f"),
               numpy_helper.from_array(np.array(shape, np.int64), f"{name}.s")]
    nodes: list = []

    def node(operator: str, *inputs: str, **attributes) -> str:
        # Thousands of long names would weigh as much as the planes of a small matrix.
        output = f"{name}.{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def plane(tensor: str, shift: str, count: str) -> str:
        apart = node("BitShift", tensor, shift, direction="RIGHT")
        return node("Cast", node("Reshape", node("Mod", apart, count), "packed.flat"), to=TensorProto.FLOAT)

    high = node("Mul", plane(f"{name}.u", "packed.nibbles", "packed.sixteen"), "packed.high")
    value = node("Sub", node("Add", high, plane(f"{name}.l", "packed.pairs", "packed.four")), "packed.offset")
    node("Mul", node("Reshape", value, f"{name}.s"), node("Cast", f"{name}.f", to=TensorProto.FLOAT))
    nodes[-1].output[0] = name
    return tensors, nodes


def shared() -> list:
    """The constants that all weights of a file are taken apart with."""
    return [numpy_helper.from_array(value, f"packed.{name}") for name, value in {
        "nibbles": np.array([[0, 4]], np.uint8), "pairs": np.array([[0, 2, 4, 6]], np.uint8), "sixteen": np.array(16, np.uint8),
        "four": np.array(4, np.uint8), "flat": np.array([-1], np.int64), "high": np.array(4, np.float32),
        "offset": np.array(OFFSET, np.float32)}.items()]


def pack(path: Path, factors: dict[str, np.ndarray]) -> None:
    """Rewrites `path`: parameters with factors in six bits, other large ones in fp16."""
    model = onnx.load(path)
    graph = model.graph
    names = {name: still.parameter(node.name) for node in graph.node for name in node.input
             if node.op_type == "MatMul" and name.startswith("onnx::")}
    left, tensors, nodes = dict(factors), shared(), []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        factor = left.pop(names.get(weight.name, weight.name), None)
        if factor is not None:
            factor = (factor.T if weight.name in names else factor).astype(np.float32)
            made = unpacked(weight.name, array.shape, factor, np.rint(array / factor))
        elif array.dtype == np.float32 and array.size >= SMALLEST:
            made = as_half(weight.name, array)
        else:
            made = [weight], []
        tensors += made[0]
        nodes += made[1]
    if left:
        raise ValueError(f"{path} holds none of {sorted(left)}")
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def repack(model: onnx.ModelProto) -> None:
    """Turns the int8 weights of a file that `shrink.py` wrote into six bits, in place."""
    import torch

    graph = model.graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    heads = {name.removesuffix(".int8") for name in kept if name.endswith(".int8")}
    tensors = shared() + [t for t in graph.initializer if t.name.rpartition(".")[0] not in heads or not t.name.endswith((".int8", ".factor"))]
    made_by = {f"{head}{end}" for head in heads for end in ("", ".wide", ".scale")}
    nodes = []
    for head in sorted(heads):
        array = kept[f"{head}.int8"].astype(np.float32) * kept[f"{head}.factor"].astype(np.float32)
        if kept[f"{head}.factor"].size != len(array):
            raise ValueError(f"{head} has its outputs on another axis than the first")
        flat = torch.from_numpy(array).flatten(1)
        factor = small.factors(flat)
        whole = (flat / factor).round().clamp(-small.LARGEST, small.LARGEST).numpy()
        made = unpacked(head, array.shape, factor.numpy().reshape(-1, *[1] * (array.ndim - 1)), whole)
        tensors += made[0]
        nodes += made[1]
    nodes += [node for node in graph.node if not made_by.intersection(node.output)]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
