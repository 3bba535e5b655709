"""Makes variants of a bundle in fewer bits, and says what each costs: size, time, difference. See README.md beside this file."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from trial import compare, open_network
from variants import KINDS

PROMPTS = ["a red apple", "a smiling sun", "a small house by the sea", "an old man with a hat, oil painting"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="the model's folder")
    parser.add_argument("--kinds", default="fp16,int8,q4", help="which variants, of fp16, int8, q4 [default: all]")
    parser.add_argument("--components", help="which components, such as unet,text_encoder [default: all]")
    parser.add_argument("--kiln", default="kiln", help="the kiln binary, by which pictures are made")
    parser.add_argument("--prompts", type=Path, help="a prompt or a class to a line [default: four prompts; none for a model that reads none]")
    parser.add_argument("--bound", type=float, default=4.0, help="mean difference of a picture from the plain one's that is allowed, of 255 [default: 4]")
    parser.add_argument("--json", type=Path, help="where the report goes as JSON too")
    arguments = parser.parse_args()
    bundle = arguments.bundle.resolve()
    kinds = arguments.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not (bundle / "model_index.json").is_file():
        parser.error(f"{', '.join(unknown)} is none of {', '.join(KINDS)}" if unknown else f"{bundle}: there is no model_index.json in it")
    found = sorted(path.parent.name for path in bundle.glob("*/model.onnx"))
    wanted = arguments.components.split(",") if arguments.components else found
    missing = [role for role in wanted if role not in found]
    if missing or not wanted:
        parser.error(f"{bundle} has no {', '.join(missing)}/model.onnx; it has {', '.join(found)}")
    prompts = [line for line in arguments.prompts.read_text().splitlines() if line.strip()] if arguments.prompts else None

    rows, refused = [], 0
    with tempfile.TemporaryDirectory(prefix="kiln-precision-") as folder:
        copy = Path(folder) / bundle.name
        link_tree(bundle, copy)
        plain = pictures(arguments.kiln, copy, prompts, None)
        for role in wanted:
            for kind in kinds:
                row = one(arguments, copy, role, kind, plain, prompts)
                rows.append(row)
                print(line(row), flush=True)
                if row["refused"]:
                    refused += 1
                    continue
                for made in sorted((copy / role).glob(f"model_{kind}.onnx*")):
                    # Onto the same disk first, so that the file is there whole or not at all.
                    beside = bundle / role / f".{made.name}.part"
                    shutil.copyfile(made, beside)
                    os.replace(beside, bundle / role / made.name)
    if arguments.json:
        arguments.json.write_text(json.dumps({"onnxruntime": onnxruntime.__version__, "rows": rows}, indent=1) + "\n")
    if refused:
        sys.exit(f"{refused} of {len(rows)} variants were refused and are not kept")


def link_tree(source: Path, target: Path) -> None:
    """The bundle again, its files as links: what is tried lies beside them and never in the bundle itself."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not path.name.startswith("."):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)


def one(arguments, copy: Path, role: str, kind: str, plain: list, prompts: list | None) -> dict:
    source, target = copy / role / "model.onnx", copy / role / f"model_{kind}.onnx"
    for old in (copy / role).glob(f"model_{kind}.onnx*"):
        old.unlink()
    row = {"component": role, "kind": kind, "refused": None, "bytes_before": size(source)}
    try:
        KINDS[kind](source, target)
        open_network(target)
    except Exception as error:  # noqa: BLE001: whatever the libraries say is the reason
        return row | {"refused": f"it cannot be made: {' '.join(str(error).split())[:200]}"}
    row["bytes"] = size(target)
    if row["bytes"] > 0.9 * row["bytes_before"]:
        return row | {"refused": "it is hardly smaller: the weights are no large products or convolutions, or are in fewer bits already"}
    try:
        row |= compare(source, target)
        made = pictures(arguments.kiln, copy, prompts, f"{role}={kind}")
    except Exception as error:  # noqa: BLE001
        return row | {"refused": f"it does not run: {' '.join(str(error).split())[:200]}"}
    differences = [np.abs(left.astype(int) - right.astype(int)) for left, right in zip(plain, made)]
    row["picture_mean"] = float(np.mean([difference.mean() for difference in differences]))
    row["picture_largest"] = int(max(difference.max() for difference in differences))
    if row["picture_mean"] > arguments.bound:
        return row | {"refused": f"it spoils the picture: {row['picture_mean']:.1f} of 255 on the mean, at most {arguments.bound:g} is allowed"}
    return row


def pictures(kiln: str, bundle: Path, prompts: list | None, precision: str | None) -> list[np.ndarray]:
    """One picture for each prompt, by the bundle's own defaults, seeds 1, 2, …; for a model that reads nothing, four seeds."""
    from PIL import Image

    reads = (bundle / "tokenizer").is_dir()
    texts = prompts or (PROMPTS if reads else [""] * 4)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, text in enumerate(texts, 1):
            file = Path(folder) / f"{seed}.png"
            command = [kiln, "generate", *([text] if text else []), "--model", str(bundle), "--seed", str(seed), "--quiet", "-o", str(file)]
            command += ["--precision", precision] if precision else ["--precision", "f32"] if has_variants(bundle) else []
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode:
                raise RuntimeError(ran.stderr.strip() or f"kiln ended with {ran.returncode}")
            made.append(np.asarray(Image.open(file)))
    return made


def has_variants(bundle: Path) -> bool:
    return any(bundle.glob("*/model_*.onnx"))


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def line(row: dict) -> str:
    text = f"{row['component']:<16} {row['kind']:<5} {row['bytes_before'] / 1e6:8.2f} MB"
    if "bytes" in row:
        text += f" -> {row['bytes'] / 1e6:8.2f}"
    if "time" in row:
        text += f"  time x {row['time']:.2f}  output {row['output_mean']:.4f} of its deviation, largest {row['output_largest']:.3f}"
    if "picture_mean" in row:
        text += f"  picture {row['picture_mean']:.2f} of 255, largest {row['picture_largest']}"
    return text + (f"  REFUSED: {row['refused']}" if row["refused"] else "")


if __name__ == "__main__":
    main()
