"""How often a clip shows the motion and the thing that its prompt asks for.

    python measure.py --work work --bundle ../../sticker-motion --output table.json

The motion is told by the watcher, which was trained apart, from 12 of 24 frames. The thing is told by `models/judge`, the network that `kiln
compare` measures with: of 2,916 real stickers in the pose of rest, the first frame should lie nearest to one of that name (top 1), or
one of the five nearest names should be it (top 5).
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import neighbour
import data
import film
import motions
import still
import watcher
from captions import held_combination

SEED, FRAMES = 7000, 24


def questions(known: watcher.Stickers, each: int) -> list[tuple[str, int, int]]:
    """Prompts, the numbers of their motions and of the real stickers that they name: `each` for every motion and for none."""
    draw = random.Random(23)
    silent = {word for words in motions.SPELLINGS.values() for word in words.split()}
    fitting = [i for i, e in enumerate(known.entries)
               if not silent.intersection(e["name"].split()) and not held_combination(e["name"], e["style"])]
    asked = []
    for answer, name in enumerate(watcher.CLASSES):
        for index in draw.sample(fitting, each):
            entry = known.entries[index]
            words = ([entry["style"]] if entry["style"] != "glossy" else []) + ([motions.SAID[name]] if name != watcher.IDLE else [])
            asked.append((" ".join(["a", *words, entry["name"]]), answer, index))
    return asked


def small(frames: Tensor) -> Tensor:
    return F.avg_pool2d(frames, frames.shape[-1] // watcher.SIDE)


class Judge:
    """Nearest names among real stickers at rest."""

    def __init__(self, known: watcher.Stickers, pictures: Tensor):
        self.network = still.session(neighbour.RECIPES.parent / "judge" / "model.onnx")
        self.names = np.array([e["name"] for e in known.entries])
        # Phase 0 of `spin` is the pose of rest.
        rest = motions.gestures(F.one_hot(torch.tensor([1]), len(motions.MOTIONS)).float(), torch.zeros(1))
        self.gallery = self.features(torch.cat([motions.render(part, rest.expand(len(part), -1)) for part in motions.premultiplied(pictures).split(64)]))

    def features(self, frames: Tensor) -> np.ndarray:
        """Premultiplied frames (n, 4, 64, 64) on [0, 1], laid on white."""
        white = ((frames[:, :3] + 1 - frames[:, 3:]).clamp(0, 1) * 2 - 1).numpy()
        return np.concatenate([self.network.run(None, {"sample": part})[0] for part in np.array_split(white, -(-len(white) // 64))])

    def __call__(self, frames: Tensor, names: list[str]) -> dict[str, float]:
        order = np.argsort(-self.features(frames) @ self.gallery.T, axis=1)
        first = [list(dict.fromkeys(self.names[row[:20]]))[:5] for row in order]
        return {"top 1": float(np.mean([f[0] == n for f, n in zip(first, names, strict=True)])),
                "top 5": float(np.mean([n in f for f, n in zip(first, names, strict=True)]))}


def confusion(told: Tensor, answer: Tensor) -> dict[str, dict[str, float]]:
    """For every motion asked for, the share of clips taken for each."""
    return {name: {watcher.CLASSES[k]: round(float((told[answer == i] == k).float().mean()), 4) for k in told[answer == i].unique().tolist()}
            for i, name in enumerate(watcher.CLASSES)}


@torch.no_grad()
def table(work: Path, stickers: Path, folder: Path, each: int, steps: list[int]) -> dict:
    known, eye = watcher.Stickers(stickers), watcher.load(work)
    pictures = torch.from_numpy(data.load(stickers)[0])
    asked = questions(known, each)
    answer, which = torch.tensor([a for _, a, _ in asked]), torch.tensor([i for *_, i in asked])
    names = [known.entries[i]["name"] for i in which]
    rows: dict = {"prompts": len(asked)}

    apart = known.apart[torch.randint(len(known.apart), (8 * len(watcher.CLASSES),), generator=torch.Generator().manual_seed(1))]
    truth = torch.arange(len(apart)) % len(watcher.CLASSES)
    clips = [small(watcher.real(motions.premultiplied(pictures[[i]]), t[None], torch.zeros(1), motions.FINE)[0])
             for i, t in zip(apart.tolist(), truth, strict=True)]
    told = eye(torch.stack(clips)).argmax(1)
    rows["real, names kept apart"] = {"motion": round(float((told == truth).float().mean()), 4), "told": confusion(told, truth)}
    print(json.dumps(rows), flush=True)

    judge = Judge(known, pictures)
    poses = motions.gestures(F.one_hot(answer, len(watcher.CLASSES))[:, :-1].float(), torch.zeros(len(answer)))
    rows["real stickers"] = judge(motions.render(motions.premultiplied(pictures[which]), poses), names)
    print(json.dumps(rows["real stickers"]), flush=True)

    bundle = film.Bundle(folder)
    for count in steps:
        # What moves does not hang on the steps, so whole clips are decoded for the first count alone.
        whole = count == steps[0]
        drawn = [motions.premultiplied(torch.from_numpy(bundle.draw(prompt, SEED + n, count, FRAMES, FRAMES // watcher.FRAMES if whole else FRAMES)))
                 for n, (prompt, *_) in enumerate(asked)]
        row = judge(torch.stack([clip[0] for clip in drawn]), names)
        if whole:
            told = eye(torch.stack([small(clip) for clip in drawn])).argmax(1)
            row |= {"motion": round(float((told == answer).float().mean()), 4), "told": confusion(told, answer)}
        rows[f"{folder.name}, {count} steps"] = row
        print(count, json.dumps(row), flush=True)

    # The same things by the sticker model itself, put into the same poses.
    before, drawn = film.Bundle(neighbour.BUNDLE), []
    for n, (prompt, *_) in enumerate(asked):
        words = [w for w in prompt.split() if w not in motions.SAID.values()]
        latent = still_latents(before, " ".join(words), SEED + n, steps[0])
        drawn.append(torch.from_numpy(film.to_pictures(before.decoder.run(None, {"latent_sample": latent})[0])))
    rows[f"sticker, {steps[0]} steps"] = judge(motions.render(motions.premultiplied(torch.cat(drawn)), poses), names)
    print(json.dumps(rows[f"sticker, {steps[0]} steps"]), flush=True)
    return rows


def still_latents(bundle: film.Bundle, prompt: str, seed: int, steps: int) -> np.ndarray:
    text = bundle.text_encoder.run(None, {"input_ids": np.array([bundle.tokenizer.encode(prompt).ids], dtype=np.int64)})[0]
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(1, 16, 8, 8, generator=generator)
    bundle.scheduler.set_timesteps(steps)
    for time in bundle.scheduler.timesteps:
        inputs = {"sample": latent.numpy(), "timestep": np.array(time, dtype=np.float32), "encoder_hidden_states": text}
        latent = bundle.scheduler.step(torch.from_numpy(bundle.unet.run(None, inputs)[0]), time, latent, generator=generator).prev_sample
    return latent.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--stickers", type=Path, help="where the sticker recipe's data.py wrote [default: WORK/sticker]")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--each", type=int, default=24, help="prompts for every motion and for none")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 2, 1], help="the first count is looked at in motion as well")
    parser.add_argument("--output", type=Path, help="write the table here as JSON too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = table(args.work, args.stickers or args.work / "sticker", args.bundle, args.each, args.steps)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
