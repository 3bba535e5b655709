"""Trains the judge on all stickers but a tenth of the names, and measures it on that tenth.

    python train_judge.py --work work

A picture is told by its name (both styles of a thing share it) and by its class, under strong augmentation. Pictures of the small
families' size are seen as often as whole ones.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import data
import training
from judge import Judge
from training import run

BATCH, SHARPNESS = 96, 16.0


def stickers(work: Path) -> dict:
    """All pictures [N, 3, 64, 64] uint8 on white, with numbers for name and class, and who is held out."""
    pictures, entries = data.prepare(work / "sticker", smoke=False)
    alpha = pictures[..., 3:].astype(np.float32) / 255
    laid = np.rint(pictures[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    names = [entry["name"] for entry in entries]
    subgroup = data.subgroups(work / "sticker")
    label = {s: k for k, members in enumerate(data.CLASSES.values()) for s in members}
    labels = [label.get(subgroup.get(name, ""), len(data.CLASSES)) for name in names]
    small = data.load(work / "data" / "stickers32.npz")
    # What the families hold out is held out here too, and as large a part of everything else.
    kept_apart = {data.stem(str(name)) for name in small["names"][small["held_out"]]}
    rest = [name for name in names if name not in set(small["names"].tolist())]
    kept_apart |= data.hold_out(rest)
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    return {
        "pictures": torch.from_numpy(laid).permute(0, 3, 1, 2).contiguous(), "labels": torch.tensor(labels),
        "names": torch.tensor([numbers[name] for name in names]), "flat": torch.tensor([e["style"] == "flat" for e in entries]),
        "held_out": torch.tensor([data.stem(name) in kept_apart for name in names]),
    }


def small_size(x: Tensor) -> Tensor:
    """As a 32x32 picture that was enlarged bilinearly."""
    return functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)


def augment(x: Tensor) -> Tensor:
    """Turned, moved, scaled, mirrored, recoloured, blurred, made noisy; x in [-1, 1]."""
    count = len(x)
    angle, size = (torch.rand(count) - 0.5) * 0.6, torch.exp((torch.rand(count) - 0.5) * 0.5)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    turn = torch.stack([size * angle.cos() * mirror, -size * angle.sin(), (torch.rand(count) - 0.5) * 0.3,
                        size * angle.sin() * mirror, size * angle.cos(), (torch.rand(count) - 0.5) * 0.3], 1)
    grid = functional.affine_grid(turn.reshape(-1, 2, 3), list(x.shape), align_corners=False)
    x = functional.grid_sample(x - 1, grid, align_corners=False) + 1
    one = (count, 1, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (0.6 + 0.8 * torch.rand(one))
    x = x * (0.75 + 0.4 * torch.rand(one)) + 0.2 * (torch.rand(count, 3, 1, 1) - 0.5)
    x = torch.where(torch.rand(one) < 0.5, small_size(x), x)
    x = torch.where(torch.rand(one) < 0.2, functional.avg_pool2d(x, 3, 1, 1), x)
    return (x + torch.randn_like(x) * 0.15 * torch.rand(one).square()).clamp(-1, 1)


@torch.no_grad()
def measure(network: Judge, head: nn.Module, kept: dict) -> dict:
    """On held-out things: how often a glossy picture finds the flat one of the same name, and how often the class is right."""
    network.eval()
    facts = {}
    for size, change in (("64", lambda x: x), ("32", small_size)):
        features = torch.cat([network(change(p.float() / 127.5 - 1)) for p in kept["pictures"].split(256)])
        queries = (~kept["flat"] & kept["held_out"]).nonzero()[:, 0]
        gallery = kept["flat"].nonzero()[:, 0]
        order = (features[queries] @ features[gallery].T).argsort(1, descending=True)
        right = kept["names"][gallery][order] == kept["names"][queries][:, None]
        known = kept["held_out"] & (kept["labels"] < len(data.CLASSES))
        guess = head(features[known]).argmax(1)
        facts[size] = {
            "queries": len(queries), "gallery": len(gallery), "top1": float(right[:, 0].float().mean()),
            "top5": float(right[:, :5].any(1).float().mean()), "class_pictures": int(known.sum()),
            "class_accuracy": float((guess == kept["labels"][known]).float().mean()),
        }
    network.train()
    return facts


def main() -> None:
    args = training.arguments("judge", __doc__.splitlines()[0])
    kept = stickers(args.work)
    train = (~kept["held_out"]).nonzero()[:, 0]
    network = Judge()
    names = nn.Linear(network.features, int(kept["names"].max()) + 1, bias=False)
    head = nn.Linear(network.features, len(data.CLASSES) + 1)
    whole = nn.ModuleDict({"network": network, "names": names, "head": head})
    optimizer = torch.optim.AdamW(whole.parameters(), lr=2e-3, weight_decay=0.02)
    clock, average = training.ProcessorClock(args.minutes), run.Average(whole, 0.998)
    step = run.resume(args.checkpoint, network=whole, optimizers=[optimizer], average=average, clock=clock)
    told = time.monotonic()
    while clock.share() < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * run.rate_at(clock.share(), step, 50)
        chosen = train[torch.randint(len(train), (BATCH,))]
        x = augment(kept["pictures"][chosen].float() / 127.5 - 1)
        with torch.autocast("cpu", torch.bfloat16):
            features = network(x)
        alike = functional.linear(features.float(), functional.normalize(names.weight, dim=1))
        loss = functional.cross_entropy(SHARPNESS * alike, kept["names"][chosen], label_smoothing=0.05)
        loss = loss + 0.5 * functional.cross_entropy(head(features.float()), kept["labels"][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(whole)
        step += 1
        if time.monotonic() - told > 30 or clock.share() >= 1:
            told = time.monotonic()
            print(f"{clock.spent():.1f} min, step {step}, loss {loss.item():.3f}", flush=True)
            run.save(args.checkpoint, network=whole, optimizers=[optimizer], average=average, clock=clock, step=step, facts={})
    whole.load_state_dict(average.weights)
    facts = measure(network, head, kept)
    print(json.dumps(facts))
    run.save(args.checkpoint, network=whole, optimizers=[optimizer], average=average, clock=clock, step=step, facts=facts)


if __name__ == "__main__":
    main()
