"""The pictures that all small families share: 32x32 RGB stickers on white, in classes, a part of them held out.

    python data.py --stickers work/sticker --output work/data/stickers32.npz

takes the pictures that the sticker recipe prepared under `--stickers` and has that recipe make them where they are missing.
The file holds `pictures` (N, 32, 32, 3) uint8, `labels` (N) int64, `held_out` (N) bool, `names` (N), `styles` (N) and
`classes` (K), the names that the labels count.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
STICKER_RECIPE = Path(__file__).parents[1] / "sticker"
HELD_OUT_SHARE = 0.1

# Which subgroups of emojibase make a class. The order is the order of the labels.
CLASSES = {
    "face": ["face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy", "face-unwell",
             "face-hat", "face-glasses", "face-concerned", "face-negative", "face-costume"],
    "heart": ["heart"],
    "person": ["person", "person-role"],
    "animal": ["animal-mammal", "animal-bird", "animal-amphibian", "animal-reptile", "animal-marine", "animal-bug", "cat-face",
               "monkey-face"],
    "plant": ["plant-flower", "plant-other", "food-fruit", "food-vegetable"],
    "food": ["food-prepared", "food-asian", "food-sweet", "drink"],
    "vehicle": ["transport-ground", "transport-air", "transport-water"],
    "place": ["place-building", "place-religious", "place-geographic", "place-other"],
}

# What does not look like its class, or cannot be read at this size.
DROPPED = {
    "love letter", "heart exclamation", "heart decoration", "pile of poo", "skull and crossbones", "alien monster", "face in clouds", "dotted line face",
    "paw prints", "pig nose", "feather", "wing", "spider web", "microbe", "coral", "station", "bus stop", "horizontal traffic light",
    "vertical traffic light", "construction", "police car light", "stop sign", "wheel", "oil drum", "motorway", "railway track", "roller skate",
    "motorized wheelchair", "manual wheelchair", "fuel pump", "seat", "satellite", "anchor", "ring buoy", "building construction",
    "wedding", "love hotel", "brick", "rock", "wood", "statue of liberty", "tokyo tower", "barber pole", "carousel horse", "playground slide",
    "hot springs", "roller coaster", "kaaba", "foggy", "salt", "pouring liquid", "ice", "baby bottle", "rosette",
}


def words(text: str) -> str:
    """A name as the sticker recipe writes it: lower case, no accents, no punctuation."""
    text = unicodedata.normalize("NFD", text.lower())
    return " ".join(re.sub(r"[^a-z0-9]+", " ", "".join(c for c in text if not unicodedata.combining(c))).split())


def subgroups(stickers: Path) -> dict[str, str]:
    """Name to emojibase subgroup."""
    english = stickers / "npm" / "node_modules" / "emojibase-data" / "en"
    keys = {g["order"]: g["key"] for g in json.loads((english / "messages.json").read_text())["subgroups"]}
    return {words(r["label"]): keys.get(r.get("subgroup"), "") for r in json.loads((english / "data.json").read_text())}


def stem(name: str) -> str:
    """What a man, a woman and a person of one kind share, so that a near copy of a held-out picture is not trained on."""
    return re.sub(r"^(man|woman|person|mx|mrs|boy|girl|old man|old woman|older person) ?", "", name) or name


def hold_out(names: list[str]) -> set[str]:
    """The stems of one class that are kept from training: the first by their digest, so the choice does not hang on order."""
    stems = sorted({stem(name) for name in names}, key=lambda s: hashlib.sha256(s.encode()).digest())
    return set(stems[:max(1, round(HELD_OUT_SHARE * len(stems)))])


def on_white(picture: np.ndarray) -> np.ndarray:
    """(S, S, 4) straight alpha to (32, 32, 3) uint8. Laying on white is linear, so it commutes with the resampling of premultiplied colours."""
    alpha = picture[..., 3:].astype(np.float32) / 255
    laid = picture[..., :3] * alpha + 255 * (1 - alpha)
    resized = [np.asarray(Image.fromarray(laid[..., c]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for c in range(3)]
    return np.clip(np.rint(np.stack(resized, -1)), 0, 255).astype(np.uint8)


def prepare(stickers: Path, smoke: bool) -> tuple[np.ndarray, list[dict]]:
    """The sticker recipe's pictures and entries, made by that recipe where they are missing."""
    if not (stickers / "entries.json").exists():
        command = [sys.executable, str(STICKER_RECIPE / "data.py"), "--work", str(stickers.resolve())]
        subprocess.run(command + ["--smoke"] * smoke, check=True)
    return np.load(stickers / "pictures.npy"), json.loads((stickers / "entries.json").read_text())


def select(pictures: np.ndarray, entries: list[dict], subgroup: dict[str, str]) -> dict[str, np.ndarray]:
    label = {s: k for k, members in enumerate(CLASSES.values()) for s in members}
    chosen = [i for i, e in enumerate(entries) if e["name"] not in DROPPED and subgroup.get(e["name"]) in label]
    names = np.array([entries[i]["name"] for i in chosen])
    labels = np.array([label[subgroup[name]] for name in names], dtype=np.int64)
    held_out = np.zeros(len(names), dtype=bool)
    for k in range(len(CLASSES)):
        members = np.flatnonzero(labels == k)
        stems = hold_out(list(names[members]))
        held_out[members] = [stem(name) in stems for name in names[members]]
    return {
        "pictures": np.stack([on_white(pictures[i]) for i in chosen]), "labels": labels, "held_out": held_out, "names": names,
        "styles": np.array([entries[i]["style"] for i in chosen]), "classes": np.array(list(CLASSES)),
    }


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stickers", type=Path, default=Path("work/sticker"), help="the sticker recipe's work folder")
    parser.add_argument("--output", type=Path, default=Path("work/data/stickers32.npz"))
    parser.add_argument("--smoke", action="store_true", help="few pictures, where none are prepared yet")
    args = parser.parse_args()
    pictures, entries = prepare(args.stickers, args.smoke)
    chosen = select(pictures, entries, subgroups(args.stickers))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.output.with_suffix(".part.npz")
    np.savez_compressed(temporary, **chosen)
    temporary.replace(args.output)
    for k, name in enumerate(chosen["classes"]):
        of_class = chosen["labels"] == k
        print(f"{name}: {of_class.sum()} pictures, {(of_class & chosen['held_out']).sum()} held out")
    print(f"{len(chosen['labels'])} pictures, {chosen['held_out'].sum()} held out")


if __name__ == "__main__":
    main()
