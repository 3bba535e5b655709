"""Trains the decoder further on the latents as they are, while the denoiser learns to make them.

    python train_decoder.py --work work --configuration cpu

The latents stay what they were, so this may run beside `train_denoiser.py` or after it. A little noise on them makes
the decoder forgive what the denoiser gets slightly wrong. Writes `decoder.pt`, which the export prefers.
"""

import argparse
from pathlib import Path

import torch

import data
import run
from autoencoder import Decoder, premultiplied, reconstruction
from train_autoencoder import to_network

NOISE = 0.08


def decoder(work: Path) -> tuple[Decoder, tuple[int, int, int]]:
    """The decoder as the autoencoder's training left it."""
    weights, facts = run.averaged(work / "autoencoder.pt")
    network = Decoder(facts["widths"])
    network.load_state_dict({n.removeprefix("decoder."): w for n, w in weights.items() if n.startswith("decoder.")})
    return network, facts["widths"]


def train(work: Path, settings: dict, minutes: float) -> None:
    where = run.device()
    pictures = torch.from_numpy(data.load(work)[0])
    kept = torch.load(work / "latents.pt", weights_only=True)
    latents, mean, deviation = kept["latents"], kept["mean"].view(1, -1, 1, 1), kept["deviation"].view(1, -1, 1, 1)
    network, widths = decoder(work)
    network.to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings["rate"], weight_decay=1e-3, betas=(0.9, 0.99))
    average, clock, path = run.Average(network, 0.998), run.Clock(minutes), work / "decoder.pt"
    step = run.resume(path, network=network, optimizers=[optimizer], average=average, clock=clock)
    torch.manual_seed(3 + step)

    def checkpoint() -> None:
        facts = {"widths": widths, "mse": measure(average.weights, widths, latents * deviation + mean, pictures)}
        run.save(path, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)
        print(f"step {step}  {clock.spent():.1f} min  mse {facts['mse']:.5f}", flush=True)

    while clock.share() < 1:
        chosen = torch.randint(len(pictures), (settings["batch"],))
        wanted = to_network(pictures[chosen].to(where)).contiguous(memory_format=torch.channels_last)
        latent = latents[chosen]
        latent = ((latent + NOISE * torch.randn_like(latent)) * deviation + mean).to(where)
        for group in optimizer.param_groups:
            group["lr"] = settings["rate"] * run.rate_at(clock.share(), step, 100)
        with torch.autocast(where.type, torch.bfloat16):
            made = network(latent)
        loss = reconstruction(made.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        step += 1
        if step % 300 == 0:
            checkpoint()
    checkpoint()


@torch.no_grad()
def measure(weights: dict, widths: tuple[int, int, int], latents: torch.Tensor, pictures: torch.Tensor) -> float:
    """Mean squared error on premultiplied [-1, 1], of every eighth picture."""
    network = Decoder(widths).eval().to(run.device())
    network.load_state_dict(weights)
    made = network(latents[::8].to(run.device())).clamp(-1, 1)
    wanted = to_network(pictures[::8].to(run.device()))
    return (premultiplied(made) - premultiplied(wanted)).square().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--configuration", choices=run.CONFIGURATIONS, default="cpu")
    parser.add_argument("--minutes", type=float, help="length of the run, instead of the configuration's")
    args = parser.parse_args()
    settings = run.CONFIGURATIONS[args.configuration]["autoencoder"]
    train(args.work, settings, settings["minutes"] if args.minutes is None else args.minutes)


if __name__ == "__main__":
    main()
