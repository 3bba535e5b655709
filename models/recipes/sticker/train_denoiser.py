"""Trains the text encoder and the denoiser on the autoencoder's latents by flow matching.

    python train_denoiser.py --work work --configuration cpu

Writes `denoiser.pt` as it goes; run again to resume.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import data
import neighbours
import run
from captions import COLOURS, COMMON, PAD, UNKNOWN, Captions, held_combination
from denoiser import Model

DROPPED = 0.1
# Pictures of what people most often ask for come up this much more often.
COMMON_WEIGHT = 1.6
# Share of a batch that is recoloured stickers and several on one picture.
COMPOSED = 0.5
# How often a caption's word leans toward its neighbours.
BLUR = 0.15
REPORT = 100


def times(count: int, where: torch.device) -> Tensor:
    """Shares of noise: mostly logit-normal, which dwells on the middle of the way, some uniform for both ends."""
    middle = torch.sigmoid(torch.randn(count, device=where))
    return torch.where(torch.rand(count, device=where) < 0.2, torch.rand(count, device=where), middle)


def optimizers(network: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for everything else."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and "layers." in n and "modulation" not in n]
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, momentum=0.95, ns_steps=5, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


class Lessons:
    """Draws batches: stickers as they are, in other colours, in several copies, each with a caption."""

    def __init__(self, work: Path, where: torch.device, seed: int):
        self.entries, self.where = data.load(work)[1], where
        self.captions = Captions(self.entries, seed)
        self.plain = torch.load(work / "latents.pt", weights_only=True)["latents"]
        kept = torch.load(work / "composed.pt", weights_only=True)
        self.composed, self.rows = kept["latents"], kept["rows"]
        self.natural = [COLOURS[n] if n >= 0 else None for n in kept["natural"].tolist()]
        weights = [e["weight"] * (COMMON_WEIGHT if e["name"] in COMMON else 1) for e in self.entries]
        kept = [0.0 if held_combination(e["name"], e["style"]) else w for e, w in zip(self.entries, weights, strict=True)]
        self.weights = torch.tensor(kept)
        self.row_weights = torch.tensor(weights)[self.rows[:, 0]]

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Latents (b, 16, 8, 8) and word numbers (b, LENGTH)."""
        composed = round(size * COMPOSED)
        chosen = torch.multinomial(self.weights, size - composed, replacement=True)
        more = torch.multinomial(self.row_weights, composed, replacement=True)
        clean = torch.cat([self.plain[chosen], self.composed[more].float()])
        spoken = [self.captions.draw(i, natural=self.natural[i]) for i in chosen.tolist()]
        for index, colour, count in self.rows[more].tolist():
            spoken.append(self.captions.draw(index, COLOURS[colour] if colour >= 0 else None, count, self.natural[index]))
        return clean.to(self.where), torch.tensor(spoken, device=self.where)


def warm_start(network: Model, vocabulary: dict[str, int], checkpoint: Path, tokenizer: Path) -> None:
    """Takes over an earlier model's weights; words are found by their spelling, since their numbers may have changed."""
    old = run.averaged(checkpoint)[0]
    numbers = json.loads(tokenizer.read_text())["model"]["vocab"]
    table = old.pop("text_encoder.words.weight")
    left = network.load_state_dict(old, strict=False)
    if left.unexpected_keys or set(left.missing_keys) - {"text_encoder.words.weight", "text_encoder.plural"}:
        raise ValueError(f"{checkpoint} does not fit: missing {left.missing_keys}, unexpected {left.unexpected_keys}")
    found = [(number, numbers[word]) for word, number in vocabulary.items() if numbers.get(word, 0) > UNKNOWN]
    with torch.no_grad():
        network.text_encoder.words.weight.copy_(table.mean(0) + torch.randn_like(network.text_encoder.words.weight) * table.std() * 0.3)
        for number, before in found:
            network.text_encoder.words.weight[number] = table[before]
    print(f"warm start: {len(found)} of {len(vocabulary) - 2} words were known", flush=True)


def train(work: Path, settings: dict, minutes: float, start: tuple[Path, Path] | None) -> None:
    torch.manual_seed(2)
    where = run.device()
    lessons = Lessons(work, where, seed=2)
    captions = lessons.captions
    network = Model(settings, len(captions.vocabulary)).to(where)
    if start:
        warm_start(network, captions.vocabulary, *start)
    neighbours.apply(work, network.text_encoder, captions.vocabulary)
    steppers = optimizers(network, settings["rate"])
    average, clock = run.Average(network, 0.999), run.Clock(minutes)
    path = work / "denoiser.pt"
    step = run.resume(path, network=network, optimizers=steppers, average=average, clock=clock)
    if step:
        torch.manual_seed(2 + step)
        captions.random.seed(2 + step)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(captions.vocabulary)} words, {len(lessons.entries)} pictures and "
          f"{len(lessons.rows)} composed, from step {step}", flush=True)

    def checkpoint() -> None:
        facts = {**settings, "vocabulary": len(captions.vocabulary), "pictures": len(lessons.entries), "composed": len(lessons.rows),
                 "parameters": parameters}
        run.save(path, network=network, optimizers=steppers, average=average, clock=clock, step=step, facts=facts)

    total, saved = torch.zeros((), device=where), clock.spent()
    while clock.share() < 1:
        clean, spoken = lessons.batch(settings["batch"])
        spoken[torch.rand(len(spoken), device=where) < DROPPED] = PAD
        noise, share = torch.randn_like(clean), times(len(clean), where)
        mixed = torch.lerp(clean, noise, share.view(-1, 1, 1, 1))
        factor = run.rate_at(clock.share(), step, 200)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = settings["rate"] * factor
            stepper.zero_grad(set_to_none=True)
        with torch.autocast(where.type, torch.bfloat16):
            velocity = network(mixed, share * 1000, spoken, BLUR)
        loss = (velocity.float() - (noise - clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        average.update(network)
        total += loss.detach()
        step += 1
        if step % REPORT == 0:
            print(f"step {step}  {clock.spent():.1f} min  loss {total.item() / REPORT:.4f}  rate {settings['rate'] * factor:.2e}", flush=True)
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
    parser.add_argument("--rate", type=float, help="learning rate, instead of the configuration's")
    parser.add_argument("--start", type=Path, help="an earlier model's denoiser.pt to go on from")
    parser.add_argument("--start-words", type=Path, help="the tokenizer.json of that model")
    args = parser.parse_args()
    settings = run.CONFIGURATIONS[args.configuration]["denoiser"]
    if args.rate is not None:
        settings = {**settings, "rate": args.rate}
    start = (args.start, args.start_words) if args.start else None
    train(args.work, settings, settings["minutes"] if args.minutes is None else args.minutes, start)


if __name__ == "__main__":
    main()
