"""Draws prompts with an exported bundle through ONNX Runtime, in 1, 2 and 4 steps, and lays the pictures out on one sheet.

    python sheet.py --bundle ../../sticker --output ../../sticker/sheet.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from drawing import Bundle

# Names; words that no caption held; colours; counts; styles. Every line is drawn once for each number of steps.
PROMPTS = """a smiling sun|cat|dog|rocket|fish|pizza|unicorn|robot|ghost|birthday cake
a kitten|a joyful face|a crimson heart|a serpent|a donut|a rhino|an azure car|a yacht|dracula|a motorbike
a blue cat|a purple elephant|a green dog|a pink house|a yellow fish|a red owl|a black rabbit|an orange ghost|a white rose|a blue robot
two cats|three red hearts|four green apples|two dogs|three fish|four stars|two pizzas|three yellow balloons|two snowmen|four mushrooms
flat cat|glossy cat|flat rocket|a flat blue cat|flat heart|two flat dogs|flat robot|flat owl|a flat green car|three flat red fish"""
CELL, LABEL = 76, 11


def sheet(pictures: np.ndarray, labels: list[str], columns: int) -> Image.Image:
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * CELL, rows * (CELL + LABEL)), "white")
    draw = ImageDraw.Draw(page)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = (i % columns) * CELL, (i // columns) * (CELL + LABEL)
        sticker = Image.fromarray(picture, "RGBA").resize((CELL - 6, CELL - 6), Image.Resampling.BICUBIC)
        page.paste(sticker, (x + 3, y + 2), sticker)
        draw.text((x + 3, y + CELL - 4), label[:20], fill="black", font_size=8)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--prompts", help="prompts between bars and lines, instead of the usual ones")
    parser.add_argument("--seed", type=int, default=0, help="of the first prompt; the next ones count on")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    lines = [line.split("|") for line in (args.prompts or PROMPTS).splitlines()]
    prompts = [p for line in lines for p in line]
    bundle = Bundle(args.bundle)
    drawn = {steps: bundle.draw(prompts, [args.seed + i for i in range(len(prompts))], steps) for steps in args.steps}
    pictures, labels, start = [], [], 0
    for line in lines:
        for steps in args.steps:
            pictures += list(drawn[steps][start : start + len(line)])
            labels += [f"{steps}: {p}" for p in line]
        start += len(line)
    page = sheet(np.stack(pictures), labels, len(lines[0])).quantize(160)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    page.save(args.output, optimize=True)
    print(f"{args.output}: {len(pictures)} pictures, {args.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
