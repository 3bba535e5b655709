"""How often the teacher and exported bundles draw what they are asked for, as the judge sees it.

    python measure.py --work work --bundle ../../sticker --teacher --output table.json

For every kind of prompt the share of pictures whose name the judge puts first (top 1) or among the first five (top 5), of all names
in the data; for colours and counts also the share whose colour and count it tells rightly. `real` is the ceiling: real stickers,
or stickers recoloured and laid out as a person would want them, in combinations that neither the judge nor the generator was trained on.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import data
import judge
from captions import COLOURS, COMMON, COUNTS, HELD_WORDS, held_combination, plural, spoken
from compose import variants
from drawing import Bundle, Teacher

SEED = 5000


@dataclass
class Question:
    """A prompt, the names that are right for it, the colour and count asked for, and the real sticker it should look like."""

    prompt: str
    names: set[str]
    colour: int
    count: int
    real: np.ndarray | None


def in_words(entry: dict, colour: str | None, count: int) -> str:
    name = entry["name"].split()
    if count > 1:
        name = [*name[:-1], plural(name[-1])]
    parts = ([COUNTS[count][0]] if count > 1 else []) + ([entry["style"]] if entry["style"] != "glossy" else [])
    return " ".join(parts + ([colour] if colour else []) + name)


def questions(work: Path, each: int) -> dict[str, list[Question]]:
    """`each` questions of every kind, the same in every run."""
    pictures, entries = data.load(work)
    draw, own = random.Random(17), len(COLOURS)
    glossy = [i for i, e in enumerate(entries) if e["style"] == "glossy"]
    flat = [i for i, e in enumerate(entries) if e["style"] == "flat"]
    kinds: dict[str, list[Question]] = {}

    def plain(chosen: list[int]) -> list[Question]:
        return [Question(in_words(entries[i], None, 1), {entries[i]["name"]}, own, 0, pictures[i])
                for i in draw.sample(chosen, min(each, len(chosen)))]

    kinds["names"] = plain([i for i in glossy if not held_combination(entries[i]["name"], "glossy")])
    kinds["flat names"] = plain([i for i in flat if not held_combination(entries[i]["name"], "flat")])
    kinds["flat, held out"] = plain([i for i in flat if held_combination(entries[i]["name"], "flat")])
    kinds["unheard words"] = []
    for word in sorted(HELD_WORDS):
        names = {e["name"] for e in entries for text in [*e["tags"], *e["short"], *COMMON.get(e["name"], [])] if word in spoken(text)}
        names |= {e["name"] for e in entries if word in spoken(e["name"])}
        first = [i for i in glossy if entries[i]["name"] in names]
        if first:
            kinds["unheard words"].append(Question(word, names, own, 0, pictures[first[0]]))
    held = list(variants(pictures, entries, 8, 99, held=True))
    draw.shuffle(held)
    for kind, fits in (("colours, held out", lambda c, n: c and n == 1), ("counts, held out", lambda c, n: not c and n > 1),
                       ("colour and count, held out", lambda c, n: c and n > 1)):
        kinds[kind] = [Question(in_words(entries[i], c, n), {entries[i]["name"]}, COLOURS.index(c) if c else own, n - 1, picture)
                       for i, c, n, picture in held if fits(c, n)][:each]
    return {kind: asked for kind, asked in kinds.items() if asked}


class Scores:
    """The judge's verdicts on pictures that answer questions."""

    def __init__(self, work: Path):
        self.network, facts = judge.load(work)
        self.names = np.array(facts["names"])

    def __call__(self, pictures: np.ndarray, asked: list[Question]) -> dict[str, float]:
        names, colours, counts, _ = judge.judged(self.network, pictures)
        best = self.names[names.topk(5, dim=1).indices.numpy()]
        found = {
            "top 1": np.mean([b[0] in q.names for b, q in zip(best, asked, strict=True)]),
            "top 5": np.mean([bool(q.names & set(b)) for b, q in zip(best, asked, strict=True)]),
        }
        if any(q.colour < len(COLOURS) for q in asked):
            found["colour"] = np.mean([int(c) == q.colour for c, q in zip(colours[:, :-1].argmax(1), asked, strict=True)])
        if any(q.count for q in asked):
            found["count"] = np.mean([int(c) == q.count for c, q in zip(counts.argmax(1), asked, strict=True)])
        return {name: round(float(share), 4) for name, share in found.items()}


def table(work: Path, kinds: dict[str, list[Question]], drawers: dict, seeds: int) -> dict[str, dict]:
    """Row name to kind of prompt to shares. `drawers` turn prompts and seeds into pictures."""
    score, rows = Scores(work), {}
    for row, drawer in drawers.items():
        rows[row] = {}
        for number, (kind, asked) in enumerate(kinds.items()):
            several = asked if drawer is None else asked * seeds
            if drawer is None:
                pictures = np.stack([q.real for q in asked])
            else:
                pictures = drawer([q.prompt for q in several], [SEED + 1000 * number + i for i in range(len(several))])
            rows[row][kind] = score(pictures, several)
        every = list(rows[row].values())
        rows[row]["all"] = {n: round(float(np.mean([shares[n] for shares in every])), 4) for n in ("top 1", "top 5")}
        print(row, json.dumps(rows[row]), flush=True)
    return rows


def difference(work: Path, kinds: dict[str, list[Question]], first: Bundle, second: Bundle, steps: int) -> float:
    """Mean difference of premultiplied colour and alpha between two bundles' pictures, of 255."""
    prompts = [q.prompt for asked in kinds.values() for q in asked]
    seeds = [SEED + i for i in range(len(prompts))]
    one, other = (premultiplied(b.draw(prompts, seeds, steps)) for b in (first, second))
    return float(np.abs(one - other).mean())


def premultiplied(pictures: np.ndarray) -> np.ndarray:
    """(n, 64, 64, 4) uint8 to f32 in which a transparent pixel's colour says nothing."""
    pictures = pictures.astype(np.float32)
    pictures[..., :3] *= pictures[..., 3:] / 255
    return pictures


def variety(asked: list[Question], drawer, seeds: int = 4) -> dict[str, float]:
    """Mean difference, of 255, between the pictures of one prompt's seeds, and between those of two prompts."""
    prompts = [q.prompt for q in asked]
    drawn = np.stack([premultiplied(drawer(prompts, [SEED + 100_000 * (i + 1) + n for n in range(len(prompts))])) for i in range(seeds)])
    own = [np.abs(drawn[i] - drawn[k]).mean() for i in range(seeds) for k in range(i)]
    other = [np.abs(drawn[i] - np.roll(drawn[i], 1, axis=0)).mean() for i in range(seeds)]
    return {"of one prompt": round(float(np.mean(own)), 2), "of two prompts": round(float(np.mean(other)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="may be given several times; the first is the yardstick")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 2, 1])
    parser.add_argument("--teacher", action="store_true", help="measure the teacher too")
    parser.add_argument("--teacher-steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=3.0, help="of the teacher")
    parser.add_argument("--each", type=int, default=48, help="prompts of each kind")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each prompt")
    parser.add_argument("--variety", action="store_true", help="measure how far the pictures of several seeds differ")
    parser.add_argument("--output", type=Path, help="write the table here as JSON too")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    kinds = questions(args.work, args.each)
    print({kind: len(asked) for kind, asked in kinds.items()}, flush=True)
    drawers: dict = {"real": None}
    bundles = {folder: Bundle(folder) for folder in args.bundle}
    for folder, bundle in bundles.items():
        for steps in args.steps:
            drawers[f"{folder.name}, {steps} steps"] = lambda p, s, b=bundle, n=steps: b.draw(p, s, n)
    if args.teacher:
        teacher = Teacher(args.work, args.guidance)
        drawers[f"teacher, {args.teacher_steps} steps"] = lambda p, s: teacher.draw(p, s, args.teacher_steps)
    rows = table(args.work, kinds, drawers, args.seeds)
    if args.variety:
        for row, drawer in drawers.items():
            if drawer is not None:
                rows[row]["variety"] = {kind: variety(kinds[kind], drawer) for kind in ("names", "counts, held out") if kind in kinds}
                print(row, "seeds differ", json.dumps(rows[row]["variety"]), flush=True)
    for folder in args.bundle[1:]:
        rows[f"{folder.name} from {args.bundle[0].name}"] = difference(args.work, kinds, bundles[args.bundle[0]], bundles[folder], args.steps[0])
        print(f"{folder.name}: {rows[f'{folder.name} from {args.bundle[0].name}']:.3f} of 255 from {args.bundle[0].name}", flush=True)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
