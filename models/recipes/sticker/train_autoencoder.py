"""Trains the autoencoder, then encodes every picture once.

    python train_autoencoder.py --work work --configuration cpu

Writes `autoencoder.pt` as it goes (run again to resume) and `latents.pt` at the end.
"""

import argparse
from pathlib import Path

import torch

import data
import run
from autoencoder import Autoencoder, kl, premultiplied, reconstruction

KL_WEIGHT = 2e-4


def to_network(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.float().permute(0, 3, 1, 2) / 127.5 - 1


def augmented(pictures: torch.Tensor) -> torch.Tensor:
    """Half of the batch mirrored: the autoencoder learns outlines, not which way a fish looks."""
    mirrored = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
    return torch.where(mirrored, pictures.flip(-1), pictures)


def train(work: Path, settings: dict, minutes: float) -> None:
    torch.manual_seed(1)
    where = run.device()
    pictures = torch.from_numpy(data.load(work)[0])
    network = Autoencoder(settings["widths"]).to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings["rate"], weight_decay=1e-3, betas=(0.9, 0.99))
    average, clock = run.Average(network, 0.998), run.Clock(minutes)
    path = work / "autoencoder.pt"
    step = run.resume(path, network=network, optimizers=[optimizer], average=average, clock=clock)
    torch.manual_seed(1 + step)

    def checkpoint() -> None:
        facts = {"widths": settings["widths"], "pictures": len(pictures), "batch": settings["batch"]}
        run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)

    while clock.share() < 1:
        batch = pictures[torch.randint(len(pictures), (settings["batch"],))].to(where)
        batch = augmented(to_network(batch)).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = settings["rate"] * run.rate_at(clock.share(), step, 100)
        with torch.autocast(where.type, torch.bfloat16):
            made, mean, log_variance = network(batch)
        made, mean, log_variance = made.float(), mean.float(), log_variance.float()
        error = reconstruction(made, batch)
        loss = error + KL_WEIGHT * kl(mean, log_variance)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        step += 1
        if step % 50 == 0:
            square = (premultiplied(made.detach().clamp(-1, 1)) - premultiplied(batch)).square().mean()
            print(f"step {step}  {clock.spent():.1f} min  l1+slope {error.item():.4f}  mse {square.item():.5f}  "
                  f"spread {(0.5 * log_variance).exp().mean().item():.3f}", flush=True)
        if step % 300 == 0:
            checkpoint()
    checkpoint()


@torch.no_grad()
def encode(work: Path) -> None:
    """Encodes all pictures and writes latents, their channel statistics, and the error of the round trip."""
    where = run.device()
    weights, facts = run.averaged(work / "autoencoder.pt")
    network = Autoencoder(facts["widths"]).eval()
    network.load_state_dict(weights)
    network.to(where)
    pictures = torch.from_numpy(data.load(work)[0])
    means, square = [], 0.0
    for part in pictures.split(256):
        batch = to_network(part.to(where))
        mean = network.encoder(batch).chunk(2, dim=1)[0]
        made = network.decoder(mean).clamp(-1, 1)
        square += (premultiplied(made) - premultiplied(batch)).square().mean().item() * len(part)
        means.append(mean.cpu())
    latents = torch.cat(means)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    normal = (latents - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
    torch.save({"latents": normal, "mean": mean, "deviation": deviation, "mse": square / len(pictures)}, work / "latents.pt")
    print(f"{len(latents)} latents, round trip mse {square / len(pictures):.5f} on [-1, 1], largest {normal.abs().max():.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--configuration", choices=run.CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    parser.add_argument("--encode-only", action="store_true", help="encode with the last checkpoint, train nothing")
    args = parser.parse_args()
    settings = run.CONFIGURATIONS[args.configuration]["autoencoder"]
    if not args.encode_only:
        train(args.work, settings, settings["minutes"] if args.minutes is None else args.minutes)
    encode(args.work)


if __name__ == "__main__":
    main()
