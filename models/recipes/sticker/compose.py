"""Stickers in other colours and several on one picture, encoded once for the denoiser's training.

    python compose.py --work work --variants 8

writes `composed.pt`: latents (n, 16, 8, 8) fp16, and for each the entry it was made of, its colour and its count.
"""

import argparse
import random
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import data
import run
from autoencoder import Autoencoder
from captions import COLOURS, held_combination
from train_autoencoder import to_network

# What may come in another colour or in several copies. People and signs stay as they are.
GROUPS = {"smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects"}
SEVERAL = {"two", "three", "pair", "men", "women", "people", "twins", "couple", "footprints", "fireworks"}

# Hue in degrees, saturation and value that the coloured part of a picture should have on average.
TARGETS = {
    "red": (2, 0.82, 0.86), "orange": (28, 0.88, 0.95), "yellow": (50, 0.80, 0.98), "green": (122, 0.68, 0.72),
    "blue": (213, 0.78, 0.90), "purple": (276, 0.60, 0.78), "pink": (336, 0.45, 0.98), "brown": (24, 0.62, 0.52),
    "black": (0, 0.05, 0.20), "white": (0, 0.02, 0.95), "grey": (0, 0.03, 0.60),
}
# Between neighbours in this list the colour's name changes (degrees of hue).
HUES = [(14, "red"), (40, "orange"), (66, "yellow"), (165, "green"), (250, "blue"), (300, "purple"), (344, "pink"), (360, "red")]


def to_hsv(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(h, w, 4) uint8 to hue in degrees and saturation, value, alpha on [0, 1]."""
    x = picture.astype(np.float32) / 255
    red, green, blue, alpha = np.moveaxis(x, -1, 0)
    value, low = x[..., :3].max(-1), x[..., :3].min(-1)
    spread = np.maximum(value - low, 1e-6)
    hue = np.where(value == red, (green - blue) / spread % 6, np.where(value == green, (blue - red) / spread + 2, (red - green) / spread + 4))
    return hue * 60 % 360, (value - low) / np.maximum(value, 1e-6), value, alpha


def from_hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    def channel(n: int) -> np.ndarray:
        k = (n + hue / 60) % 6
        return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)

    return (np.stack([channel(5), channel(3), channel(1), alpha], -1) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def distance(hue: np.ndarray, middle: float) -> np.ndarray:
    return np.abs((hue - middle + 180) % 360 - 180)


def dominant(picture: np.ndarray) -> tuple[float, float, float]:
    """The commonest hue, its share of all colour, and how much of the picture's area is coloured at all."""
    hue, saturation, value, alpha = to_hsv(picture)
    weight = saturation * value * alpha
    histogram = np.bincount((hue.ravel() // 10).astype(int) % 36, weight.ravel(), 36)
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    middle = int(smooth.argmax()) * 10 + 5
    share = float((weight * (distance(hue, middle) < 35)).sum() / max(weight.sum(), 1e-6))
    return middle, share, float(((saturation > 0.25) * alpha).sum() / max(alpha.sum(), 1e-6))


def natural_colour(picture: np.ndarray) -> str | None:
    """The name of the colour that a picture has by itself, if it has one."""
    hue, saturation, value, alpha = to_hsv(picture)
    middle, share, coloured = dominant(picture)
    if coloured < 0.15:
        bright = float((value * alpha).sum() / max(alpha.sum(), 1e-6))
        return "white" if bright > 0.85 else "black" if bright < 0.3 else "grey"
    if coloured < 0.6 or share < 0.8:
        return None
    part = (distance(hue, middle) < 35) * alpha * (saturation > 0.25)
    bright, deep = (float((x * part).sum() / max(part.sum(), 1e-6)) for x in (value, saturation))
    if (middle < 40 or middle > 340) and bright < 0.65:
        return "brown"
    if (middle < 14 or middle > 300) and deep < 0.5:
        return "pink"
    return next(name for limit, name in HUES if middle <= limit)


def recoloured(picture: np.ndarray, colour: str) -> np.ndarray | None:
    """The picture with its main colour changed, or None where that would not be a picture in that colour."""
    hue, saturation, value, alpha = to_hsv(picture)
    middle, share, coloured = dominant(picture)
    target, deep, bright = TARGETS[colour]
    if coloured < 0.2:
        # A grey or white picture: everything that is not nearly black takes the colour.
        part = np.clip((value - 0.12) / 0.3, 0, 1) * (saturation < 0.3)
        before_deep, mean = 0.0, float((value * alpha * part).sum() / max((alpha * part).sum(), 1e-6))
    elif share >= 0.5:
        part = np.clip((60 - distance(hue, middle)) / 20, 0, 1) * np.clip((saturation - 0.08) / 0.15, 0, 1)
        weight = part * alpha
        before_deep, mean = (float((x * weight).sum() / max(weight.sum(), 1e-6)) for x in (saturation, value))
    else:
        return None
    if float((part * alpha).sum()) < 0.3 * float(alpha.sum()):
        return None
    new_deep = np.clip(saturation * deep / before_deep, 0, 1) if before_deep > 0.05 else np.full_like(saturation, deep)
    new_value = np.clip(value * np.clip(bright / max(mean, 0.05), 0.25, 1.9), 0, 1)
    made = from_hsv(np.full_like(hue, target), np.clip(new_deep, 0, 1), new_value, alpha).astype(np.float32)
    mixed = picture * (1 - part[..., None]) + made * part[..., None]
    mixed[..., 3] = picture[..., 3]
    return mixed.round().astype(np.uint8)


def several(picture: np.ndarray, count: int, draw: random.Random) -> np.ndarray:
    """`count` smaller copies of a sticker on one picture, never laid out quite the same way."""
    image = Image.fromarray(picture, "RGBA").convert("RGBa")
    box = image.getbbox() or (0, 0, 64, 64)
    image = image.crop(box)
    if count == 2:
        slant = draw.choice([0, 0, 10, -10])
        places, side = [(16, 32 - slant), (48, 32 + slant)], 31 if slant == 0 else 34
    elif count == 3:
        places, side = draw.choice([[(32, 16), (16, 48), (48, 48)], [(16, 16), (48, 16), (32, 48)]]), 30
    else:
        places, side = [(16, 16), (48, 16), (16, 48), (48, 48)], 30
    page = Image.new("RGBa", (64, 64))
    for x, y in places:
        factor = side * draw.uniform(0.92, 1.0) / max(image.size)
        small = image.resize([max(1, round(s * factor)) for s in image.size], Image.Resampling.LANCZOS)
        left = min(max(round(x - small.width / 2 + draw.uniform(-2, 2)), 0), 64 - small.width)
        top = min(max(round(y - small.height / 2 + draw.uniform(-2, 2)), 0), 64 - small.height)
        over = Image.new("RGBa", (64, 64))
        over.paste(small, (left, top))
        front, back = np.asarray(over, np.float32), np.asarray(page, np.float32)
        page = Image.fromarray((front + back * (1 - front[..., 3:] / 255)).clip(0, 255).astype(np.uint8), "RGBa")
    return np.asarray(page.convert("RGBA"))


def variants(pictures: np.ndarray, entries: list[dict], each: int, seed: int, held: bool = False):
    """Yields (entry, colour or None, count, picture), `each` times for what is common and less often for the rest.

    `held` gives the combinations kept out of the training instead of the ones in it.
    """
    draw = random.Random(seed)
    for index, entry in enumerate(entries):
        name = entry["name"].split()
        if entry["group"] not in GROUPS or (not held and held_combination(entry["name"], entry["style"])):
            continue
        colours = [] if set(name) & set(COLOURS) else [c for c in COLOURS if held_combination(entry["name"], c) == held]
        counts = [] if set(name) & SEVERAL else [n for n in (2, 3, 4) if held_combination(entry["name"], str(n)) == held]
        own = natural_colour(pictures[index])
        for number in range(each):
            colour = draw.choice(colours) if colours and number % 8 in (0, 2, 4, 5, 7) else None
            count = draw.choice(counts) if counts and number % 8 in (1, 3, 5, 6, 7) else 1
            picture = pictures[index]
            if colour == own:
                colour = None
            if colour:
                picture = recoloured(picture, colour)
                if picture is None:
                    picture, colour = pictures[index], None
            if count > 1:
                picture = several(picture, count, draw)
            if colour or count > 1:
                yield index, colour, count, picture


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--variants", type=int, default=8, help="how many are tried for each picture")
    args = parser.parse_args()
    pictures, entries = data.load(args.work)
    weights, facts = run.averaged(args.work / "autoencoder.pt")
    network = Autoencoder(facts["widths"]).eval()
    network.load_state_dict(weights)
    where = run.device()
    network.to(where)
    kept = torch.load(args.work / "latents.pt", weights_only=True)
    mean, deviation = kept["mean"].view(1, -1, 1, 1), kept["deviation"].view(1, -1, 1, 1)
    rows, latents, batch = [], [], []

    def encode() -> None:
        with torch.autocast(where.type, torch.bfloat16):
            made = network.encoder(to_network(torch.from_numpy(np.stack(batch))).to(where)).chunk(2, dim=1)[0].float().cpu()
        latents.append(((made - mean) / deviation).half())
        batch.clear()

    for index, colour, count, picture in variants(pictures, entries, args.variants, zlib.crc32(b"compose")):
        rows.append((index, COLOURS.index(colour) if colour else -1, count))
        batch.append(picture)
        if len(batch) == 128:
            encode()
            if len(latents) % 20 == 0:
                print(f"{len(rows)} pictures", flush=True)
    if batch:
        encode()
    natural = [natural_colour(p) for p in pictures]
    torch.save({"latents": torch.cat(latents), "rows": torch.tensor(rows),
                "natural": torch.tensor([COLOURS.index(n) if n else -1 for n in natural])}, args.work / "composed.pt")
    coloured, counted = sum(r[1] >= 0 for r in rows), sum(r[2] > 1 for r in rows)
    print(f"{len(rows)} pictures: {coloured} in another colour, {counted} with several; {sum(n is not None for n in natural)} have a colour of their own")


if __name__ == "__main__":
    main()
