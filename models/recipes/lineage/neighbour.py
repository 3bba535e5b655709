"""Modules of the sticker recipe that the small families use as they are, found by their path."""

import importlib.util
from pathlib import Path
from types import ModuleType


def module(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "sticker" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"sticker_{name}", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is no module")
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded
