"""Trains the style-based generator against its discriminator: non-saturating loss, lazy R1, augmentation that is differentiated through.

    python train_gan.py --work work

Goodfellow et al. 2014, arXiv:1406.2661 (section 3, the loss that does not saturate); Mescheder, Geiger & Nowozin 2018,
arXiv:1801.04406, eq. 9 (R1); Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", arXiv:2006.10738.
"""

import time

import torch
from torch import Tensor, nn
from torch.nn import functional

import training
from gan import Discriminator, Generator
from training import run

BATCH, RATE, GAMMA, EVERY, DECAY = 32, 8e-4, 0.3, 12, 0.998
SMALL = {"widths": (16, 16, 16, 16), "latent_size": 16, "style_size": 16}
WHOLE = {"widths": (128, 96, 64, 32), "latent_size": 64, "style_size": 96}


def augment(x: Tensor) -> Tensor:
    """The same kinds of change for real and made pictures; all of them let gradients through. White is zero while moving."""
    count, side = len(x), x.shape[-1]
    one = (count, 1, 1, 1)
    x = x + (torch.rand(one) - 0.5) * 0.4 * (torch.rand(one) < 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + (torch.rand(one) - 0.5) * 1.2 * (torch.rand(one) < 0.5))
    reach = side // 8
    wide = functional.pad(x - 1, [reach] * 4)
    places = torch.randint(0, 2 * reach + 1, (count, 2)).tolist()
    x = torch.stack([p[:, y:y + side, z:z + side] for p, (y, z) in zip(wide, places, strict=True)]) + 1
    corner = torch.randint(-side // 4, side, (count, 2, 1))
    within = torch.arange(side)[None, None] - corner
    hidden = (within >= 0) & (within < side * 3 // 8)
    hidden = hidden[:, :1].transpose(1, 2) & hidden[:, 1:] & (torch.rand(count, 1, 1) < 0.4)
    return x * ~hidden[:, None]


def penalty(discriminator: nn.Module, real: Tensor, labels: Tensor) -> Tensor:
    """R1: the squared slope of the score at real pictures."""
    real = real.detach().requires_grad_(True)
    slope, = torch.autograd.grad(discriminator(augment(real), labels).sum(), real, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def main() -> None:
    args = training.arguments("gan", __doc__.splitlines()[0])
    pictures = training.Pictures(args.data, held_out=False)
    shape = SMALL if args.configuration == "smoke" else WHOLE
    classes = len(pictures.classes)
    generator, discriminator = Generator(**shape, classes=classes), Discriminator(shape["widths"], classes)
    both = nn.ModuleDict({"generator": generator, "discriminator": discriminator}).to(memory_format=torch.channels_last)
    mapping = list(generator.mapping.parameters())
    optimizers = [
        torch.optim.Adam([{"params": generator.synthesis.parameters()}, {"params": mapping, "factor": 0.3}], betas=(0.0, 0.99)),
        torch.optim.Adam(discriminator.parameters(), betas=(0.0, 0.99)),
    ]
    clock, average = training.ProcessorClock(args.minutes), run.Average(generator, DECAY)
    step = run.resume(args.checkpoint, network=both, optimizers=optimizers, average=average, clock=clock)
    facts, told, kept = {"shape": shape, "classes": classes}, time.monotonic(), clock.spent()

    def real_batch() -> tuple[Tensor, Tensor]:
        real, labels = pictures.batch(BATCH)
        return real.float() / 127.5 - 1, labels

    while clock.share() < 1:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = RATE * group.get("factor", 1.0) * run.rate_at(clock.share(), step, 20, floor=0.1)

        real, labels = real_batch()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                made = generator(torch.randn(BATCH, generator.latent_size), labels)
            of_real, of_made = discriminator(augment(real), labels), discriminator(augment(made), labels)
        loss_discriminator = functional.softplus(of_made).mean() + functional.softplus(-of_real).mean()
        if step % EVERY == 0:
            loss_discriminator = loss_discriminator + EVERY * GAMMA / 2 * penalty(discriminator, real, labels)
        optimizers[1].zero_grad()
        loss_discriminator.backward()
        optimizers[1].step()

        _, labels = real_batch()
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16):
            scores = discriminator(augment(generator(torch.randn(BATCH, generator.latent_size), labels)), labels)
        loss_generator = functional.softplus(-scores).mean()
        optimizers[0].zero_grad()
        loss_generator.backward()
        optimizers[0].step()
        discriminator.requires_grad_(True)
        average.update(generator)
        step += 1
        if time.monotonic() - told > 30 or clock.share() >= 1:
            told = time.monotonic()
            print(f"{clock.spent():.1f} min, step {step}, generator {loss_generator.item():.2f}, discriminator "
                  f"{loss_discriminator.item():.2f}, real {of_real.mean().item():.2f}, made {of_made.mean().item():.2f}", flush=True)
        if clock.spent() - kept > 0.5 or clock.share() >= 1:
            kept = clock.spent()
            run.save(args.checkpoint, network=both, optimizers=optimizers, average=average, clock=clock, step=step, facts=facts)


if __name__ == "__main__":
    main()
