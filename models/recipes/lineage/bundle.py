"""Checkpoints of the one-shot families, the judge and the sheet of real pictures to bundles: ONNX files, configurations, cards, samples.

    python bundle.py --work work --output ../../ vae gan flow judge real

Every network is compared with PyTorch's own result, and each bundle is drawn from by its own files with ONNX Runtime.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

import data
from flow import Flow, export_flow
from gan import Generator, export_gan
from judge import Judge, export_judge
from neighbour import module
from onnx_file import write_config
from training import bits_per_dimension
from vae import Autoencoder, export_vae

run = module("run")

COLUMNS, TILES = 32, 512
PIPELINES = {"vae": ("VaePipeline", "encoder", "decoder"), "gan": ("GanPipeline", "mapping", "synthesis"),
             "flow": ("FlowPipeline", "encoder", "decoder")}
TEMPERATURE, TRUNCATION = 0.7, 0.7


def session(folder: Path, component: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / component / "model.onnx", options, providers=["CPUExecutionProvider"])


def save_tiles(path: Path, pictures: np.ndarray, columns: int, scale: int = 1) -> None:
    """(N, S, S, 3) uint8 to one PNG, row by row."""
    count, side = pictures.shape[:2]
    rows = math.ceil(count / columns)
    room = np.full((rows * columns, side, side, 3), 255, np.uint8)
    room[:count] = pictures
    sheet = room.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    picture = Image.fromarray(sheet).resize((columns * side * scale, rows * side * scale), Image.Resampling.NEAREST)
    picture.save(path, optimize=True)


def as_bytes(sample: np.ndarray) -> np.ndarray:
    """[B, 3, S, S] in [-1, 1] to (B, S, S, 3) uint8."""
    return np.clip(np.rint((sample.transpose(0, 2, 3, 1) + 1) * 127.5), 0, 255).astype(np.uint8)


def draw(family: str, folder: Path, latent: np.ndarray, labels: np.ndarray, force: float) -> np.ndarray:
    """Pictures from latents by the bundle's own files; `force` scales the latent (flow) or the way from the mean style (gan)."""
    if family == "gan":
        styles = session(folder, "mapping").run(None, {"latent": latent, "class_labels": labels})[0]
        mean = np.array(json.loads((folder / "mapping" / "config.json").read_text())["mean_styles"], np.float32)[labels]
        count = json.loads((folder / "synthesis" / "config.json").read_text())["style_count"]
        styles = np.repeat((mean + force * (styles - mean))[:, None], count, 1)
        return session(folder, "synthesis").run(None, {"styles": styles})[0]
    return session(folder, "decoder").run(None, {"latent": (force * latent).astype(np.float32), "class_labels": labels})[0]


def sample_sheet(family: str, folder: Path, latent_size: int, classes: int) -> None:
    """A row for each class. Left half: as the model is; right half: flow at temperature 0.7, gan at truncation 0.7."""
    random = np.random.default_rng(0)
    columns = 16 if family == "vae" else 8
    labels = np.repeat(np.arange(classes), columns).astype(np.int64)
    latent = random.standard_normal((len(labels), latent_size)).astype(np.float32)
    halves = [draw(family, folder, latent, labels, 1.0)]
    if family != "vae":
        halves.append(draw(family, folder, latent, labels, TEMPERATURE if family == "flow" else TRUNCATION))
    rows = np.concatenate([as_bytes(half).reshape(classes, columns, *half.shape[2:], 3) for half in halves], 1)
    save_tiles(folder / "sheet.png", rows.reshape(-1, *rows.shape[2:]), rows.shape[1])


def likelihood(family: str, folder: Path, stickers: dict, deviation: float) -> dict:
    """Bits per dimension (for the vae: an upper bound) and the round trip's error on held-out pictures, by the bundle's own files."""
    random = np.random.default_rng(0)
    apart = stickers["held_out"]
    x = 2 * (stickers["pictures"][apart].transpose(0, 3, 1, 2) + random.random((apart.sum(), 3, 32, 32))) / 256 - 1
    x, labels = x.astype(np.float32), stickers["labels"][apart]
    first = session(folder, "encoder").run(None, {"sample": x, "class_labels": labels})
    if family == "flow":
        latent, log_determinant = first
        back = session(folder, "decoder").run(None, {"latent": latent, "class_labels": labels})[0]
        bits = log_determinant - (latent.astype(np.float64) ** 2 + math.log(2 * math.pi)).sum(1) / 2
    else:
        mean, log_variance = first
        latent = mean + random.standard_normal(mean.shape).astype(np.float32) * np.exp(log_variance / 2)
        drawn, back = (session(folder, "decoder").run(None, {"latent": z, "class_labels": labels})[0] for z in (latent, mean))
        apart_by = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
        squares = ((x - drawn).astype(np.float64) ** 2).sum((1, 2, 3))
        bits = -squares / (2 * deviation**2) - x[0].size * math.log(deviation * math.sqrt(2 * math.pi)) - apart_by
    return {"held_out_bits_per_dimension": bits_per_dimension(torch.from_numpy(bits), x[0].size),
            "largest_difference_after_round_trip": float(np.abs(back - x).max()),
            "root_mean_square_after_round_trip": float(np.sqrt(((back - x) ** 2).mean()))}


def make_family(family: str, work: Path, folder: Path, stickers: dict) -> dict:
    weights, facts = run.averaged(work / f"{family}.pt")
    maker = {"vae": Autoencoder, "gan": Generator, "flow": Flow}[family]
    shape = {key: tuple(value) if isinstance(value, list) else value for key, value in facts["shape"].items()}
    network = maker(**shape, classes=facts["classes"])
    network.load_state_dict(weights)
    network.eval()
    facts["parameters"] = sum(p.numel() for p in network.parameters())
    if family == "vae":
        facts["difference"] = export_vae(network, folder, facts["deviation"], 8)
    else:
        facts["difference"] = (export_gan if family == "gan" else export_flow)(network, folder, 8)
    pipeline, *components = PIPELINES[family]
    write_config(folder / "model_index.json", {"_class_name": pipeline, **{c: ["kiln", "OnnxModel"] for c in components}})
    sample_sheet(family, folder, getattr(network, "latent_size", 3 * 32 * 32), facts["classes"])
    if family != "gan":
        facts |= likelihood(family, folder, stickers, facts.get("deviation", 1.0))
    return facts


def make_judge(work: Path, folder: Path) -> dict:
    weights, facts = run.averaged(work / "judge.pt")
    network = Judge()
    network.load_state_dict({k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")})
    facts["parameters"] = sum(p.numel() for p in network.parameters())
    facts["difference"] = export_judge(network, folder, 8)
    return facts


def make_real(folder: Path, stickers: dict) -> dict:
    """All held-out pictures, then as many of training spread evenly over the rest as fill the sheet."""
    apart = np.flatnonzero(stickers["held_out"])
    others = np.flatnonzero(~stickers["held_out"])
    order = others[np.argsort(stickers["labels"][others], kind="stable")]
    others = order[np.linspace(0, len(order) - 1, min(TILES - len(apart), len(order))).astype(int)]
    chosen = np.concatenate([apart, others])
    folder.mkdir(parents=True, exist_ok=True)
    save_tiles(folder / "sheet.png", stickers["pictures"][chosen], COLUMNS)
    write_config(folder / "config.json", {
        "tile_size": data.SIDE, "count": len(chosen), "columns": COLUMNS, "held_out": len(apart), "training": len(others),
        "order": "row by row; first the held-out pictures, then the training ones",
        "classes": stickers["classes"].tolist(), "class_labels": stickers["labels"][chosen].tolist(),
    })
    return {"held_out": len(apart), "training": len(others)}


def write_card(name: str, folder: Path, classes: list[str]) -> None:
    """Writes `kiln.toml` last: it holds the checksum of every other file."""
    cards = Path(__file__).with_name("cards")
    head = (cards / f"{name}.toml").read_text().rstrip() + "\n" + (cards / "data.toml").read_text()
    head = head.replace("CLASSES", json.dumps(classes))
    lineage = cards / f"{name}.lineage.toml"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "kiln.toml")
    sums = "\n".join(f'"{p.relative_to(folder).as_posix()}" = "{hashlib.sha256(p.read_bytes()).hexdigest()}"' for p in files)
    tables = lineage.read_text() + "\n" if lineage.exists() else ""
    (folder / "kiln.toml").write_text(f"{head}\n{tables}[sha256]\n{sums}\n")
    print(f"{name}: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", default=["judge", "real", *PIPELINES], help="which to make")
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--output", type=Path, required=True, help="the folder that holds the bundles")
    parser.add_argument("--card-only", action="store_true", help="write the cards again, after a file beside them changed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    stickers = data.load(args.work / "data" / "stickers32.npz")
    for name in args.bundles:
        folder = args.output / name
        if not args.card_only:
            if name == "judge":
                facts = make_judge(args.work, folder)
            elif name == "real":
                facts = make_real(folder, stickers)
            else:
                facts = make_family(name, args.work, folder, stickers)
            print(name, json.dumps(facts))
        write_card(name, folder, stickers["classes"].tolist())


if __name__ == "__main__":
    main()
