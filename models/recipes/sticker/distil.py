"""Distils the teacher into a student that draws in 1, 2 or 4 steps, with the guidance scale folded in.

    python distil.py --work work --method consistency --minutes 15
    python distil.py --work work --method reflow --minutes 15

writes `student-METHOD.pt`; run again to resume.

`consistency`: from a noised sticker one large guided step of the teacher; the student must say at its start what its own average says
at its end (Song, Dhariwal, Chen and Sutskever, "Consistency Models", 2023, arXiv:2303.01469, equation 8; guidance folded in as in Luo
et al., "Latent Consistency Models", 2023, arXiv:2310.04378, equation 14, on straight paths).
`reflow`: noise and what the guided teacher makes of it, drawn beforehand, joined by straight lines (Liu, Gong and Liu, "Flow
Straight and Fast", 2022, arXiv:2209.03003, algorithm 1).
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import prune
import run
from captions import LENGTH, PAD
from denoiser import Denoiser, Model
from train_denoiser import BLUR, Lessons, optimizers

BATCH, RATE = 128, 5e-4
# The guided step of the teacher under `consistency`, as a share of the way from noise to picture; how many lessons it
# serves for, and how many batches of them lie ready.
STRIDE, REPEATS, SHELF = 0.25, 2, 6
# The times at which the student will be asked, as the scheduler gives them for 1, 2 and 4 steps.
ASKED = (1.0, 1.0, 0.75, 0.5, 0.25)


class Guided:
    """The teacher's velocity with guidance: without the caption, and away from that by `scale`."""

    def __init__(self, network: Model, scale: float):
        self.network, self.scale = network, scale
        with torch.no_grad():
            self.nothing = network.text_encoder(torch.full((1, LENGTH), PAD, device=run.device()))

    @torch.no_grad()
    def __call__(self, sample: Tensor, share: Tensor, text: Tensor) -> Tensor:
        """`share` (b,) is the share of noise, 1 at the start."""
        both = torch.cat([self.nothing.expand(len(text), -1, -1), text])
        with torch.autocast(sample.device.type, torch.bfloat16):
            made = self.network.denoiser(sample.repeat(2, 1, 1, 1), share.repeat(2) * 1000, both).float()
        without, wanted = made.chunk(2)
        return without + self.scale * (wanted - without)

    def draw(self, noise: Tensor, text: Tensor, steps: int) -> Tensor:
        """Clean latents by Adams and Bashforth's second-order steps along the path."""
        sample, before = noise, None
        for step in range(steps):
            now = self(sample, torch.full((len(noise),), 1 - step / steps, device=noise.device), text)
            sample = sample - (now if before is None else 1.5 * now - 0.5 * before) / steps
            before = now
        return sample


def wide(share: Tensor) -> Tensor:
    return share.view(-1, 1, 1, 1)


def cost(made: Tensor, wanted: Tensor, share: Tensor) -> Tensor:
    """Pseudo-Huber distance of clean latents, weighted like a velocity but not without limit near the picture."""
    away = (made - wanted).square().flatten(1).mean(1) / share.clamp_min(0.25) ** 2
    return ((away + 0.01).sqrt() - 0.1).mean()


def shares(count: int) -> Tensor:
    """Shares of noise: most of them where the student will be asked, the others anywhere."""
    asked = torch.tensor(ASKED)[torch.randint(len(ASKED), (count,))]
    return torch.where(torch.rand(count) < 0.85, asked, torch.rand(count).clamp_min(0.02)).to(run.device())


def consistency(lessons: Lessons, guided: Guided) -> Callable:
    """One lesson: returns the loss of a batch. Every step of the teacher, which costs most, serves for REPEATS lessons."""
    shelf: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def teach() -> dict[str, Tensor]:
        clean, spoken = lessons.batch(BATCH)
        share = shares(BATCH)
        with torch.autocast(clean.device.type, torch.bfloat16):
            text = guided.network.text_encoder(spoken, BLUR).float()
        sample = torch.lerp(clean, torch.randn_like(clean), wide(share))
        stride = torch.minimum(share, torch.full_like(share, STRIDE))
        return {"sample": sample, "share": share, "text": text, "end": share - stride,
                "later": sample - wide(stride) * guided(sample, share, text)}

    turn = 0

    def lesson(student: Denoiser, average: Denoiser) -> Tensor:
        nonlocal turn
        if turn % REPEATS == 0:
            shelf.append(teach())
            del shelf[:-SHELF]
        turn += 1
        every = {n: torch.cat([batch[n] for batch in shelf]) for n in shelf[0]}
        chosen = torch.randperm(len(every["share"]))[:BATCH]
        sample, share, text, end, later = (every[n][chosen] for n in ("sample", "share", "text", "end", "later"))
        with torch.no_grad(), torch.autocast(sample.device.type, torch.bfloat16):
            wanted = later - wide(end) * average(later, end * 1000, text).float()
        with torch.autocast(sample.device.type, torch.bfloat16):
            made = student(sample, share * 1000, text).float()
        return cost(sample - wide(share) * made, wanted, share)

    return lesson


def reflow(work: Path, guided: Guided) -> Callable:
    kept = torch.load(work / "pairs.pt", weights_only=True)

    def lesson(student: Denoiser, average: Denoiser) -> Tensor:
        chosen = torch.randint(len(kept["noise"]), (BATCH,))
        noise, clean, spoken = (kept[n][chosen].to(run.device()) for n in ("noise", "clean", "spoken"))
        noise, clean, share = noise.float(), clean.float(), shares(BATCH)
        sample = torch.lerp(clean, noise, wide(share))
        with torch.autocast(clean.device.type, torch.bfloat16):
            with torch.no_grad():
                text = guided.network.text_encoder(spoken).float()
            made = student(sample, share * 1000, text).float()
        return cost(sample - wide(share) * made, clean, share)

    return lesson


def pairs(work: Path, guided: Guided, lessons: Lessons, count: int, steps: int) -> None:
    """Draws noise and what the teacher makes of it, and adds them to `pairs.pt`."""
    path = work / "pairs.pt"
    kept = torch.load(path, weights_only=True) if path.exists() else {n: torch.zeros(0) for n in ("noise", "clean", "spoken")}
    made = {n: [v] if len(v) else [] for n, v in kept.items()}
    have = len(kept["noise"])
    torch.manual_seed(100 + have)
    lessons.captions.random.seed(100 + have)
    while have < count:
        spoken = lessons.batch(BATCH)[1]
        noise = torch.randn(BATCH, 16, 8, 8, device=run.device())
        with torch.no_grad():
            clean = guided.draw(noise, guided.network.text_encoder(spoken), steps)
        for name, value in (("noise", noise.half()), ("clean", clean.half()), ("spoken", spoken)):
            made[name].append(value.cpu())
        have += BATCH
        if have // BATCH % 10 == 0 or have >= count:
            torch.save({n: torch.cat(v) for n, v in made.items()}, path)
            print(f"{have} pairs", flush=True)


def train(work: Path, method: str, minutes: float, sizes: tuple[int, int], guided: Guided, lessons: Lessons, facts: dict, start: Path | None) -> None:
    torch.manual_seed(7)
    clean, spoken = lessons.batch(2 * BATCH)
    time = shares(len(clean))
    with torch.no_grad():
        text, sample = guided.network.text_encoder(spoken), torch.lerp(clean, torch.randn_like(clean), wide(time))
    network = prune.student(guided.network.denoiser, facts, *sizes, sample, time * 1000, text)
    slow = copy.deepcopy(network).requires_grad_(False)
    with torch.no_grad():
        away = (network(sample, time * 1000, text) - guided.network.denoiser(sample, time * 1000, text)).square().mean().item()
    if start:
        network.load_state_dict(run.averaged(start)[0])
    path = work / f"student-{method}.pt"
    steppers = optimizers(network, RATE)
    average, clock = run.Average(network, 0.98), run.Clock(minutes)
    step = run.resume(path, network=network, optimizers=steppers, average=average, clock=clock)
    torch.manual_seed(7 + step)
    lessons.captions.random.seed(7 + step)
    lesson = consistency(lessons, guided) if method == "consistency" else reflow(work, guided)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {away:.4f} from the teacher before any training, from step {step}", flush=True)

    def checkpoint() -> None:
        more = {"rank": sizes[0], "hidden": sizes[1], "method": method, "guidance": guided.scale, "parameters": parameters}
        run.save(path, network=network, optimizers=steppers, average=average, clock=clock, step=step, facts={**facts, **more})

    total, saved = 0.0, clock.spent()
    while clock.share() < 1:
        slow.load_state_dict(average.weights)
        factor = run.rate_at(clock.share(), step, 20)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = RATE * factor
            stepper.zero_grad(set_to_none=True)
        loss = lesson(network, slow)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        average.update(network)
        total += loss.item()
        step += 1
        if step % 50 == 0:
            print(f"step {step}  {clock.spent():.1f} min  loss {total / 50:.4f}  rate {RATE * factor:.2e}", flush=True)
            total = 0.0
        if clock.spent() - saved > 3:
            saved = clock.spent()
            checkpoint()
    checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--method", choices=["consistency", "reflow"], default="consistency")
    parser.add_argument("--configuration", choices=run.CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    parser.add_argument("--guidance", type=float, default=3.0, help="the scale that the student takes over")
    parser.add_argument("--pairs", type=int, default=8192, help="how many pairs `reflow` learns from")
    parser.add_argument("--pair-steps", type=int, default=8, help="the teacher's steps for a pair")
    parser.add_argument("--start", type=Path, help="another student to go on from")
    args = parser.parse_args()
    lessons = Lessons(args.work, run.device(), seed=9)
    network, facts = prune.teacher(args.work, lessons.captions.vocabulary)
    guided = Guided(network, args.guidance)
    if args.method == "reflow":
        pairs(args.work, guided, lessons, args.pairs, args.pair_steps)
    settings = run.CONFIGURATIONS[args.configuration]["student"]
    minutes = settings["minutes"] if args.minutes is None else args.minutes
    train(args.work, args.method, minutes, (settings["rank"], settings["hidden"]), guided, lessons, facts, args.start)


if __name__ == "__main__":
    main()
