"""The sticker bundle's networks back in PyTorch: what its ONNX files hold as int8 and fp16 becomes parameters in f32.

Only the files of `models/sticker/` are needed, no checkpoint of the run that made them.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import neighbour
from captions import LENGTH
from denoiser import Denoiser, TextEncoder

HEADS = {"text_encoder": 4, "unet": 4}


def constants(path: Path) -> dict[str, Tensor]:
    """Parameter name to value. A matrix that the exporter left nameless is found by the node that multiplies with it."""
    graph = onnx.load(path).graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for name, value in kept.items():
        head, _, kind = name.rpartition(".")
        if kind == "int8":
            found[head] = value.astype(np.float32) * kept[f"{head}.factor"].astype(np.float32)
        elif kind == "half":
            found[head] = value.astype(np.float32)
        elif kind != "factor":
            found[name] = value
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        for name in node.input:
            if node.op_type == "MatMul" and name.startswith("onnx::"):
                found[parameter(node.name)] = found.pop(name).T.copy()
    return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}


def parameter(node: str) -> str:
    """The name of a node's matrix: "/network/layers.0/modulation/modulation.0/MatMul" uses network.layers.0.modulation.0.weight."""
    parts = node.strip("/").split("/")[:-1]
    parts = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    return ".".join(parts) + ".weight"


def fill(network: nn.Module, found: dict[str, Tensor]) -> nn.Module:
    """Loads the parameters and refuses to leave any at its random start."""
    names = set(network.state_dict())
    network.load_state_dict({name: value.float() for name, value in found.items() if name in names})
    return network.eval().requires_grad_(False)


def denoiser(bundle: Path = neighbour.BUNDLE) -> Denoiser:
    """The student. It takes times from 0 to 1000; the scheduler's count of four is turned into them by the exported file alone."""
    found = {name.removeprefix("network."): value for name, value in constants(bundle / "unet" / "model.onnx").items()}
    layers = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("layers."))
    hidden, width = found["layers.0.up.weight"].shape
    rank, text_width = found["modulation.0.weight"].shape[0], found["pooled.weight"].shape[1]
    return fill(Denoiser(width, layers, HEADS["unet"], text_width, rank, hidden), found)


def text_encoder(bundle: Path = neighbour.BUNDLE) -> TextEncoder:
    """The text encoder with its mixtures of words that no caption held."""
    found = constants(bundle / "text_encoder" / "model.onnx")
    vocabulary, width = found["words.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("layers."))
    network = TextEncoder(vocabulary, width, layers, HEADS["text_encoder"])
    mixtures = {value.dtype: value for value in found.values() if value.ndim == 2 and value.shape[1] == 3}
    network.mix(mixtures[torch.int16], mixtures[torch.float32])
    return fill(network, found)


def spellings(bundle: Path = neighbour.BUNDLE) -> dict[str, int]:
    return json.loads((bundle / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(bundle: Path = neighbour.BUNDLE) -> tuple[float, float]:
    """Largest differences between PyTorch and the files, of the text encoder and of the denoiser."""
    encoder, network, known = text_encoder(bundle), denoiser(bundle), spellings(bundle)
    ids = torch.tensor([[known[w] for w in "two smiling kittens".split()] + [0] * (LENGTH - 3), [0] * LENGTH])
    sample = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = session(bundle / "text_encoder" / "model.onnx").run(None, {"input_ids": ids.numpy()})[0]
    inputs = {"sample": sample.numpy(), "timestep": np.array(2, np.float32), "encoder_hidden_states": wanted}
    velocity = session(bundle / "unet" / "model.onnx").run(None, inputs)[0]
    with torch.no_grad():
        text, made = encoder(ids).numpy(), network(sample, torch.tensor(500.0), torch.from_numpy(wanted)).numpy()
    return float(np.abs(text - wanted).max()), float(np.abs(made - velocity).max())


if __name__ == "__main__":
    print("text encoder {:.1e}, denoiser {:.1e} from the bundle".format(*check()))
