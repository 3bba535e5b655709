"""Pictures and captions: npm packages to one array of 64x64 RGBA stickers and one list of what they show.

    python data.py --work work

writes `pictures.npy` (count, 64, 64, 4) uint8, straight alpha, and `entries.json`, in the same order.
"""

import argparse
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
STYLES = {"glossy": ("emoji-datasource-google", "google"), "flat": ("emoji-datasource-twitter", "twitter")}

# Signs made of letters, and signs that say where something is rather than what it looks like.
DROPPED_SUBGROUPS = {
    "alphanum", "arrow", "av-symbol", "gender", "hair-style", "keycap", "skin-tone", "transport-sign", "zodiac",
    "family", "country-flag", "subdivision-flag",
}
DROPPED_NAMES = {"middle finger", "copyright", "registered", "trade mark"}

# Things that people ask for by name come up more often than the many near-alike people and signs.
GROUP_WEIGHT = {
    "smileys-emotion": 1.3, "people-body": 0.5, "animals-nature": 1.5, "food-drink": 1.4, "travel-places": 1.1,
    "activities": 1.1, "objects": 1.0, "symbols": 0.6, "flags": 0.6, "component": 0.5,
}
# The plain prompt draws in the first style, so it gets the larger share of the training.
STYLE_WEIGHT = {"glossy": 1.0, "flat": 0.6}


def words(text: str) -> list[str]:
    """The words of a caption as the tokenizer sees them: lower case, no accents, no punctuation."""
    text = unicodedata.normalize("NFD", text.lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", " ", text).split()


def fetch(work: Path) -> Path:
    """Installs the pinned npm packages under `work` and returns their folder."""
    folder = work / "npm"
    packages = folder / "node_modules"
    if not (packages / "emojibase-data" / "en" / "data.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("package.json"), folder / "package.json")
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
    return packages


def describe(packages: Path) -> dict[str, dict]:
    """Hexcode to name, keywords, group and weight, for everything that is kept."""
    english = packages / "emojibase-data" / "en"
    messages = json.loads((english / "messages.json").read_text())
    groups = {g["order"]: g["key"] for g in messages["groups"]}
    subgroups = {g["order"]: g["key"] for g in messages["subgroups"]}
    shortcodes = [json.loads((english / "shortcodes" / f"{source}.json").read_text())
                  for source in ("emojibase", "github", "iamcal")]
    kept = {}
    for record in json.loads((english / "data.json").read_text()):
        group, subgroup = groups.get(record.get("group")), subgroups.get(record.get("subgroup"))
        name = record["label"]
        if group is None or subgroup in DROPPED_SUBGROUPS or name in DROPPED_NAMES:
            continue
        if "facing right" in name or name.startswith("flag:"):
            continue
        short = []
        for table in shortcodes:
            found = table.get(record["hexcode"], [])
            short += [found] if isinstance(found, str) else found
        short = [" ".join(words(s)) for s in short if "flag" not in s]
        name_words = words(name)
        kept[plain(record["hexcode"])] = {
            "name": " ".join(name_words),
            "short": sorted(set(short) - {" ".join(name_words), ""}),
            "tags": sorted({" ".join(words(t)) for t in record.get("tags", [])} - {""}),
            "group": group,
            "weight": GROUP_WEIGHT[group],
        }
    return kept


def plain(hexcode: str) -> str:
    """A hexcode without the variation selector, which the packages do not write alike."""
    return hexcode.upper().replace("-FE0F", "")


def collect(packages: Path, described: dict[str, dict]) -> tuple[np.ndarray, list[dict]]:
    pictures, entries = [], []
    for style, (package, folder) in STYLES.items():
        index = json.loads((packages / package / "emoji.json").read_text())
        for record in index:
            about = described.get(plain(record["unified"]))
            path = packages / package / "img" / folder / "64" / record["image"]
            if about is None or not path.exists():
                continue
            picture = Image.open(path).convert("RGBA").convert("RGBa")
            if picture.size != (SIDE, SIDE):
                picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            pictures.append(np.asarray(picture.convert("RGBA")))
            entries.append({**about, "style": style, "weight": about["weight"] * STYLE_WEIGHT[style]})
    return np.stack(pictures), entries


def load(work: Path) -> tuple[np.ndarray, list[dict]]:
    return np.load(work / "pictures.npy"), json.loads((work / "entries.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--smoke", action="store_true", help="keep 96 pictures only")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    packages = fetch(args.work)
    pictures, entries = collect(packages, describe(packages))
    if args.smoke:
        keep = np.linspace(0, len(entries) - 1, 96).astype(int)
        pictures, entries = pictures[keep], [entries[i] for i in keep]
    np.save(args.work / "pictures.npy", pictures)
    (args.work / "entries.json").write_text(json.dumps(entries, indent=0))
    counts = {style: sum(e["style"] == style for e in entries) for style in STYLES}
    print(f"{len(entries)} pictures {counts}")


if __name__ == "__main__":
    main()
