"""Records what scipy's `RK45` computes, for `tests/ode.rs`.

Writes `cases.json` into the folder given: the coefficients of the method, and for each problem of `PROBLEMS` (which the test has, too)
the first and last time, the start, the tolerances, the state at the end, the calls of the field and the steps, as
`solve_ivp(method="RK45")` took them.

Needs numpy==2.4.6 scipy==1.17.1:

    python tests/tools/make_ode.py tests/golden/ode
"""

import argparse
import json
import math
import pathlib
from collections.abc import Callable

import numpy as np
import scipy
from scipy.integrate import RK45, solve_ivp

Field = Callable[[float, np.ndarray], list[float]]

PROBLEMS: dict[str, tuple[Field, list[float]]] = {
    "decay": (lambda t, y: [-y[0]], [1.0]),
    "swelling": (lambda t, y: [y[0] * math.cos(t)], [1.0]),
    "oscillator": (lambda t, y: [y[1], -y[0]], [1.0, 0.0]),
    "van_der_pol": (lambda t, y: [y[1], 5.0 * (1.0 - y[0] * y[0]) * y[1] - y[0]], [2.0, 0.0]),
    "lotka_volterra": (lambda t, y: [1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 3.0 * y[1]], [10.0, 5.0]),
    "lorenz": (lambda t, y: [10.0 * (y[1] - y[0]), y[0] * (28.0 - y[2]) - y[1], y[0] * y[1] - 8.0 / 3.0 * y[2]],
               [1.0, 1.0, 1.0]),
    "constant": (lambda t, y: [2.0, 0.0], [0.0, 0.0]),
    "stiff": (lambda t, y: [-1000.0 * (y[0] - math.cos(t))], [0.0]),
}
SPANS = [(0.0, 1.0), (0.0, 7.5), (1.0, 0.0), (3.0, -2.0)]
TOLERANCES = [(1e-3, 1e-6), (1e-5, 1e-5), (1e-8, 1e-10), (1e-11, 1e-12)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, (field, start) in PROBLEMS.items():
        for first, last in SPANS:
            # Backwards these run away from any start.
            if last < first and name in ("stiff", "lorenz", "van_der_pol"):
                continue
            for relative, absolute in TOLERANCES:
                solution = solve_ivp(field, (first, last), start, method="RK45", rtol=relative, atol=absolute)
                assert solution.success, (name, solution.message)
                cases.append({"problem": name, "first": first, "last": last, "start": start, "relative": relative,
                              "absolute": absolute, "end": solution.y[:, -1].tolist(), "evaluations": solution.nfev,
                              "steps": len(solution.t) - 1})
    made = {
        "made_by": "tests/tools/make_ode.py",
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "tableau": {"nodes": RK45.C.tolist(), "stages": [row[:place].tolist() for place, row in enumerate(RK45.A)][1:],
                    "weights": RK45.B.tolist(), "error": RK45.E.tolist()},
        "cases": cases,
    }
    (folder / "cases.json").write_text(json.dumps(made, indent=1) + "\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
