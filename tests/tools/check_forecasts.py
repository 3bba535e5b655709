"""Holds plans to their promises: budgets x sizes x bundles, the peak of each run against its budget, its time against the forecast.

    check_forecasts.py KILN BUNDLE... [--sizes 64,128,256] [--threads N] [--rounds N]

A machine's speed changes from one minute to the next, so a forecast is held to pictures that are made in turn with what it rests on: in each round `kiln
tune` measures the bundle anew, each plan is made anew for its budget, and its picture is made by a process of its own. The median of the rounds' times,
each in parts of its own forecast, shall be within a fifth of 1; the peak of every round within the budget. Prints a line for each plan and ends with 1 when one
broke its promise. Without `--rounds` nothing is measured beforehand, and only peaks are held.
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


def plans(kiln: str, bundle: str, sizes: str, threads: str | None) -> list[tuple[str, int, list[str]]]:
    """Of each size and budget of a bundle: its name, the budget in MiB, and the arguments that ask for it."""
    listing = json.loads(subprocess.check_output([kiln, "inspect", bundle, "--json"]))
    takes_text = any(name == "text_encoder" for name in listing["components"])
    found = []
    for size in [None] if listing["size"]["fixed"] else [f"{side}x{side}" for side in sizes.split(",")]:
        base = (["a red apple"] if takes_text else []) + ["--model", bundle] + (["--size", size] if size else [])
        base += ["--threads", threads] if threads else []
        free = plan(kiln, base)
        assert free, f"{bundle} {size}: refused without a budget"
        for share in SHARES:
            budget = int(free["expected_memory_bytes"] * share / 2**20)
            found.append((f"{Path(bundle).name} {size or 'fixed'} in {budget} MiB", budget, [*base, "--memory", f"{budget}MiB"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kiln")
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--sizes", default="64,128,256")
    parser.add_argument("--threads", help="on a machine with other work one thread waits for no other")
    parser.add_argument("--rounds", type=int, default=0, help="measure each bundle so often, and make each picture after each")
    asked = parser.parse_args()
    held = broken = refused = timed = 0
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "picture.png")
        for bundle in asked.bundles:
            tuned = [asked.kiln, "tune", bundle, "--runs", "9", "--again"]
            if asked.rounds:
                subprocess.run(tuned, stdout=subprocess.DEVNULL, check=True)
            wanted = plans(asked.kiln, bundle, asked.sizes, asked.threads)
            found = {name: [] for name, _, _ in wanted}
            for number in range(asked.rounds or 1):
                if number:
                    subprocess.run(tuned, stdout=subprocess.DEVNULL, check=True)
                for name, _, limited in wanted:
                    chosen = plan(asked.kiln, limited)
                    if chosen:
                        found[name].append((chosen, *run(asked.kiln, limited, output)))
            for name, budget, _ in wanted:
                if not found[name]:
                    refused += 1
                    print(f"{name}: refused")
                    continue
                peak = max(peak for _, peak, _ in found[name])
                fine = peak <= budget * 2**20
                chosen = found[name][0][0]
                words = f"{chosen['memory']}, tile {chosen['tile']}, {chosen['steps']} steps"
                promised = statistics.median(chosen["expected_memory_bytes"] for chosen, _, _ in found[name]) / peak
                text = f"peak {peak / 2**20:.0f} MiB ({words}), promised {promised:.2f} of it"
                ratios = [took / chosen["expected_time_ms"] for chosen, _, took in found[name] if chosen["measured"]]
                if ratios:
                    timed += 1
                    ratio = statistics.median(ratios)
                    fine = fine and abs(ratio - 1) <= TIME_TOLERANCE
                    text += f", time {ratio:.2f} of the forecast ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"
                held, broken = held + fine, broken + (not fine)
                print(f"{name}: {'held' if fine else 'BROKEN'}, {text}", flush=True)
    print(f"{held} held, {broken} broken, {refused} refused beforehand, {timed} of them timed against measurements")
    sys.exit(broken > 0 or held == 0)


if __name__ == "__main__":
    main()
