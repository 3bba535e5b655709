"""What the five trainings of the denoiser share: configurations, the loop, checkpoints."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from muon import optimizers
from training import Pictures, ProcessorClock, run
from unet import Unet

# `minutes` is processor time of one thread.
CONFIGURATIONS = {
    "smoke": {
        "widths": (16, 24, 32), "blocks": (1, 1, 1), "condition": 32, "heads": 2, "batch": 16, "rate": 3e-3,
        "minutes": {"ddpm": 0.1, "cnf": 0.05, "score": 0.05, "progressive": 0.1, "consistency": 0.05},
    },
    "cpu": {
        "widths": (48, 96, 112), "blocks": (1, 1, 1), "condition": 128, "heads": 4, "batch": 48, "rate": 4e-3,
        "minutes": {"ddpm": 31, "cnf": 6, "score": 6, "progressive": 13, "consistency": 13},
    },
}
NETWORK = ("widths", "blocks", "condition", "heads")
DROPPED = 0.1
REPORT = 50
SAVE_MINUTES = 1.5


def arguments(description: str, families: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--family", choices=families, default=families[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="processor time, in place of the configuration's")
    args = parser.parse_args()
    args.settings = CONFIGURATIONS[args.configuration]
    args.minutes = args.minutes or args.settings["minutes"][args.family]
    args.checkpoint = args.work / f"{args.family}.pt"
    args.data = args.work / "data" / "stickers32.npz"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    return args


def load(path: Path, step_counts: bool | None = None) -> tuple[Unet, dict]:
    """The averaged network of a checkpoint and what was noted beside it; with `step_counts` it gains that input, as yet unheard."""
    weights, facts = run.averaged(path)
    counted = facts["step_counts"] if step_counts is None else step_counts
    network = build(facts, facts["classes"], counted)
    missing = network.load_state_dict(weights, strict=False)
    if missing.unexpected_keys or any("counts" not in key for key in missing.missing_keys):
        raise ValueError(f"{path} holds another network: {missing}")
    return network, facts


def build(settings: dict, classes: int, step_counts: bool = False) -> Unet:
    network = Unet(**{key: settings[key] for key in NETWORK}, classes=classes, step_counts=step_counts)
    return network.to(memory_format=torch.channels_last)


def clean_batch(pictures: Pictures, count: int) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, 32, 32] f32 in [-1, 1] and labels [B]."""
    chosen, labels = pictures.batch(count)
    return chosen.float() / 127.5 - 1, labels


def drop(labels: Tensor, classes: int) -> Tensor:
    """A tenth of the labels become "no class", so that guidance has something to lead away from."""
    return torch.where(torch.rand(len(labels)) < DROPPED, torch.full_like(labels, classes), labels)


def train(network: Unet, args: argparse.Namespace, loss_of: Callable[[nn.Module, float], Tensor], facts: dict,
          rate: float, decay: float = 0.998, average: run.Average | None = None) -> None:
    """Runs `loss_of(network, share of the time spent)` until the time is spent; resumes from the checkpoint where there is one."""
    steppers = optimizers(network, rate)
    average, clock = average or run.Average(network, decay), ProcessorClock(args.minutes)
    step = run.resume(args.checkpoint, network=network, optimizers=steppers, average=average, clock=clock)
    torch.manual_seed(step)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{args.family}: {parameters / 1e6:.2f} M parameters, from step {step}", flush=True)

    def checkpoint() -> None:
        noted = {**{key: args.settings[key] for key in NETWORK}, "parameters": parameters, "batch": args.settings["batch"], **facts}
        run.save(args.checkpoint, network=network, optimizers=steppers, average=average, clock=clock, step=step, facts=noted)

    total, first, saved = 0.0, step, clock.spent()
    while clock.share() < 1:
        factor = run.rate_at(clock.share(), step, 50)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = rate * factor
            stepper.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, clock.share())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        average.update(network)
        total += loss.item()
        step += 1
        if step % REPORT == 0:
            print(f"step {step}  {clock.spent():.2f} min  loss {total / min(REPORT, step - first):.4f}  rate {rate * factor:.1e}", flush=True)
            total = 0.0
        if clock.spent() - saved > SAVE_MINUTES:
            saved = clock.spent()
            checkpoint()
    checkpoint()
