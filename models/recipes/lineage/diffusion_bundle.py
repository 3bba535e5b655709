"""A checkpoint of a diffusion family to its bundle: network, configurations, page and card.

    python diffusion_bundle.py ddpm --work work --output work/bundles

writes `work/bundles/ddpm`. The page's text stands in `diffusion_pages.toml`; a sheet that lies in the bundle keeps its place.
"""

import argparse
import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np

import data
from diffusion import load
from forms import form
from onnx_file import write_config
from train_consistency import INTERVALS
from train_diffusion import SIGMA_MAX, SIGMA_MIN
from unet_export import export_unet

PAGES = Path(__file__).with_name("diffusion_pages.toml")
BITS = 8
ATTRIBUTION = (
    "Pictures, style glossy: Noto Emoji, Google LLC, Apache-2.0, by the npm package emoji-datasource-google 16.0.0",
    "Pictures, style flat: Twemoji, Twitter Inc. and other contributors, CC-BY-4.0, by the npm package emoji-datasource-twitter 16.0.0",
)
COSINE = {
    "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000, "prediction_type": "v_prediction", "clip_sample": True,
    "clip_sample_range": 1.0, "steps_offset": 0, "thresholding": False,
}
SCHEDULERS = {
    # Clipped, a guided picture fills its frame in DDIM's first steps and stays so; the ancestral steps look alike either way.
    "ddpm": {"_class_name": "DDPMScheduler", **COSINE, "clip_sample": False, "variance_type": "fixed_small",
             "timestep_spacing": "trailing"},
    "progressive": {"_class_name": "DDIMScheduler", **COSINE, "set_alpha_to_one": True, "timestep_spacing": "trailing"},
    "consistency": {"_class_name": "LCMScheduler", **COSINE, "set_alpha_to_one": True, "timestep_spacing": "leading",
                    "timestep_scaling": 10.0, "original_inference_steps": INTERVALS[-1]},
}
PIPELINES = {
    "ddpm": "DDPMPipeline", "progressive": "DDIMPipeline", "consistency": "ConsistencyModelPipeline",
    "cnf": "ContinuousFlowPipeline", "score": "ScorePipeline",
}


def bundle(family: str, work: Path, folder: Path, classes: list[str]) -> dict:
    network, facts = load(work / f"{family}.pt")
    extra = {"sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX} if family == "score" else {}
    facts["difference"] = export_unet(form(family, network.eval()), folder / "unet", data.SIDE, len(classes), BITS, extra)
    facts["megabytes"] = (folder / "unet" / "model.onnx").stat().st_size / 1e6
    index = {"_class_name": PIPELINES[family], "_diffusers_version": "0.36.0", "unet": ["diffusers", "UNet2DModel"]}
    if family in SCHEDULERS:
        index["scheduler"] = ["diffusers", SCHEDULERS[family]["_class_name"]]
        write_config(folder / "scheduler" / "scheduler_config.json", {**SCHEDULERS[family], "_diffusers_version": "0.36.0"})
    write_config(folder / "model_index.json", index)
    return facts


def lines(values: list[str]) -> str:
    return "[\n" + "".join(f"  {json.dumps(value)},\n" for value in values) + "]"


def card(family: str, folder: Path, page: dict, classes: list[str]) -> None:
    """Writes `kiln.toml` last: it holds the checksum of every other file."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "kiln.toml")
    sums = [f'"{p.relative_to(folder).as_posix()}" = "{hashlib.sha256(p.read_bytes()).hexdigest()}"' for p in files]
    steps = [f"{key} = {page[key]}" for key in ("trained", "default", "largest") if key in page]
    (folder / "kiln.toml").write_text("\n".join([
        f'name = "{family}"', 'version = "0.1.0"', f'family = "{family}"', 'licence = "Apache-2.0 AND CC-BY-4.0"',
        f"description = {json.dumps(page['description'])}", f"classes = {json.dumps(classes)}", f"attribution = {lines(ATTRIBUTION)}",
        "", "[steps]", *steps, "", "[guidance]", f"default = {page['guidance']}", "", "[size]", f"default = [{data.SIDE}, {data.SIDE}]",
        "", "[lineage]", f"parents = {json.dumps(page['parents'])}", f'paper = "{page["paper"]}"', "", "[sha256]", *sums, "",
    ]))


def text(family: str, facts: dict, classes: list[str]) -> str:
    """The bundle's page."""
    pages = tomllib.loads(PAGES.read_text())
    words = {
        **facts, "family": family, "passes": facts["step"] * facts["batch"] / facts["pictures"], "million": facts["parameters"] / 1e6,
        "names": ", ".join(f"`{name}`" for name in classes),
    }
    words["seen"] = pages["seen_few" if family in ("progressive", "consistency") else "seen_many"]
    words["warm"] = pages["warm"].format(**words) if "warm_minutes" in facts else ""
    return pages[family]["page"].lstrip().format(**words, made=pages["made"].strip().format(**words)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=PIPELINES)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--output", type=Path, default=Path("work/bundles"))
    parser.add_argument("--card-only", action="store_true", help="write page and card again, after a file beside them changed")
    args = parser.parse_args()
    folder, page = args.output / args.family, tomllib.loads(PAGES.read_text())[args.family]
    classes = [str(name) for name in data.load(args.work / "data" / "stickers32.npz")["classes"]]
    noted = args.work / f"{args.family}.json"
    if args.card_only:
        facts = json.loads(noted.read_text())
    else:
        facts = bundle(args.family, args.work, folder, classes)
        noted.write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "README.md").write_text(text(args.family, facts, classes))
    card(args.family, folder, page, classes)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB, {facts['step']} steps in {facts['minutes']:.1f} min, "
          f"int8 differs by at most {np.round(facts['difference'], 4)}")


if __name__ == "__main__":
    main()
