"""Measures what matrix products reach: `peak.py THREADS` prints GFLOP/s in f32, the best of some seconds, torch's or numpy's, whichever is faster."""

import os
import sys
import time

threads = int(sys.argv[1])
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402

SIDE = 2048
SECONDS = 2.0


def best(multiply) -> float:
    multiply()
    end, least = time.perf_counter() + SECONDS, float("inf")
    while time.perf_counter() < end:
        begun = time.perf_counter()
        multiply()
        least = min(least, time.perf_counter() - begun)
    return 2 * SIDE**3 / least / 1e9


torch.set_num_threads(threads)
left, right = (np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32) for seed in (1, 2))
print(max(best(lambda: left @ right), best(lambda: torch.from_numpy(left) @ torch.from_numpy(right))))
