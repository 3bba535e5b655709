"""What is measured, and where each engine's packages come from."""

import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from shapes import Shape

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Each in an environment of its own, pinned: what one wants, another may not bear.
ENVIRONMENTS = {
    "python": ["-r", str(ROOT / "tests/tools/requirements.txt")],
    "openvino": ["openvino==2026.4.1", "openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0", "transformers==4.57.6", "pillow==13.0.0"],
    # Comes as source, and is compiled for this processor.
    "stable-diffusion.cpp": ["stable-diffusion-cpp-python==0.4.7", "numpy==2.4.6", "pillow==13.0.0"],
}


class Absent(Exception):
    """Why an engine is not measured."""


@dataclass(frozen=True)
class Engine:
    worker: str
    # None runs with the driver's own interpreter.
    environment: str | None = None
    options: dict = field(default_factory=dict)
    # It takes what diffusers saved, which a bundle out of the repository lacks.
    wants_pipeline: bool = False
    # Instructions of the processor, one of which it wants.
    instructions: tuple = ()

    def check(self, shape: Shape) -> None:
        """Raises `Absent` where this machine or this bundle is not for it."""
        if self.wants_pipeline and not shape.is_random:
            raise Absent("takes pipelines of diffusers, of which this bundle is none")
        if self.instructions and not processor_flags() & set(self.instructions):
            raise Absent(f"the processor has none of {', '.join(self.instructions)}")


ENGINES = {
    "kiln": Engine("kiln.py"),
    "onnxruntime": Engine("graphs.py", "python", {"runtime": "onnxruntime"}),
    "optimum": Engine("pipelines.py", "python", {"on": "onnxruntime"}, wants_pipeline=True),
    "diffusers": Engine("pipelines.py", "python", {"on": "torch"}, wants_pipeline=True),
    "diffusers-bf16": Engine(
        "pipelines.py", "python", {"on": "torch", "dtype": "bfloat16"}, wants_pipeline=True, instructions=("avx512_bf16", "amx_bf16", "bf16")
    ),
    "openvino": Engine("graphs.py", "openvino", {"runtime": "openvino"}),
    "openvino-genai": Engine("genai.py", "openvino", wants_pipeline=True),
    "stable-diffusion.cpp": Engine("stable_diffusion_cpp.py", "stable-diffusion.cpp", wants_pipeline=True),
}


def processor_flags() -> set:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())


class Environments:
    """Python interpreters with the engines' packages, made when they are first wanted and kept under `folder`."""

    def __init__(self, folder: Path, given: dict):
        self.folder = folder
        self.given = given
        self.failed = {}

    def python(self, name: str | None) -> str:
        if name is None:
            return sys.executable
        if name in self.given:
            return self.given[name]
        if name in self.failed:
            raise Absent(self.failed[name])
        folder = self.folder / name
        python = folder / "bin" / "python"
        wanted = "\n".join(ENVIRONMENTS[name]) + "\n"
        if name == "python":
            wanted += (ROOT / "tests/tools/requirements.txt").read_text()
        mark = folder / "installed.txt"
        if not mark.is_file() or mark.read_text() != wanted:
            print(f"installing {name} into {folder}", file=sys.stderr)
            venv.create(folder, with_pip=True, clear=True)
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ENVIRONMENTS[name]]
            installed = subprocess.run(command, capture_output=True, text=True)
            if installed.returncode != 0:
                lines = [line for line in installed.stderr.splitlines() if line.strip()] or ["pip says nothing"]
                self.failed[name] = f"does not install: {lines[-1].strip()}"
                raise Absent(self.failed[name])
            mark.write_text(wanted)
        return str(python)
