"""Writes the tiny bundles of the small families under tests/bundles/. See README.md beside this file."""

import argparse
import hashlib
import logging
import os
import shutil
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import family_lineage as lineage  # noqa: E402
import family_networks as networks  # noqa: E402
from family_export import export, write_json  # noqa: E402
from family_networks import CLASSES  # noqa: E402
from family_pictures import write_sheet  # noqa: E402
from family_schedulers import SCHEDULERS, VERSION  # noqa: E402

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
SIDE = {"ddpm": 16} | lineage.SIDE
# Bundles without class conditioning; the card of each other one names the classes.
CLASSLESS = ("score", "consistency", "flow", "cnf_gaussian", "score_gaussian")
CLASS_NAMES = {
    "vae": "VaePipeline",
    "gan": "GanPipeline",
    "flow": "FlowPipeline",
    "cnf": "ContinuousFlowPipeline",
    "score": "ScorePipeline",
    "cnf_gaussian": "ContinuousFlowPipeline",
    "score_gaussian": "ScorePipeline",
    "ddpm": "DDPMPipeline",
    "progressive": "DDIMPipeline",
    "consistency": "ConsistencyModelPipeline",
    "consistency_cm": "ConsistencyModelPipeline",
}
STEPS = {
    "cnf": {"default": 10, "largest": 1000},
    "score": {"default": 20, "largest": 1000},
    "cnf_gaussian": {"default": 10, "largest": 1000},
    "score_gaussian": {"default": 20, "largest": 1000},
    "ddpm": {"default": 10, "largest": 1000},
    "progressive": {"trained": [1, 2, 4, 8], "default": 4, "largest": 8},
    "consistency": {"trained": [1, 2], "default": 2, "largest": 2},
    "consistency_cm": {"trained": [1, 2], "default": 1, "largest": 2},
}


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def ports(name: str) -> dict[str, Tensor]:
    """What the network of a diffusion bundle takes, in the order of its arguments; kinds and ranks of `timestep` differ on purpose."""
    side = SIDE.get(name, 8)
    given = {"sample": normals(11, 2, 3, side, side)}
    given["timestep"] = {
        "ddpm": torch.tensor([801, 40]),
        "progressive": torch.tensor(874.0),
        "consistency": torch.tensor([979.0, 499.0]),
        "consistency_cm": torch.tensor(1095.5),
        "cnf": torch.tensor([700.0, 10.5]),
        "score": torch.tensor(1.5),
    }[name.removesuffix("_gaussian")]
    if name not in CLASSLESS:
        given["class_labels"] = torch.tensor([2, 0])
    if name == "progressive":
        given["step_count"] = torch.tensor([4, 1])
    return given


def modules(name: str) -> dict[str, nn.Module]:
    """The torch networks of a bundle by component."""
    if name in lineage.SIDE:
        return lineage.modules(name)
    return {"judge" if name == "judge" else "unet": networks.build(name)}


def diffusion(name: str, folder: Path) -> float:
    network = networks.build(name)
    worst = export(network, folder / "unet" / "model.onnx", ports(name), ["out_sample"])
    config = {"_class_name": "UNet2DModel", "_diffusers_version": VERSION, "sample_size": 8, "in_channels": 3, "out_channels": 3}
    for part in network.modules():
        if isinstance(part, networks.UNet2DModel):
            config |= {key: value for key, value in part.config.items() if not key.startswith("_") and value is not None}
    if name.startswith("score"):
        config |= {"sigma_min": networks.SIGMA_MIN, "sigma_max": networks.SIGMA_MAX}
    write_json(folder / "unet" / "config.json", config)
    index = {"_class_name": CLASS_NAMES[name], "_diffusers_version": VERSION, "unet": ["diffusers", "UNet2DModel"]}
    if name in SCHEDULERS:
        index["scheduler"] = ["diffusers", SCHEDULERS[name]["_class_name"]]
        write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULERS[name])
    write_json(folder / "model_index.json", index)
    return worst


def direct(name: str, folder: Path) -> float:
    parts = lineage.modules(name)
    configurations = lineage.configurations(name, parts)
    side = SIDE[name]
    sizes = configurations.get("synthesis", {})
    latent_size = configurations["mapping" if name == "gan" else "decoder"]["latent_size"]
    given = {"sample": normals(11, 2, 3, side, side) * 0.5, "latent": normals(12, 2, latent_size)}
    given["styles"] = normals(13, 2, sizes.get("style_count", 1), sizes.get("style_size", 1))
    worst = 0.0
    for role, network in parts.items():
        worst = max(worst, export(network, folder / role / "model.onnx", *lineage.ports(name, role, given)))
        write_json(folder / role / "config.json", configurations[role])
    roles = {role: ["kiln", configurations[role]["_class_name"]] for role in parts}
    write_json(folder / "model_index.json", {"_class_name": CLASS_NAMES[name], "_diffusers_version": VERSION, **roles})
    return worst


def judge(folder: Path) -> float:
    worst = export(networks.build("judge"), folder / "model.onnx", {"sample": normals(12, 2, 3, 64, 64)}, ["features"])
    write_json(folder / "config.json", {"_class_name": "Judge", "sample_size": 64, "in_channels": 3, "features": 16})
    return worst


def write_card(name: str, folder: Path) -> None:
    """Written last: it holds the checksum of every other file."""
    family = name.removesuffix("_cm").removesuffix("_gaussian")
    lines = [f'name = "{name}"', f'family = "{family}"', 'licence = "MIT OR Apache-2.0"']
    lines.append('description = "Random weights, for tests."')
    if name in CLASS_NAMES and name not in CLASSLESS:
        lines.append("classes = [" + ", ".join(f'"{label}"' for label in CLASSES) + "]")
    if name in STEPS:
        lines += ["", "[steps]", *(f"{key} = {value}" for key, value in STEPS[name].items())]
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "kiln.toml")
    sums = [f'"{file.relative_to(folder).as_posix()}" = "{hashlib.sha256(file.read_bytes()).hexdigest()}"' for file in files]
    (folder / "kiln.toml").write_text("\n".join([*lines, "", "[sha256]", *sums]) + "\n", encoding="utf-8")


def make(name: str) -> None:
    folder = BUNDLES / name
    shutil.rmtree(folder, ignore_errors=True)
    if name == "real":
        write_sheet(folder)
        worst = 0.0
    elif name == "judge":
        worst = judge(folder)
    else:
        worst = (direct if name in lineage.SIDE else diffusion)(name, folder)
    if name != "real":
        write_card(name, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: exported, largest difference from torch {worst:.1e}, {size / 1024:.0f} KiB")


def main() -> None:
    names = [*CLASS_NAMES, "judge", "real"]
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", help="bundles to write; all when left out")
    names = arguments.parse_args().names or names
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    np.seterr(all="raise")
    for name in names:
        make(name)


if __name__ == "__main__":
    main()
