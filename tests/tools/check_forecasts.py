"""Holds plans to their promises: budgets x sizes x bundles, the peak of each run against its budget, its time against the forecast.

    check_forecasts.py KILN BUNDLE... [--sizes 64,128,256] [--threads N] [--tune]

A run whose forecast is of measurements (`kiln tune`) is also held to its time: the median of seven within a fifth of the forecast. With `--tune` each
bundle is measured right before it is checked, so that both are of the machine as it is at the time. Prints a line for each run and ends with 1
when one broke its promise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARES = [1.2, 1.01, 0.9, 0.8, 0.6]
TIME_TOLERANCE = 0.2


def plan(kiln: str, arguments: list[str]) -> dict | None:
    found = subprocess.run([kiln, "plan", *arguments, "--json"], capture_output=True, text=True)
    if found.returncode == 2:
        return None
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def run(kiln: str, arguments: list[str], output: str) -> tuple[int, float]:
    """The peak in bytes and the time in milliseconds of a process of its own."""
    begun = time.monotonic()
    child = subprocess.Popen([kiln, "generate", *arguments, "--seed", "7", "--quiet", "--output", output])
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, f"generate {arguments} ended with {status}"
    return usage.ru_maxrss * 1024, (time.monotonic() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kiln")
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--sizes", default="64,128,256")
    parser.add_argument("--threads", help="on a machine with other work one thread waits for no other")
    parser.add_argument("--tune", action="store_true", help="measure each bundle anew before it is checked")
    asked = parser.parse_args()
    held = broken = refused = timed = 0
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "picture.png")
        for bundle in asked.bundles:
            listing = json.loads(subprocess.check_output([asked.kiln, "inspect", bundle, "--json"]))
            if asked.tune:
                subprocess.run([asked.kiln, "tune", bundle, "--runs", "9", "--again"], stdout=subprocess.DEVNULL, check=True)
            takes_text = any(name == "text_encoder" for name in listing["components"])
            sizes = [None] if listing["size"]["fixed"] else [f"{side}x{side}" for side in asked.sizes.split(",")]
            for size in sizes:
                base = (["a red apple"] if takes_text else []) + ["--model", bundle] + (["--size", size] if size else [])
                base += ["--threads", asked.threads] if asked.threads else []
                free = plan(asked.kiln, base)
                assert free, f"{bundle} {size}: refused without a budget"
                for share in SHARES:
                    budget = int(free["expected_memory_bytes"] * share / 2**20)
                    limited = [*base, "--memory", f"{budget}MiB"]
                    chosen = plan(asked.kiln, limited)
                    name = f"{Path(bundle).name} {size or 'fixed'} in {budget} MiB"
                    if chosen is None:
                        refused += 1
                        print(f"{name}: refused")
                        continue
                    runs = [run(asked.kiln, limited, output) for _ in range(7 if chosen["measured"] else 1)]
                    peak = max(peak for peak, _ in runs)
                    took = statistics.median(took for _, took in runs)
                    ratio = took / chosen["expected_time_ms"] if chosen["expected_time_ms"] else float("nan")
                    fine = peak <= budget * 2**20
                    if chosen["measured"]:
                        timed += 1
                        fine = fine and abs(ratio - 1) <= TIME_TOLERANCE
                    held, broken = held + fine, broken + (not fine)
                    way = f"{chosen['memory']}, tile {chosen['tile']}, {chosen['steps']} steps"
                    word = "held" if fine else "BROKEN"
                    share = chosen["expected_memory_bytes"] / peak
                    found = f"peak {peak / 2**20:.0f} MiB ({way}), promised {share:.2f} of it, time {ratio:.2f} of the forecast"
                    print(f"{name}: {word}, {found}", flush=True)
    print(f"{held} held, {broken} broken, {refused} refused beforehand, {timed} of them timed against measurements")
    sys.exit(broken > 0 or held == 0)


if __name__ == "__main__":
    main()
