"""Writes the golden numbers of the small families under tests/golden/families/. See README.md beside this file."""

import argparse
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from family_cases import all_cases  # noqa: E402
from family_export import session  # noqa: E402
from family_pictures import write_inputs  # noqa: E402
from family_runs import BUNDLES, FAMILIES, run  # noqa: E402
from make_family_bundles import modules  # noqa: E402

# How far the bundle's ONNX files may lead from torch: what a recipe has changed is much further away.
LIMIT = 1e-3
TYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64}


def of_torch(bundle: str) -> Callable:
    parts = modules(bundle)

    def call(role: str, **values: Tensor) -> tuple[Tensor, ...]:
        found = parts[role](**values)
        return found if isinstance(found, tuple) else (found,)

    return call


def of_onnx(bundle: str) -> Callable:
    opened = {path.parent.name: session(path) for path in BUNDLES.joinpath(bundle).rglob("model.onnx")}

    def call(role: str, **values: Tensor) -> tuple[Tensor, ...]:
        given = {}
        for port in opened[role].get_inputs():
            value = values[port.name].detach().to(TYPES[port.type])
            given[port.name] = (value if port.shape else value[0]).numpy()
        return tuple(torch.from_numpy(value) for value in opened[role].run(None, given))

    return call


def measure(case: dict, arrays: dict[str, Tensor], numbers: dict[str, float]) -> tuple[float, float]:
    """How far the same run over the ONNX files lies from torch's, in arrays and in nats; a trace needs torch's gradients."""
    if case["trace"]:
        return 0.0, 0.0
    others, other_numbers = run(of_onnx(case["bundle"]), case)
    apart = max((float((others[key] - array).abs().max()) for key, array in arrays.items()), default=0.0)
    return apart, max((abs(other_numbers[key] - value) for key, value in numbers.items()), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cases whose names begin so, and write nothing")
    only = parser.parse_args().only
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    write_inputs(FAMILIES)
    cases = [case for case in all_cases() if not only or case["name"].startswith(only)]
    kept: dict[str, Tensor] = {}
    for case in cases:
        begun = time.monotonic()
        arrays, numbers = run(of_torch(case["bundle"]), case)
        finite = all(array.isfinite().all() for array in arrays.values()) and all(np.isfinite(list(numbers.values())))
        assert finite and (arrays or numbers), f"{case['name']}: nothing, or not finite"
        apart, nats = measure(case, arrays, numbers)
        if apart > LIMIT or nats > LIMIT:
            raise SystemExit(f"{case['name']}: the bundle lies {apart} and {nats} nats away; make_family_bundles.py makes it again")
        case["arrays"] = [f"{case['name']}{key}" for key in arrays]
        case["numbers"] = numbers
        kept |= {f"{case['name']}{key}": array.float().contiguous() for key, array in arrays.items()}
        found = [f"{key or 'picture'} {tuple(array.shape)} spread {float(array.std()):.2f}" for key, array in arrays.items()]
        found += [f"{key} {value:.4f}" for key, value in numbers.items()]
        spent = time.monotonic() - begun
        print(f"{case['name']}: {', '.join(found)}; ONNX differs {apart:.1e}, {nats:.1e} ({spent:.1f} s)", flush=True)
    if only:
        return
    save_file(kept, FAMILIES / "arrays.safetensors")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "scipy": scipy.__version__,
    }
    # What is not asked for is left out.
    for case in cases:
        for key in [key for key, value in case.items() if value is None]:
            del case[key]
    text = json.dumps({"versions": versions, "cases": cases}, indent=1, ensure_ascii=False)
    Path(FAMILIES / "cases.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
