"""Writes tests/golden/random: what torch's processor generator draws.

    python tests/tools/make_random.py

Needs torch 2.9.1 on an x86-64 processor with AVX2, safetensors and numpy. `cases.json` lists the cases (a seed and the
counts asked of one generator, one call after another), and `values.safetensors` holds, for call `b` of case `a`, the tensor `a.b`:
all values of a call up to 128, the first and last 64 of a longer one, whose bytes (little endian) `cases.json` gives as SHA-256.
"""

import hashlib
import json
import pathlib
import platform

import numpy
import torch
from safetensors.numpy import save_file

KEPT = 64
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden" / "random"

SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**63 + 7]
COUNTS = [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 100, 1000, 4096, 16384, 4 * 96 * 64]
# Sizes below and above 16 on one generator: the short path keeps half a pair across calls of the long one.
SEQUENCES = [
    [1, 1, 1, 1],
    [3, 16, 3, 17, 2],
    [15, 15, 15],
    [16, 16, 16, 16],
    [1, 100, 1, 33, 1],
    [7, 4096, 8, 623, 5, 625],
    [31, 1, 32, 2, 33, 3, 47, 4],
    [256, 256, 256, 256],
    [5, 11, 16, 0, 9],
    [16384, 16384, 12],
]


def main() -> None:
    cases = [(seed, [count]) for seed in SEEDS for count in COUNTS]
    cases += [(seed, counts) for seed in (0, 42, 2**32 - 1, 1234567890123) for counts in SEQUENCES]
    listed, tensors = [], {}
    for index, (seed, counts) in enumerate(cases):
        # Torch takes seeds from 2^63 on as negative numbers of the same bits.
        generator = torch.Generator("cpu").manual_seed(seed if seed < 2**63 else seed - 2**64)
        calls = []
        for position, count in enumerate(counts):
            values = torch.randn(count, generator=generator).numpy().astype("<f4")
            calls.append({"count": count, "sha256": hashlib.sha256(values.tobytes()).hexdigest()})
            if count > 2 * KEPT:
                values = numpy.concatenate([values[:KEPT], values[-KEPT:]])
            if count > 0:
                tensors[f"{index}.{position}"] = values
        # JSON readers differ on integers above 2^53, so the seed is a string.
        listed.append({"seed": str(seed), "calls": calls})
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch_build = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "machine": platform.machine()}
    text = ",\n".join(json.dumps(case) for case in listed)
    (FOLDER / "cases.json").write_text(f'{{"made_by": {json.dumps(torch_build)}, "kept": {KEPT}, "cases": [\n{text}\n]}}\n')
    save_file(tensors, FOLDER / "values.safetensors")
    (FOLDER / "values.safetensors").chmod(0o644)
    print(f"{len(listed)} cases, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
