"""Consistency distillation (Song et al. 2023, arXiv:2303.01469): the ddpm, guided, in one or two steps.

    python train_consistency.py --work work --configuration cpu

On the variance preserving schedule with the boundary scalings of latent consistency models (Luo et al. 2023,
arXiv:2310.04378), so that LCMScheduler samples it.
"""

import torch
from torch import Tensor, nn

from diffusion import arguments, clean_batch, load, run, train
from forms import TIMES
from train_progressive import GUIDANCE, Schedule
from training import Pictures
from unet import Unet

# The way is cut into few pieces first: what the last piece teaches then soon reaches the first.
INTERVALS = (5, 10, 20)
STARTS = (0.0, 0.25, 0.55)
# What LCMScheduler has where its configuration says nothing.
SIGMA_DATA, TIME_SCALING = 0.5, 10.0
HUBER = 0.03
RATE_SHARE = 0.4


def boundary(times: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out: at the picture itself (-1 here) the function must be the identity."""
    scaled = times.clamp(min=0).float().view(-1, 1, 1, 1) * TIME_SCALING
    length = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / length, scaled / length.sqrt()


class Distillation:
    def __init__(self, teacher: Unet, average: run.Average, followed: Unet, pictures: Pictures, batch: int):
        self.teacher, self.average, self.followed = teacher, average, followed
        self.pictures, self.size, self.classes = pictures, batch, len(pictures.classes)
        self.schedule = Schedule()

    def guided(self, sample: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        both = self.teacher(sample.repeat(2, 1, 1, 1), times.float().repeat(2), torch.cat([torch.full_like(labels, self.classes), labels]))
        without, with_class = both.float().chunk(2)
        return without + GUIDANCE * (with_class - without)

    def consistent(self, network: nn.Module, sample: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        skip, out = boundary(times)
        return skip * sample + out * self.schedule.picture(sample, network(sample, times.float(), labels).float(), times)

    @torch.no_grad()
    def target(self, sample: Tensor, times: Tensor, later: Tensor, labels: Tensor) -> Tensor:
        arrived = self.schedule.ddim(sample, self.guided(sample, times, labels), times, later)
        self.followed.load_state_dict(self.average.weights)
        made = self.consistent(self.followed, arrived, later, labels).clamp(-1, 1)
        return torch.where(later.view(-1, 1, 1, 1) < 0, arrived, made)

    def loss(self, network: nn.Module, share: float) -> Tensor:
        clean, labels = clean_batch(self.pictures, self.size)
        intervals = [count for count, start in zip(INTERVALS, STARTS, strict=True) if share >= start][-1]
        stride = TIMES // intervals
        times = TIMES - 1 - torch.randint(intervals, (self.size,)) * stride
        alpha, sigma = self.schedule.at(times)
        sample = alpha * clean + sigma * torch.randn(clean.shape)
        wanted = self.target(sample, times, times - stride, labels)
        made = self.consistent(network, sample, times, labels)
        # Pseudo-Huber (Song & Dhariwal 2023, arXiv:2310.14189, eq. 8), of root mean squares: what is far off does not rule the rest.
        return (((made - wanted).square().mean(dim=(1, 2, 3)) + HUBER**2).sqrt() - HUBER).mean()


def main() -> None:
    args = arguments(__doc__.splitlines()[0], ("consistency",))
    pictures = Pictures(args.data, held_out=False)
    teacher, noted = load(args.work / "ddpm.pt")
    student, _ = load(args.work / "ddpm.pt")
    followed, _ = load(args.work / "ddpm.pt")
    average = run.Average(student, 0.98)
    distillation = Distillation(teacher.eval(), average, followed.eval(), pictures, args.settings["batch"])
    facts = {"pictures": len(pictures), "classes": len(pictures.classes), "step_counts": False, "guidance": GUIDANCE,
             "warm_minutes": noted["minutes"]}
    train(student, args, distillation.loss, facts, args.settings["rate"] * RATE_SHARE, average=average)


if __name__ == "__main__":
    main()
