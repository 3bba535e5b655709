"""The judge: a small network, trained apart from the generator, that tells a sticker's name, colour, count and style.

    python judge.py --work work --minutes 12

writes `judge.pt`. It learns from the same pictures, shifted, turned, blurred and on light backgrounds, and never sees the held-out
combinations, so its own share of right answers on those is a fair ceiling. It is used by `measure.py` and not shipped.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import data
import run
from captions import COLOURS, held_combination
from compose import variants

# Cosine similarities are multiplied by this before the softmax.
SHARPNESS = 20.0


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Judge(nn.Module):
    """(b, 3, 64, 64) RGB on [-1, 1] to scores for every name, colour (the last is its own), count (1 to 4) and style."""

    def __init__(self, names: int, styles: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, 64, 3, padding=1), Block(64),
            nn.Conv2d(64, 128, 3, stride=2, padding=1), Block(128),
            nn.Conv2d(128, 224, 3, stride=2, padding=1), Block(224), nn.GroupNorm(8, 224), nn.SiLU(),
        )
        self.feature = nn.Linear(224 * 4, 192)
        self.names = nn.Parameter(torch.randn(names, 192) * 0.1)
        self.colours, self.counts, self.styles = nn.Linear(448, len(COLOURS) + 1), nn.Linear(448, 4), nn.Linear(448, styles)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.body(picture)
        feature = F.normalize(self.feature(F.adaptive_avg_pool2d(x, 2).flatten(1)), dim=1)
        whole = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return feature @ F.normalize(self.names, dim=1).t() * SHARPNESS, self.colours(whole), self.counts(whole), self.styles(whole)


def on_light(pictures: Tensor, augmented: bool) -> Tensor:
    """(b, 64, 64, 4) uint8 to (b, 3, 64, 64) on [-1, 1]: on white, or moved, turned, blurred, noisy and on a random light colour."""
    x = pictures.float().permute(0, 3, 1, 2) / 255
    colour, alpha = x[:, :3] * x[:, 3:], x[:, 3:]
    if not augmented:
        return (colour + 1 - alpha) * 2 - 1
    count = len(x)
    angle, size = (torch.rand(count) - 0.5) * 0.3, 0.9 + torch.rand(count) * 0.3
    turned = torch.stack([size * angle.cos(), -size * angle.sin(), (torch.rand(count) - 0.5) * 0.2,
                          size * angle.sin(), size * angle.cos(), (torch.rand(count) - 0.5) * 0.2], dim=1).view(-1, 2, 3)
    both = F.grid_sample(torch.cat([colour, alpha], dim=1), F.affine_grid(turned, [count, 4, 64, 64], align_corners=False), align_corners=False)
    soft = F.avg_pool2d(F.pad(both, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    both = torch.lerp(both, soft, torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.6))
    background = torch.where(torch.rand(count, 1, 1, 1) < 0.5, torch.ones(count, 3, 1, 1), 0.8 + 0.2 * torch.rand(count, 3, 1, 1))
    flat = both[:, :3] + background * (1 - both[:, 3:])
    flat = flat + torch.randn_like(flat) * 0.04 * torch.rand(count, 1, 1, 1)
    return flat.clamp(0, 1) * 2 - 1


class Pictures:
    """All that the judge learns from: pictures and the right answers."""

    def __init__(self, work: Path, each: int, held: bool, seed: int):
        pictures, entries = data.load(work)
        self.names = sorted({e["name"] for e in entries})
        self.style_names = sorted({e["style"] for e in entries})
        number = {n: i for i, n in enumerate(self.names)}
        plain = [i for i, e in enumerate(entries) if held_combination(e["name"], e["style"]) == held]
        more = list(variants(pictures, entries, each, seed, held))
        self.pictures = torch.from_numpy(np.stack([pictures[i] for i in plain] + [p for *_, p in more]))
        rows = [(i, None, 1) for i in plain] + [(i, c, n) for i, c, n, _ in more]
        self.answers = torch.tensor([(number[entries[i]["name"]], COLOURS.index(c) if c else len(COLOURS), n - 1,
                                      self.style_names.index(entries[i]["style"])) for i, c, n in rows])
        self.plain = len(plain)


def train(work: Path, minutes: float, each: int) -> None:
    torch.manual_seed(5)
    run.device()
    lessons = Pictures(work, each, held=False, seed=51)
    network = Judge(len(lessons.names), len(lessons.style_names)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02, betas=(0.9, 0.98))
    average, clock, path = run.Average(network, 0.998), run.Clock(minutes), work / "judge.pt"
    step = run.resume(path, network=network, optimizers=[optimizer], average=average, clock=clock)
    weights = torch.ones(len(lessons.pictures))
    weights[: lessons.plain] *= 1.5 * (len(weights) - lessons.plain) / lessons.plain
    print(f"{len(lessons.names)} names, {lessons.plain} stickers, {len(weights) - lessons.plain} composed, from step {step}", flush=True)
    facts = {"names": lessons.names, "styles": lessons.style_names}
    saved = clock.spent()
    while clock.share() < 1:
        chosen = torch.multinomial(weights, 128, replacement=True)
        answers = lessons.answers[chosen]
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * run.rate_at(clock.share(), step, 50)
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(on_light(lessons.pictures[chosen], augmented=True).contiguous(memory_format=torch.channels_last))
        losses = [F.cross_entropy(s.float(), a, label_smoothing=0.05) for s, a in zip(scores, answers.t(), strict=True)]
        loss = losses[0] + 0.25 * sum(losses[1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        step += 1
        if step % 50 == 0:
            right = [f"{(s.argmax(1) == a).float().mean():.0%}" for s, a in zip(scores, answers.t(), strict=True)]
            print(f"step {step}  {clock.spent():.1f} min  loss {loss.item():.3f}  name colour count style {' '.join(right)}", flush=True)
        if clock.spent() - saved > 3:
            saved = clock.spent()
            run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)
    run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)


def load(work: Path) -> tuple[Judge, dict]:
    weights, facts = run.averaged(work / "judge.pt")
    network = Judge(len(facts["names"]), len(facts["styles"])).eval()
    network.load_state_dict(weights)
    return network, facts


@torch.no_grad()
def judged(network: Judge, pictures: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of (n, 64, 64, 4) uint8 pictures laid on white."""
    parts = [network(on_light(part, augmented=False)) for part in torch.from_numpy(pictures).split(256)]
    return tuple(torch.cat(several) for several in zip(*parts, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--each", type=int, default=6, help="how many recoloured or counted variants are tried for each picture")
    args = parser.parse_args()
    train(args.work, args.minutes, args.each)


if __name__ == "__main__":
    main()
