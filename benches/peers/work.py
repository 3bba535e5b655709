"""Counts what a bundle's components compute: `work.py FOLDER STEPS` prints {role: floating-point operations of a picture}.

A run of ONNX Runtime without optimisation tells every operator's shapes as they were; of convolutions and matrix products two operations are counted
for each multiplication, of the rest nothing.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime


def operations(kind: str, given: list, made: list) -> int:
    sides = math.prod(made)
    if kind == "Conv":
        return 2 * sides * math.prod(given[1][1:])
    if kind == "ConvTranspose":
        return 2 * math.prod(given[0]) * math.prod(given[1][1:])
    if kind in ("MatMul", "Gemm"):
        # Gemm may have its first matrix turned; what is summed over is what both have in common.
        depth = given[0][-1] if kind == "MatMul" or given[0][0] == made[0] else given[0][0]
        return 2 * sides * depth
    return 0


def counted(path: Path, feeds) -> tuple:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
        given = {port.name: feeds(port.name, port.shape).astype(kinds[port.type]) for port in session.get_inputs()}
        first = session.run(None, given)[0]
        events = json.loads(Path(session.end_profiling()).read_text())
    total = 0
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and "output_type_shape" in told and event["name"].endswith("_kernel_time"):
            shapes = [[list(port.values())[0] for port in told[side]] for side in ("input_type_shape", "output_type_shape")]
            total += operations(told["op_name"], shapes[0], shapes[1][0] if shapes[1] else [])
    return total, first


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    config = json.loads((folder / "unet" / "config.json").read_text())
    length = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text()).get("model_max_length", 77)
    latents = np.zeros((1, config["in_channels"], config["sample_size"], config["sample_size"]))
    found = {}
    found["text_encoder"], text = counted(folder / "text_encoder/model.onnx", lambda name, shape: np.ones((1, length)))
    inputs = {"encoder_hidden_states": text, "sample": latents}
    once, _ = counted(folder / "unet/model.onnx", lambda name, shape: inputs.get(name, np.ones([1] * len(shape))))
    found["unet"] = once * steps
    found["vae_decoder"], _ = counted(folder / "vae_decoder/model.onnx", lambda name, shape: latents)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
