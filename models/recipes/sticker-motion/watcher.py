"""The watcher: a small network, trained apart from the model, that tells which motion a clip shows.

    python watcher.py --work work --configuration cpu

writes `watcher.pt`. It learns from stickers moved by the gestures themselves, never from the conductor's, beginning anywhere in the loop, shifted and
noisy; a tenth of the names is kept apart, and its own share of right answers on those is the ceiling. `measure.py` uses it; it is not shipped.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import neighbour
import data
import motions
import run
from configurations import CONFIGURATIONS

# Frames that it looks at, spread over the loop, and their side.
FRAMES, SIDE = 12, 32
IDLE = "idle"
CLASSES = [*motions.MOTIONS, IDLE]
BATCH, RATE = 32, 2e-3


class Watcher(nn.Module):
    """Clips (b, FRAMES, 4, SIDE, SIDE), premultiplied on [0, 1], to scores for every motion and for none."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * FRAMES, 2 * width, 3, stride=2, padding=1), nn.GroupNorm(8, 2 * width), nn.SiLU(),
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1), nn.GroupNorm(8, 3 * width), nn.SiLU(),
            nn.Conv2d(3 * width, 4 * width, 3, stride=2, padding=1), nn.GroupNorm(8, 4 * width), nn.SiLU(),
        )
        self.leave = nn.Linear(8 * width, len(CLASSES))

    def forward(self, clip: Tensor) -> Tensor:
        light = clip[:, :, :3].mean(2)
        x = self.body(torch.cat([light, clip[:, :, 3]], dim=1))
        return self.leave(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


class Stickers:
    """Stickers at the watcher's side, of the names that it learns from or of those kept apart."""

    def __init__(self, stickers: Path):
        pictures, entries = data.load(stickers)
        self.entries = entries
        self.small = F.avg_pool2d(motions.premultiplied(torch.from_numpy(pictures)), pictures.shape[1] // SIDE)
        apart = {name for number, name in enumerate(sorted({e["name"] for e in entries})) if number % 10 == 7}
        self.learned = torch.tensor([i for i, e in enumerate(entries) if e["name"] not in apart])
        self.apart = torch.tensor([i for i, e in enumerate(entries) if e["name"] in apart])


def real(still: Tensor, answer: Tensor, start: Tensor, fine: tuple[int, int] = (2, 1)) -> Tensor:
    """Stills (b, 4, side, side) and motions' numbers to clips that begin at `start` of the loop."""
    asked = F.one_hot(answer, len(CLASSES))[:, :-1].float()
    phase = (start[:, None] + torch.arange(FRAMES) / FRAMES) % 1
    gesture = motions.gestures(asked.repeat_interleave(FRAMES, 0), phase.flatten())
    frames = motions.render(still.repeat_interleave(FRAMES, 0), gesture, fine)
    return frames.view(len(still), FRAMES, *still.shape[1:])


def shaken(clip: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted as a whole by up to two pixels, brighter or darker, noisy."""
    across, down = torch.randint(-2, 3, (2,), generator=generator).tolist()
    clip = torch.roll(clip, (down, across), dims=(-2, -1))
    bright = 1 + 0.3 * (torch.rand(len(clip), 1, 1, 1, 1, generator=generator) - 0.5)
    return clip * bright + torch.randn(clip.shape, generator=generator) * 0.03


def train(work: Path, stickers: Path, settings: dict, minutes: float) -> None:
    torch.manual_seed(6)
    known = Stickers(stickers)
    network = Watcher(settings["width"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    average, clock, path = run.Average(network, 0.99), run.Clock(minutes), work / "watcher.pt"
    step = run.resume(path, network=network, optimizers=[optimizer], average=average, clock=clock)
    generator = torch.Generator().manual_seed(6 + step)
    saved = clock.spent()

    def checkpoint() -> None:
        run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=settings)

    while clock.share() < 1:
        chosen = known.learned[torch.randint(len(known.learned), (BATCH,), generator=generator)]
        answer = torch.randint(len(CLASSES), (BATCH,), generator=generator)
        clip = shaken(real(known.small[chosen], answer, torch.rand(BATCH, generator=generator)), generator)
        for group in optimizer.param_groups:
            group["lr"] = RATE * run.rate_at(clock.share(), step, 20)
        scores = network(clip)
        loss = F.cross_entropy(scores, answer)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update(network)
        step += 1
        if step % 20 == 0:
            right = (scores.argmax(1) == answer).float().mean()
            print(f"step {step}  {clock.spent():.1f} min  loss {loss.item():.3f}  right {right:.0%}", flush=True)
        if clock.spent() - saved > 3:
            saved = clock.spent()
            checkpoint()
    checkpoint()


def load(work: Path) -> Watcher:
    weights, facts = run.averaged(work / "watcher.pt")
    network = Watcher(facts["width"]).eval()
    network.load_state_dict(weights)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--stickers", type=Path, help="where the sticker recipe's data.py wrote [default: WORK/sticker]")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = CONFIGURATIONS[args.configuration]["watcher"]
    train(args.work, args.stickers or args.work / "sticker", settings, settings["minutes"] if args.minutes is None else args.minutes)


if __name__ == "__main__":
    main()
