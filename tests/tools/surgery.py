"""Changes exported graphs: the variants that Kiln must take, made from a plain export by changing its graphs."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

import tiny_schedulers


def tidy(path: Path) -> None:
    """Drops what says where a graph was made, and shortens the names inside it.

    The same weights then give the same bytes. Names of inner tensors are longer than a tiny network's weights; the
    names that matter, those of inputs, outputs and weights, stay.
    """
    model = onnx.load(path)
    graph = model.graph
    model.doc_string = ""
    kept = {value.name for value in [*graph.input, *graph.output, *graph.initializer]}
    short: dict[str, str] = {"": ""}
    for node in graph.node:
        node.doc_string = ""
        node.name = ""
        del node.metadata_props[:]
        for output in node.output:
            short.setdefault(output, output if output in kept else f"t{len(short)}")
        for at, name in enumerate(node.output):
            node.output[at] = short[name]
        for at, name in enumerate(node.input):
            node.input[at] = short.get(name, name)
    del graph.value_info[:]
    save(model, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def fp16(bundle: Path) -> None:
    """Weights, inputs and outputs in half precision, as `optimum-cli export onnx --dtype fp16` leaves them."""
    for path in sorted(bundle.glob("*/model.onnx")):
        model = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=False))
        # The converter appends its casts at the end.
        model.topological_sort(is_deterministic=True)
        save(model.model, path)
        tidy(path)
        config = path.with_name("config.json")
        values = json.loads(config.read_text())
        if "dtype" in values:
            config.write_text(json.dumps(values | {"dtype": "float16"}, indent=2) + "\n")


def external(bundle: Path) -> None:
    """The denoiser's weights beside its graph in `model.onnx_data`, as optimum does it above 2 GB."""
    path = bundle / "unet" / "model.onnx"
    data = path.with_name("model.onnx_data")
    # onnx appends to a file that is there.
    data.unlink(missing_ok=True)
    model = onnx.load(path)
    external_data_helper.convert_model_to_external_data(model, True, data.name, size_threshold=100)
    onnx.save_model(model, path)


def legacy(bundle: Path) -> None:
    """The names and types of the exporter that diffusers once shipped (convert_stable_diffusion_checkpoint_to_onnx)."""
    legacy_text_encoder(bundle / "text_encoder" / "model.onnx")
    legacy_denoiser(bundle / "unet" / "model.onnx")
    legacy_image_encoder(bundle / "vae_encoder" / "model.onnx")
    for role in ("vae_encoder", "vae_decoder"):
        path = bundle / role / "config.json"
        values = json.loads(path.read_text())
        # Configurations older than the key do not have it.
        del values["scaling_factor"]
        path.write_text(json.dumps(values, indent=2) + "\n")
    # Nor did schedulers have `steps_offset`; diffusers' Stable Diffusion pipelines put 1 where they find it missing.
    scheduler = bundle / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(tiny_schedulers.SD_LEGACY, indent=2) + "\n")


def legacy_text_encoder(path: Path) -> None:
    """`input_ids` becomes int32."""
    model = onnx.load(path)
    take_instead(model.graph, "input_ids", TensorProto.INT32, ["batch_size", "sequence_length"])
    save(model, path)


def legacy_denoiser(path: Path) -> None:
    """`timestep` becomes int64 of shape [batch_size]. The graph uses one value, as the old exports did in practice."""
    model = onnx.load(path)
    graph = model.graph
    take_instead(graph, "timestep", TensorProto.INT64, ["batch_size"], scalar=True)
    save(model, path)


def take_instead(graph: onnx.GraphProto, name: str, kind: int, shape: list[str], scalar: bool = False) -> None:
    """Changes an input's type and shape, and puts in front of the graph what brings it back to the old ones."""
    (value,) = [value for value in graph.input if value.name == name]
    before = value.type.tensor_type.elem_type
    inner = f"{name}_before"
    for node in graph.node:
        for at, used in enumerate(node.input):
            if used == name:
                node.input[at] = inner
    value.CopyFrom(helper.make_tensor_value_info(name, kind, shape))
    if scalar:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), f"{name}_first"))
        front = [
            helper.make_node("Gather", [name, f"{name}_first"], [f"{name}_scalar"], axis=0),
            helper.make_node("Cast", [f"{name}_scalar"], [inner], to=before),
        ]
    else:
        front = [helper.make_node("Cast", [name], [inner], to=before)]
    put_first(graph, front)


def put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def legacy_image_encoder(path: Path) -> None:
    """The output becomes `latent_sample`, no longer the distribution: here its mean, so that it never varies."""
    model = onnx.load(path)
    graph = model.graph
    (output,) = graph.output
    shape = output.type.tensor_type.shape
    channels = shape.dim[1].dim_value // 2
    bounds = {"mean_begin": [0], "mean_end": [channels], "mean_axis": [1]}
    for name, bound in bounds.items():
        graph.initializer.append(numpy_helper.from_array(np.array(bound, np.int64), name))
    graph.node.append(helper.make_node("Slice", [output.name, *bounds], ["latent_sample"]))
    value = onnx.ValueInfoProto()
    value.CopyFrom(output)
    value.name = "latent_sample"
    value.type.tensor_type.shape.dim[1].dim_value = channels
    output.CopyFrom(value)
    save(model, path)
