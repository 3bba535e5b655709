"""Processes that are measured: workers that answer, and cold ones from start to file, with the memory of each."""

import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path

from engines import HERE, Absent


def memory(pid: int) -> dict:
    """Anonymous and file-backed memory in bytes; nothing of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = {line.split(":")[0]: line.split() for line in lines}
    return {kind: int(fields[name][1]) * 1024 for kind, name in (("anonymous", "RssAnon"), ("file", "RssFile")) if name in fields}


class Watch:
    """The largest memory of a process, each kind by itself, looked at every few milliseconds."""

    def __init__(self, pid: int):
        self.peak = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, args=(pid,), daemon=True)
        self.thread.start()

    def _look(self, pid: int) -> None:
        while True:
            for kind, value in memory(pid).items():
                self.peak[kind] = max(value, self.peak.get(kind, 0))
            if self.ended.wait(0.01):
                return

    def end(self) -> dict:
        self.ended.set()
        self.thread.join()
        return self.peak


class Worker:
    """An engine that has loaded its networks, and makes a picture for each seed."""

    def __init__(self, python: str, script: str, work: dict):
        command = [python, str(HERE / "workers" / script), json.dumps(work)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        self.about = self._answer()
        self.watch = Watch(self.about["pid"])

    def _listen(self) -> None:
        for line in self.process.stderr:
            if line.strip():
                self.said = [*self.said[-20:], line.strip()]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.listener.join(1)
            raise Absent(f"cannot run this bundle: {self.said[-1] if self.said else 'it ended without a word'}"[:300])
        return json.loads(line)

    def picture(self, seed: int) -> dict:
        try:
            print(seed, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        return self._answer()

    def end(self) -> dict:
        peak = self.watch.end()
        self.process.stdin.close()
        self.process.wait()
        return peak


def cold(command: list, environment: dict) -> tuple:
    """Seconds from start to end of a process, and its peak memory."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    said = process.stderr.read()
    process.wait()
    spent = time.perf_counter() - begun
    peak = watch.end()
    if process.returncode != 0:
        lines = [line for line in said.splitlines() if line.strip()] or ["it says nothing"]
        raise Absent(f"does not make a picture: {lines[-1].strip()}"[:300])
    return spent, peak


def ratio(pairs: list) -> float:
    """The median of the ratios of neighbours, which what comes and goes on the machine touches alike."""
    return statistics.median(left / right for left, right in pairs if right > 0)
