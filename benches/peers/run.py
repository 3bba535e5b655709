#!/usr/bin/env python3
"""Measures Kiln and what a person would use instead, side by side: `python3 benches/peers/run.py`.

Bundles of random weights in published models' shapes are made once, and the peers installed into environments of their own, both under --cache: some
25 GB with everything. Then each peer makes pictures in turn with Kiln, both loaded; ratios are medians of neighbours'. Cold processes take
turns as well. Tables come on standard output, progress on standard error. Python 3.11, nothing but its standard library; a release build of Kiln.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from engines import ENGINES, HERE, ROOT, Absent, Environments
from processes import Worker, cold, ratio
from report import ROLES, text
from shapes import SHAPES, Shape


def say(message: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {message}", file=sys.stderr, flush=True)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kiln-peers"
    parser.add_argument("--cache", type=Path, default=cache, help="where bundles and environments are kept [%(default)s]")
    parser.add_argument("--kiln", type=Path, default=ROOT / "target/release/kiln", help="the binary [%(default)s]")
    parser.add_argument("--bundles", default="sd-turbo,bk-sdm-tiny,sticker", help=f"which, of {', '.join(SHAPES)} [%(default)s]")
    parser.add_argument("--engines", default=",".join(name for name in ENGINES if name != "kiln"), help="which beside Kiln [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="pictures of each pair [%(default)s]")
    parser.add_argument("--cold", type=int, default=3, help="cold processes of each engine, 0 for none [%(default)s]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine [%(default)s]")
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=PYTHON", help="an interpreter that has the packages already")
    parser.add_argument("--json", type=Path, help="keep every measurement in this file")
    parser.add_argument("--check", action="store_true", help="try the harness on a bundle of some megabytes, in a fresh folder, with what is installed")
    given = parser.parse_args()
    given.bundles, given.engines = given.bundles.split(","), [name for name in given.engines.split(",") if name]
    for wish, known in ((given.bundles, SHAPES), (given.engines, ENGINES)):
        for name in wish:
            if name not in known:
                parser.error(f"`{name}` is not known, expected some of {', '.join(known)}")
    if given.rounds < 1 or given.cold < 0 or given.threads < 1:
        parser.error("--rounds and --threads are at least 1, --cold at least 0")
    if not given.kiln.is_file():
        parser.error(f"{given.kiln} is no file; `cargo build --release` makes it, or name another with --kiln")
    given.environment = dict(pair.partition("=")[::2] for pair in given.environment)
    return given


def bundle_folder(name: str, shape: Shape, given: argparse.Namespace, environments: Environments) -> Path:
    """Where the bundle lies; a random one is made where it is not whole."""
    if not shape.is_random:
        return ROOT / shape.folder
    folder = given.cache / "bundles" / name
    if not (folder / "made.json").is_file():
        say(f"making {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        ran([environments.python("python"), HERE / "bundles.py", name, folder], timeout=7200)
    return folder


def ran(command: list, timeout: int = 3600) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
    return done.stdout


class Bench:
    """One bundle's measurements."""

    def __init__(self, name: str, given: argparse.Namespace, environments: Environments):
        self.shape = SHAPES[name]
        self.given = given
        self.environments = environments
        self.folder = bundle_folder(name, self.shape, given, environments)
        self.onnx = self.folder / "onnx" if self.shape.is_random else self.folder
        python = environments.python("python")
        say(f"{name}: counting its work, measuring the peak")
        self.measured = {
            "name": name,
            "what": self.shape.what,
            "side": self.shape.side,
            "steps": self.shape.steps,
            "threads": given.threads,
            "date": f"{datetime.date.today():%d %B %Y}",
            "work": self.counted(python),
            "peak": 0.0,
            "load": [os.getloadavg()[0]],
            "engines": {},
        }
        self.look_at_peak()

    def look_at_peak(self) -> None:
        """The best counts: what else runs on the machine makes it smaller, never larger."""
        found = float(ran([self.environments.python("python"), HERE / "peak.py", self.given.threads]))
        self.measured["peak"] = max(found, self.measured["peak"])

    def counted(self, python: str) -> dict:
        """The operations of each component; of a bundle of gigabytes that takes a minute, so they are kept beside it."""
        kept = self.folder / "work.json"
        if self.shape.is_random and kept.is_file():
            return json.loads(kept.read_text())
        found = ran([python, HERE / "work.py", self.onnx, self.shape.steps])
        if self.shape.is_random:
            kept.write_text(found)
        return json.loads(found)

    def work(self, name: str) -> dict:
        options = dict(ENGINES[name].options)
        if name == "kiln":
            options |= {"program": str(self.given.kiln), "guidance": 1.0 if self.shape.is_random else None}
        options["tiny_decoder"] = self.shape.is_random and self.shape.autoencoder is None
        shape = self.shape
        common = {"bundle": str(self.folder), "side": shape.side, "steps": shape.steps, "prompt": shape.prompt, "threads": self.given.threads}
        return common | {"options": options}

    def worker(self, name: str) -> Worker:
        engine = ENGINES[name]
        engine.check(self.shape)
        return Worker(self.environments.python(engine.environment), engine.worker, self.work(name))

    def warm(self) -> None:
        """Each peer beside Kiln, picture by picture."""
        kiln = self.worker("kiln")
        mine = {"versions": kiln.about["versions"], "load_ms": kiln.about["load_ms"], "pictures": [], "ratios": {}, "cold": []}
        self.measured["engines"]["kiln"] = mine
        for name in self.given.engines:
            try:
                say(f"{self.measured['name']}: {name} loads")
                self.measured["engines"][name] = self.beside(kiln, mine, name)
            except Absent as absent:
                say(f"{name}: {absent}")
                self.measured["engines"][name] = {"absent": str(absent)}
        if not mine["pictures"]:
            kiln.picture(0)
            mine["pictures"] = [kiln.picture(seed) for seed in range(self.given.rounds)]
        mine["loaded_peak"] = kiln.end()

    def beside(self, kiln: Worker, mine: dict, name: str) -> dict:
        peer = self.worker(name)
        try:
            # What is done at first only: memory is taken, caches are filled.
            peer.picture(0)
            kiln.picture(0)
            say(f"{name}: both are warm")
            self.look_at_peak()
            pairs = []
            for seed in range(self.given.rounds):
                pair = (kiln.picture(seed), peer.picture(seed))
                pairs.append(pair)
                say(f"{name}: {pair[0]['total_ms']:.0f} ms and {pair[1]['total_ms']:.0f} ms")
            mine["pictures"] += [left for left, _ in pairs]
            pictures = [right for _, right in pairs]
            self.look_at_peak()
            ratios = {"picture": ratio([(left["total_ms"], right["total_ms"]) for left, right in pairs])}
            for role in ROLES:
                both = [(left["components"][role], right["components"][role]) for left, right in pairs if role in right["components"]]
                if any(right > 0 for _, right in both):
                    ratios[role] = ratio(both)
            about = {"versions": peer.about["versions"], "load_ms": peer.about["load_ms"]}
        finally:
            peak = peer.end()
        return about | {"pictures": pictures, "ratios": ratios, "cold": [], "loaded_peak": peak}

    def cold(self) -> None:
        """Processes from start to file, in turn; what all of them read lies in the page cache after the first."""
        with tempfile.TemporaryDirectory(prefix="kiln-peers-") as folder:
            present = [name for name, found in self.measured["engines"].items() if "absent" not in found]
            for number in range(self.given.cold):
                for name in present:
                    file = Path(folder) / f"{name}.png"
                    command, environment = self.cold_command(name, file, folder)
                    took = cold(command, environment)
                    say(f"{self.measured['name']}: {name} took {took[0]:.2f} s from start to file")
                    self.measured["engines"][name]["cold"].append(took)
            for name in present if self.given.cold else []:
                both = zip(self.measured["engines"]["kiln"]["cold"], self.measured["engines"][name]["cold"])
                self.measured["engines"][name]["ratios"]["cold"] = ratio([(left[0], right[0]) for left, right in both])
            self.agree(Path(folder))

    def cold_command(self, name: str, file: Path, cache: str) -> tuple:
        if name != "kiln":
            engine = ENGINES[name]
            script = [self.environments.python(engine.environment), str(HERE / "workers" / engine.worker)]
            return [*script, json.dumps(self.work(name)), str(file)], {}
        shape = self.shape
        command = [str(self.given.kiln), "generate", shape.prompt, "--model", str(self.onnx), "--seed", "1", "--steps", str(shape.steps), "-q"]
        command += ["--threads", str(self.given.threads), "-o", str(file)]
        # A cache of its own: nothing that a person prepared or measured before.
        return command + (["--guidance", "1"] if shape.is_random else []), {"XDG_CACHE_HOME": cache}

    def agree(self, folder: Path) -> None:
        """Whether engines that draw torch's random numbers made Kiln's picture: then it was the same work."""
        same = [name for name in ("optimum", "diffusers") if (folder / f"{name}.png").is_file()]
        compare = [self.environments.python("python"), HERE / "agreement.py", folder / "kiln.png"]
        self.measured["agreement"] = {name: int(ran([*compare, folder / f"{name}.png"])) for name in same}


def main() -> None:
    given = asked()
    if given.check:
        with tempfile.TemporaryDirectory(prefix="kiln-peers-") as folder:
            given.bundles, given.cache, given.rounds, given.cold = ["check"], Path(folder), 2, 1
            measure(given)
        return
    measure(given)


def measure(given: argparse.Namespace) -> None:
    environments = Environments(given.cache / "environments", given.environment)
    every = []
    for name in given.bundles:
        bench = Bench(name, given, environments)
        bench.warm()
        bench.cold()
        bench.measured["load"].append(os.getloadavg()[0])
        every.append(bench.measured)
        print(text(bench.measured), flush=True)
    print(f"`python3 benches/peers/run.py {' '.join(sys.argv[1:])}`")
    if given.json:
        given.json.write_text(json.dumps(every, indent=1) + "\n")
    if given.check:
        check(every[0])


def check(measured: dict) -> None:
    """What has to hold of a run of the whole harness."""
    assert all(measured["work"][role] > 0 for role in ROLES), measured["work"]
    present = {name: found for name, found in measured["engines"].items() if "absent" not in found}
    assert {"kiln", "onnxruntime"} <= set(present), "Kiln and ONNX Runtime's Python package have to run"
    for name, found in present.items():
        assert found["pictures"] and found["cold"], name
        for picture in found["pictures"]:
            assert set(picture["components"]) == set(ROLES), (name, picture)
            assert 0 < sum(picture["components"].values()) <= picture["total_ms"] * 1.05, (name, picture)
        assert all(peak["anonymous"] > 0 and peak["file"] > 0 for _, peak in found["cold"]), name
    for name, steps in measured["agreement"].items():
        assert steps <= 2, f"{name} made another picture, {steps}/255 away"
    say(f"the harness works; measured were {', '.join(present)}")


if __name__ == "__main__":
    main()
