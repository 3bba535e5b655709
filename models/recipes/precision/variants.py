"""A network in fewer bits: each function takes a file of 32-bit floats and leaves another file."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Weights with fewer numbers than this stay as they are: they take no room, and norms and biases suffer most.
LEAST_NUMBERS = 1024


def fp16(source: Path, target: Path) -> None:
    """Half precision throughout, but for inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    save(model, target)


def int8(source: Path, target: Path) -> None:
    """Weights of products in 8 bits with a scale for each column, their inputs quantised as they come; weights of convolutions in 8
    bits with a scale for each channel, widened again when the network is opened."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Optimising first would fuse what another machine's kernels would not.
    plain = target.with_name("plain.onnx")
    quant_pre_process(str(source), str(plain), skip_optimization=True, skip_symbolic_shape=True)
    quantize_dynamic(plain, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8)
    plain.unlink()
    model = onnx.load(target)
    narrow_convolutions(model.graph)
    save(model, target)


def q4(source: Path, target: Path) -> None:
    """Weights of products in 4 bits, a scale for each 32 of them; convolutions as for `int8`."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True)
    quantizer.process()
    model = quantizer.model.model
    narrow_convolutions(model.graph)
    save(model, target)


KINDS = {"fp16": fp16, "int8": int8, "q4": q4}


def narrow_convolutions(graph: onnx.GraphProto) -> None:
    """Keeps the weights of convolutions as 8-bit integers, with a node before each that widens them."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    widened, nodes = {}, []
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in weights:
            name = node.input[1]
            if name not in widened and np.prod(weights[name].dims) >= LEAST_NUMBERS and weights[name].data_type == TensorProto.FLOAT:
                # A convolution's filters lie along its first axis, a transposed one's along its second.
                widened[name] = narrow(graph, weights[name], 0 if node.op_type == "Conv" else 1)
                nodes.append(widened[name])
            if name in widened:
                node.input[1] = widened[name].output[0]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def narrow(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    values = numpy_helper.to_array(tensor)
    others = tuple(other for other in range(values.ndim) if other != axis)
    scale = np.maximum(np.abs(values).max(axis=others), 1e-12) / 127.0
    shape = [-1 if other == axis else 1 for other in range(values.ndim)]
    integers = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
    name = tensor.name
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(integers, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name}_zero"))
    inputs = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
    return helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_widened", axis=axis)


def save(model: onnx.ModelProto, target: Path) -> None:
    if model.ByteSize() < 2**31 - 2**20:
        target.write_bytes(model.SerializeToString(deterministic=True))
        return
    # Protocol buffers end at two gigabytes.
    data = target.with_name(target.name + "_data")
    data.unlink(missing_ok=True)
    onnx.save_model(model, target, save_as_external_data=True, location=data.name, size_threshold=1024)
