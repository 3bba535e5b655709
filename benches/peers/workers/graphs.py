"""The bundle's ONNX files alone, in a runtime's own Python package: each component once for each call that a picture takes, and an Euler step between.

The text is not read: ids are the same whatever the prompt. Nothing in Python could be faster with this runtime.
"""

import json

import numpy as np
from worker import main, onnx_folder


def onnxruntime_opened(threads):
    import onnxruntime

    def opened(path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
        ports = {port.name: (port.shape, kinds[port.type]) for port in session.get_inputs()}
        output = session.get_outputs()[0].name
        return ports, lambda given: session.run([output], given)[0]

    return opened, {"onnxruntime": onnxruntime.__version__}


def openvino_opened(threads, precision):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision

    def opened(path):
        model = core.read_model(path)
        kinds = {"f32": np.float32, "i64": np.int64, "i32": np.int32}
        ports = {}
        for port in model.inputs:
            sides = [None if side.is_dynamic else side.get_length() for side in port.partial_shape]
            ports[port.any_name] = (sides, kinds[port.element_type.get_type_name()])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        return ports, lambda given: request.infer(given)[0]

    return opened, {"openvino": openvino.__version__.split("-")[0]}


def load(work, clock):
    folder = onnx_folder(work)
    options = work["options"]
    if options["runtime"] == "openvino":
        opened, versions = openvino_opened(work["threads"], options.get("precision"))
    else:
        opened, versions = onnxruntime_opened(work["threads"])
    config = json.loads((folder / "unet" / "config.json").read_text())
    length = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text()).get("model_max_length", 77)
    side = config["sample_size"]
    ids = np.arange(length)[None] % 50
    ports, run = {}, {}
    for role in ("text_encoder", "unet", "vae_decoder"):
        ports[role], call = opened(folder / role / "model.onnx")
        run[role] = clock.timed(role, call)

    def number(role, name, value):
        shape, kind = ports[role][name]
        return np.full([1] * len(shape), value, kind)

    def picture(seed, file):
        (name, (_, kind)), *_ = ports["text_encoder"].items()
        text = run["text_encoder"]({name: ids.astype(kind)})
        sample = np.random.default_rng(seed).standard_normal((1, config["in_channels"], side, side), np.float32)
        for step in range(work["steps"]):
            given = {"sample": sample, "encoder_hidden_states": text, "timestep": number("unet", "timestep", 999 - step)}
            sample = sample - run["unet"](given) / work["steps"]
        (name, _), *_ = ports["vae_decoder"].items()
        decoded = run["vae_decoder"]({name: sample})
        pixels = ((decoded[0] / 2 + 0.5).clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
        if file:
            from PIL import Image

            Image.fromarray(pixels).save(file)

    return picture, versions, None


if __name__ == "__main__":
    main(load)
