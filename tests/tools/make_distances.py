"""Golden numbers of the distances between samples: plain numpy and loops, written from the papers, apart from Kiln's code.

Needs numpy only. Values are multiples of 1/64, so that they are the same in JSON, f32 and f64.
"""

import argparse
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "golden" / "distances" / "cases.json"


def quantile_w2_squared(a: np.ndarray, b: np.ndarray) -> float:
    """Squared 2-Wasserstein distance on a line: both quantile functions on the union of their steps."""
    edges = np.unique(np.concatenate([np.arange(len(a) + 1) / len(a), np.arange(len(b) + 1) / len(b)]))
    middles = (edges[1:] + edges[:-1]) / 2
    qa = np.sort(a)[np.minimum((middles * len(a)).astype(int), len(a) - 1)]
    qb = np.sort(b)[np.minimum((middles * len(b)).astype(int), len(b) - 1)]
    return float(np.sum((edges[1:] - edges[:-1]) * (qa - qb) ** 2))


def sliced(x: np.ndarray, y: np.ndarray, directions: np.ndarray) -> float:
    total = [quantile_w2_squared(x @ d / np.linalg.norm(d), y @ d / np.linalg.norm(d)) for d in directions]
    return float(np.sqrt(np.mean(total)))


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def within(points: np.ndarray, sample: np.ndarray, neighbour: int) -> float:
    """Share of `points` inside the balls around `sample`."""
    def radius(i: int) -> float:
        others = sorted(float(np.sum((sample[i] - sample[j]) ** 2)) for j in range(len(sample)) if j != i)
        return others[neighbour - 1]

    radii = [radius(i) for i in range(len(sample))]
    inside = [any(np.sum((p - s) ** 2) <= r for s, r in zip(sample, radii)) for p in points]
    return sum(inside) / len(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUT)
    arguments = parser.parse_args()
    rng = np.random.default_rng(20)
    cases = []
    for name, n, m, features, shift, scale in [
        ("same", 24, 24, 4, 0.0, 1.0),
        ("shifted", 24, 24, 4, 0.75, 1.0),
        ("scaled", 20, 31, 6, 0.0, 2.0),
        ("both", 31, 17, 6, -0.5, 0.5),
        ("far", 12, 15, 3, 8.0, 1.0),
        ("one feature", 16, 9, 1, 0.25, 1.5),
        ("wide", 8, 10, 32, 0.25, 1.0),
    ]:
        x = np.round(rng.standard_normal((n, features)) * 64) / 64
        y = np.round((rng.standard_normal((m, features)) * scale + shift) * 64) / 64
        directions = np.round(rng.standard_normal((8, features)) * 64) / 64
        cases.append({
            "name": name,
            "left": x.tolist(), "right": y.tolist(), "directions": directions.tolist(),
            "sliced_wasserstein": sliced(x, y, directions),
            "kernel_distance": kernel(x, y),
            "precision_recall": {str(k): [within(y, x, k), within(x, y, k)] for k in (1, 3, 5)},
        })
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"versions": {"numpy": np.__version__}, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
