"""A network beside its variant: how long each takes and how far their outputs lie apart, on the same inputs."""

import time
from pathlib import Path

import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
RUNS = 7
# A text of CLIP's length; sides of latents and of pictures that every model takes.
TOKENS, LATENT, PICTURE = 77, 16, 64


def open_network(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(network: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """Normal numbers, as latents and embeddings are; small whole numbers for tokens and classes; a timestep in the middle."""
    random = np.random.default_rng(0)
    given = {}
    for port in network.get_inputs():
        shape = [dimension if isinstance(dimension, int) else open_dimension(port.name, axis, len(port.shape)) for axis, dimension in enumerate(port.shape)]
        kind = TYPES[port.type]
        if "timestep" in port.name and "cond" not in port.name:
            given[port.name] = np.full(shape, 500, kind)
        elif np.issubdtype(kind, np.integer):
            given[port.name] = random.integers(0, 2, shape).astype(kind)
        else:
            given[port.name] = random.standard_normal(shape).astype(kind)
    return given


def open_dimension(name: str, axis: int, rank: int) -> int:
    if axis == 0:
        return 1
    if rank == 4:
        return PICTURE if name in ("image", "pixel_values") else LATENT
    return TOKENS


def compare(plain: Path, variant: Path) -> dict:
    left, right = open_network(plain), open_network(variant)
    given = inputs(left)
    types = {port.name: TYPES[port.type] for port in right.get_inputs()}
    narrow = {name: value.astype(types[name]) for name, value in given.items()}
    expected, found = left.run(None, given), right.run(None, narrow)
    times = {"left": [], "right": []}
    for _ in range(RUNS):
        # Alternating, so that what else the machine does falls on both.
        for name, network, values in (("left", left, given), ("right", right, narrow)):
            begun = time.perf_counter()
            network.run(None, values)
            times[name].append(time.perf_counter() - begun)
    apart = [np.abs(a.astype(np.float64) - b.astype(np.float64)) for a, b in zip(expected, found)]
    spread = [max(float(a.astype(np.float64).std()), 1e-9) for a in expected]
    return {
        "time": float(np.median(times["right"]) / np.median(times["left"])),
        "output_mean": float(max(difference.mean() / scale for difference, scale in zip(apart, spread))),
        "output_largest": float(max(difference.max() / scale for difference, scale in zip(apart, spread))),
    }
