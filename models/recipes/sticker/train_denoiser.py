"""Trains the text encoder and the denoiser on the autoencoder's latents by flow matching.

    python train_denoiser.py --work work --configuration cpu

Writes `denoiser.pt` as it goes; run again to resume.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import data
import run
from captions import COMMON, LENGTH, PAD, Captions
from denoiser import Model

DROPPED = 0.1
# Pictures of what people most often ask for come up this much more often.
COMMON_WEIGHT = 1.6
REPORT = 200


def times(count: int, where: torch.device) -> Tensor:
    """Shares of noise: mostly logit-normal, which dwells on the middle of the way, some uniform for both ends."""
    middle = torch.sigmoid(torch.randn(count, device=where))
    return torch.where(torch.rand(count, device=where) < 0.2, torch.rand(count, device=where), middle)


def optimizers(network: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for everything else."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and ".layers." in n and "modulation" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, momentum=0.95, ns_steps=5, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def train(work: Path, settings: dict, minutes: float) -> None:
    torch.manual_seed(2)
    where = run.device()
    entries = data.load(work)[1]
    latents = torch.load(work / "latents.pt", weights_only=True)["latents"].to(where)
    weights = torch.tensor([e["weight"] * (COMMON_WEIGHT if e["name"] in COMMON else 1) for e in entries])
    captions = Captions(entries, seed=2)
    network = Model(settings, len(captions.vocabulary)).to(where)
    steppers = optimizers(network, settings["rate"])
    average, clock = run.Average(network, 0.999), run.Clock(minutes)
    path = work / "denoiser.pt"
    step = run.resume(path, network=network, optimizers=steppers, average=average, clock=clock)
    if step:
        torch.manual_seed(2 + step)
        captions.random.seed(2 + step)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(captions.vocabulary)} words, {len(entries)} pictures, from step {step}", flush=True)

    def checkpoint() -> None:
        facts = {**settings, "vocabulary": len(captions.vocabulary), "pictures": len(entries), "parameters": parameters}
        run.save(path, network=network, optimizers=steppers, average=average, clock=clock, step=step, facts=facts)

    total, saved = torch.zeros((), device=where), clock.spent()
    while clock.share() < 1:
        chosen = torch.multinomial(weights, settings["batch"], replacement=True)
        spoken = torch.tensor([captions.draw(i) for i in chosen.tolist()])
        spoken[torch.rand(len(spoken)) < DROPPED] = torch.full((LENGTH,), PAD)
        clean, spoken = latents[chosen.to(where)], spoken.to(where)
        noise, share = torch.randn_like(clean), times(len(clean), where)
        mixed = torch.lerp(clean, noise, share.view(-1, 1, 1, 1))
        factor = run.rate_at(clock.share(), step, 200)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = settings["rate"] * factor
            stepper.zero_grad(set_to_none=True)
        with torch.autocast(where.type, torch.bfloat16):
            velocity = network(mixed, share * 1000, spoken)
        loss = (velocity.float() - (noise - clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        average.update(network)
        total += loss.detach()
        step += 1
        if step % REPORT == 0:
            print(f"step {step}  {clock.spent():.1f} min  loss {total.item() / REPORT:.4f}  rate {settings['rate'] * factor:.2e}  "
                  f"{step * settings['batch'] / len(entries):.0f} passes", flush=True)
            total.zero_()
        if clock.spent() - saved > 5:
            saved = clock.spent()
            checkpoint()
    checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--configuration", choices=run.CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    args = parser.parse_args()
    settings = run.CONFIGURATIONS[args.configuration]["denoiser"]
    train(args.work, settings, settings["minutes"] if args.minutes is None else args.minutes)


if __name__ == "__main__":
    main()
