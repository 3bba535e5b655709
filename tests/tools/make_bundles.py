"""Writes the tiny diffusers ONNX exports under tests/bundles/. See README.md beside this file."""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

# Before torch and the exporter are loaded: nothing here may ask a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).resolve().parents[2] / "models" / "recipes" / "export"))

import onnx  # noqa: E402
import torch  # noqa: E402
from optimum.exporters.onnx import main_export  # noqa: E402

import surgery  # noqa: E402
from agreement import check_agreement, check_masked  # noqa: E402
from pix_art import export_pipeline as export_pix_art  # noqa: E402
from sana import add_instruction, export_pipeline as export_sana  # noqa: E402
from tiny_gemma import write_gemma  # noqa: E402
from tiny_masked import INSTRUCTION  # noqa: E402
from tiny_pipelines import PIPELINES, PUBLISHED_SCHEDULERS, VARIANTS, build  # noqa: E402
from tiny_sentences import write_sentences  # noqa: E402
from tiny_tokenizer import END, write_tokenizer  # noqa: E402
from tiny_transformers import sentence_tokenizer, t5  # noqa: E402

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


# Pipelines that no exporter writes, with our recipe that does.
RECIPES = {
    "pixart_sigma": export_pix_art,
    "pixart_lcm": export_pix_art,
    "sana_sprint": lambda pipeline, target: export_sana(pipeline, target, []),
}


def export_by_recipe(name: str) -> None:
    pipeline, target = build(name), BUNDLES / name
    shutil.rmtree(target, ignore_errors=True)
    torch.manual_seed(0)
    RECIPES[name](pipeline, target)
    replace_around(name, target)
    difference = check_masked(pipeline, target)
    print(f"{name}: exported, largest difference from torch {difference:.1e}, {size(target) / 1024:.0f} KiB")


def export(name: str) -> None:
    """Saves the pipeline, lets optimum export it, and replaces what would differ from machine to machine."""
    pipeline = build(name)
    lacking = [part for part in ("text_encoder_3", "tokenizer_3") if pipeline.components.get(part, True) is None]
    if lacking:
        # No exporter loads a pipeline without them; a person who lacks the memory leaves the folders out afterwards.
        pipeline.register_modules(text_encoder_3=t5(0), tokenizer_3=sentence_tokenizer())
    target = BUNDLES / name
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        torch.manual_seed(0)
        main_export(folder, str(target), task="inpainting" if name == "sd_inpaint" else "text-to-image", library_name="diffusers", do_validation=False)
    if lacking:
        pipeline.register_modules(**dict.fromkeys(lacking))
        index = json.loads((target / "model_index.json").read_text())
        write_json(target / "model_index.json", index | {part: [None, None] for part in lacking})
        for part in lacking:
            shutil.rmtree(target / part)
    if name == "sana":
        add_instruction(target, INSTRUCTION)
    replace_around(name, target)
    difference = (check_masked if name == "sana" else check_agreement)(pipeline, target)
    print(f"{name}: exported, largest difference from torch {difference:.1e}, {size(target) / 1024:.0f} KiB")


def replace_around(name: str, target: Path) -> None:
    """Short names inside the graphs; the scheduler and the tokenizers with the published keys."""
    for model in sorted(target.glob("*/model.onnx")):
        surgery.tidy(model)
    for config in [*target.glob("*/config.json"), target / "model_index.json"]:
        tidy_config(config)
    write_json(target / "scheduler" / "scheduler_config.json", PUBLISHED_SCHEDULERS[name])
    for folder in sorted(target.glob("tokenizer*")):
        if "T5" in json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]:
            shutil.rmtree(folder)
            write_sentences(folder)
            continue
        if name.startswith("sana"):
            shutil.rmtree(folder)
            write_gemma(folder)
            continue
        pad = json.loads((folder / "special_tokens_map.json").read_text())["pad_token"]
        pad = pad if isinstance(pad, str) else pad["content"]
        shutil.rmtree(folder)
        write_tokenizer(folder, pad)


def tidy_config(path: Path) -> None:
    """`_name_or_path` would be the temporary folder."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    write_json(path, config)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def derive(name: str) -> None:
    source, target = BUNDLES / VARIANTS[name], BUNDLES / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    getattr(surgery, name.removeprefix("sd_"))(target)
    for model in target.glob("*/model.onnx"):
        onnx.checker.check_model(str(model))
    print(f"{name}: derived from {VARIANTS[name]}, {size(target) / 1024:.0f} KiB")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", help="bundles to write; all when left out")
    names = arguments.parse_args().names or [*PIPELINES, *VARIANTS]
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    BUNDLES.mkdir(parents=True, exist_ok=True)
    for name in names:
        writer = export_by_recipe if name in RECIPES else export if name in PIPELINES else derive
        writer(name)
    print(f"all bundles: {size(BUNDLES) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
