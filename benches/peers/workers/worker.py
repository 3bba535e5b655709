"""What the workers share. A worker is a process that makes pictures with one engine, and is spoken to in lines of JSON.

`WORKER.py WORK` loads and prints {"pid", "load_ms", "versions"}; each line on its standard input is a seed, which it answers with {"total_ms",
"components": {role: ms of all its calls}}. `WORKER.py WORK FILE` loads, makes one picture, writes it and ends.

WORK is a JSON object: `bundle`, a folder as bundles.py writes it or an ONNX bundle; `side`, `steps`, `prompt`, `threads`, and `options` of the engine.
"""

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path


class Clock:
    """Time spent in each component of one picture."""

    def __init__(self):
        self.milliseconds = defaultdict(float)

    def timed(self, role: str, call):
        def timed(*arguments, **named):
            begun = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.milliseconds[role] += (time.perf_counter() - begun) * 1000

        return timed

    def taken(self) -> dict:
        taken = dict(self.milliseconds)
        self.milliseconds.clear()
        return taken


def onnx_folder(work: dict) -> Path:
    """The ONNX files: of a bundle that bundles.py wrote they lie one folder below."""
    folder = Path(work["bundle"])
    inner = folder / "onnx"
    return inner if inner.is_dir() else folder


def main(load) -> None:
    """Loads and answers.

    `load(work, clock)` returns (picture, versions, pid of another process that does the work). `picture(seed, file)` makes one, and writes it where
    `file` is not None; it may return an answer of its own.
    """
    # What libraries print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work, file = json.loads(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    clock = Clock()
    begun = time.perf_counter()
    picture, versions, pid = load(work, clock)
    if file is not None:
        picture(1, file)
        return
    load_ms = (time.perf_counter() - begun) * 1000
    print(json.dumps({"pid": pid or os.getpid(), "load_ms": load_ms, "versions": versions}), file=answers)
    for line in sys.stdin:
        clock.taken()
        begun = time.perf_counter()
        own = picture(int(line), None)
        total_ms = (time.perf_counter() - begun) * 1000
        print(json.dumps({"total_ms": total_ms, "components": clock.taken()} | (own or {})), file=answers)
