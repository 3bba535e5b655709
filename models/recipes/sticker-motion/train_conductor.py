"""Trains the conductor: which motions a caption asks for and a frame's phase to that frame's gesture.

    python train_conductor.py --work work --stickers work/sticker --configuration cpu

writes `conductor.pt`; run again to resume. At first it learns gestures as numbers; then, beside that, on frames of moving stickers, where an
error counts as much as it is seen.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

import neighbour
import data
import motions
import run
from configurations import CONFIGURATIONS
from clip import Conductor

BATCH, RATE = 512, 3e-3
# Share of the time after which frames are rendered, how many of a batch, and at which side.
FRAMES_FROM, FRAMES, SIDE = 0.6, 24, 32
# Of the frames' mean absolute difference beside the gestures' squared one.
FRAMES_WEIGHT = 0.01


def train(work: Path, stickers: Path, settings: dict, minutes: float) -> None:
    torch.manual_seed(3)
    pictures = torch.from_numpy(data.load(stickers)[0])
    network = Conductor(settings["width"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4, betas=(0.9, 0.99))
    average, clock, path = run.Average(network, 0.998), run.Clock(minutes), work / "conductor.pt"
    step = run.resume(path, network=network, optimizers=[optimizer], average=average, clock=clock)
    generator = torch.Generator().manual_seed(3 + step)
    saved = clock.spent()

    def checkpoint() -> None:
        run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=settings)

    while clock.share() < 1:
        asked = motions.drawn(BATCH, generator)
        phase = torch.rand(BATCH, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = RATE * run.rate_at(clock.share(), step, 50)
        made, wanted = network(asked, phase), motions.gestures(asked, phase)
        loss = F.mse_loss(made, wanted)
        report = f"off by {loss.item() ** 0.5:.5f}"
        if clock.share() > FRAMES_FROM:
            chosen = torch.randint(len(pictures), (FRAMES,), generator=generator)
            still = F.avg_pool2d(motions.premultiplied(pictures[chosen]), pictures.shape[1] // SIDE)
            seen = F.l1_loss(motions.render(still, made[:FRAMES]), motions.render(still, wanted[:FRAMES]))
            loss = loss + FRAMES_WEIGHT * seen
            report += f", frames by {seen.item():.5f}"
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update(network)
        step += 1
        if step % 200 == 0:
            print(f"step {step}  {clock.spent():.2f} min  {report}", flush=True)
        if clock.spent() - saved > 3:
            saved = clock.spent()
            checkpoint()
    checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--stickers", type=Path, help="where the sticker recipe's data.py wrote [default: WORK/sticker]")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = CONFIGURATIONS[args.configuration]["conductor"]
    train(args.work, args.stickers or args.work / "sticker", settings, settings["minutes"] if args.minutes is None else args.minutes)


if __name__ == "__main__":
    main()
