"""Trains the normalizing flow by maximum likelihood of dequantised pictures.

    python train_flow.py --work work
"""

import json
import math
import time

import torch
from torch import Tensor, nn

import training
from flow import Flow
from training import run

BATCH, RATE, DECAY = 16, 2e-3, 0.997
SMALL = {"steps": (2, 2, 2), "widths": (32, 32, 32)}
WHOLE = {"steps": (7, 8, 6), "widths": (96, 96, 96)}


def log_likelihood(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """ln p(x) in nats for each picture [B]: the prior's at the latent and the log-determinant."""
    latent, log_determinant = network(x, labels)
    return -(latent.square() + math.log(2 * math.pi)).sum(1) / 2 + log_determinant


@torch.no_grad()
def measure(network: Flow, pictures: training.Pictures) -> float:
    """Bits per dimension of all pictures, with one draw of the dequantisation's noise each."""
    network.eval()
    parts = [log_likelihood(network, training.dequantise(x), labels)
             for x, labels in zip(pictures.pictures.split(64), pictures.labels.split(64), strict=True)]
    return training.bits_per_dimension(torch.cat(parts), pictures.pictures[0].numel())


def main() -> None:
    args = training.arguments("flow", __doc__.splitlines()[0])
    pictures, others = (training.Pictures(args.data, held_out) for held_out in (False, True))
    shape = SMALL if args.configuration == "smoke" else WHOLE
    classes = len(pictures.classes)
    network = Flow(**shape, classes=classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    clock = training.ProcessorClock(args.minutes)
    if not args.checkpoint.exists():
        x, labels = pictures.batch(256, shift=1)
        network.start(training.dequantise(x), labels)
    average = run.Average(network, DECAY)
    step = run.resume(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock)
    facts, told = {"shape": shape, "classes": classes}, time.monotonic()
    while clock.share() < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * run.rate_at(clock.share(), step, 100)
        x, labels = pictures.batch(BATCH, shift=1)
        x = training.dequantise(x)
        loss = -log_likelihood(network, x, labels).mean() / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        size = float(nn.utils.clip_grad_norm_(network.parameters(), 5.0))
        if math.isfinite(size):
            optimizer.step()
            average.update(network)
        step += 1
        if time.monotonic() - told > 30 or clock.share() >= 1:
            told = time.monotonic()
            print(f"{clock.spent():.1f} min, step {step}, {loss.item() / math.log(2) + 7:.3f} bits per dimension, slope {size:.2f}", flush=True)
            run.save(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)
    network.load_state_dict(average.weights)
    network.settle()
    facts |= {"training": measure(network, pictures), "held_out": measure(network, others)}
    print(json.dumps(facts))
    run.save(args.checkpoint, network=network, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)


if __name__ == "__main__":
    main()
