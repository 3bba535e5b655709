"""Trains the variational autoencoder on the evidence lower bound with the deviation that fits the pictures best.

    python train_vae.py --work work
"""

import json
import math
import time

import torch
from torch import Tensor

import training
from training import run
from vae import Autoencoder, divergence

BATCH, RATE, DECAY = 32, 2e-3, 0.997
SMALL = {"widths": (16, 16, 16), "latent_size": 16}
WHOLE = {"widths": (32, 64, 96, 128), "latent_size": 64}
# The share of the run over which the divergence's weight rises to one.
WARMUP = 0.2
# Training takes no deviation below this: with so few pictures a sharper one draws so much into the latents that the prior misses them.
LEAST_DEVIATION = 0.5


def log_likelihood(x: Tensor, made: Tensor, deviation: float) -> Tensor:
    """ln N(x; made, deviation^2) in nats for each picture [B]."""
    squares = (x - made).square().flatten(1)
    return -squares.sum(1) / (2 * deviation**2) - squares.shape[1] * math.log(deviation * math.sqrt(2 * math.pi))


@torch.no_grad()
def measure(network: Autoencoder, pictures: training.Pictures, deviation: float) -> dict:
    """Lower bound in bits per dimension, divergence in nats and squared error of all pictures, one draw of the latent for each."""
    network.eval()
    bounds, divergences, squares = [], [], []
    for x, labels in zip(pictures.pictures.split(128), pictures.labels.split(128), strict=True):
        x = training.dequantise(x)
        mean, log_variance = network.encoder(x, labels)
        made = network.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp(), labels)
        apart = divergence(mean, log_variance)
        bounds.append(log_likelihood(x, made, deviation) - apart)
        divergences.append(apart)
        squares.append((x - made).square().mean((1, 2, 3)))
    network.train()
    dimensions = x[0].numel()
    return {"bits_per_dimension": training.bits_per_dimension(torch.cat(bounds), dimensions),
            "divergence": float(torch.cat(divergences).mean()), "squared_error": float(torch.cat(squares).mean())}


def main() -> None:
    args = training.arguments("vae", __doc__.splitlines()[0])
    pictures, others = (training.Pictures(args.data, held_out) for held_out in (False, True))
    shape = SMALL if args.configuration == "smoke" else WHOLE
    classes = len(pictures.classes)
    network = Autoencoder(**shape, classes=classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    clock, average = training.ProcessorClock(args.minutes), run.Average(network, DECAY)
    step = run.resume(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock)
    facts, told = {"shape": shape, "classes": classes}, time.monotonic()
    while clock.share() < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * run.rate_at(clock.share(), step, 50)
        x, labels = pictures.batch(BATCH, shift=1)
        x = training.dequantise(x).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            mean, log_variance = network.encoder(x, labels)
            made = network.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp(), labels)
        # With the deviation at its best for the batch, -ln p(x|z) is D ln(deviation) and a constant (arXiv:2006.13202, eq. 3), whose
        # slope is that of the square over twice the variance.
        squared = (x - made).square().mean()
        apart = divergence(mean, log_variance).mean()
        share = min(1.0, clock.share() / WARMUP + 0.02)
        variance = squared.detach().clamp(min=LEAST_DEVIATION**2)
        loss = squared / (2 * variance) + share * apart / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        step += 1
        if time.monotonic() - told > 30 or clock.share() >= 1:
            told = time.monotonic()
            print(f"{clock.spent():.1f} min, step {step}, deviation {squared.sqrt().item():.4f}, divergence {apart.item():.0f}", flush=True)
            run.save(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)
    network.load_state_dict(average.weights)
    network.eval()
    mirrored = pictures.pictures.flip(-1)
    network.fit_prior(training.dequantise(torch.cat([pictures.pictures, mirrored])), pictures.labels.repeat(2))
    average.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    facts["deviation"] = math.sqrt(measure(network, pictures, 1.0)["squared_error"])
    facts |= {"training": measure(network, pictures, facts["deviation"]), "held_out": measure(network, others, facts["deviation"])}
    print(json.dumps(facts))
    run.save(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)


if __name__ == "__main__":
    main()
