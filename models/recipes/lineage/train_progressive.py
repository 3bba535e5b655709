"""Progressive distillation (Salimans & Ho 2022, arXiv:2202.00512): the ddpm, guided, in 8, 4, 2 and 1 steps of one network.

    python train_progressive.py --work work --configuration cpu

The student is told into how many steps the whole way is cut. Its teacher for 8 steps is the guided ddpm in 16; for every
smaller count it is the student's own average at twice the count.
"""

import torch
from torch import Tensor, nn

from diffusion import arguments, clean_batch, load, run, train
from forms import TIMES, cumulative_alphas
from training import Pictures
from unet import Unet

COUNTS = (8, 4, 2, 1)
# Shares of the time at which a smaller count joins; the counts before it keep coming up, more rarely.
STARTS = (0.0, 0.35, 0.55, 0.75)
NEWEST = 0.7
GUIDANCE = 2.0
RATE_SHARE = 0.4


class Schedule:
    """Alpha and sigma of whole timesteps; before timestep 0 stands the picture itself."""

    def __init__(self) -> None:
        cumulative = torch.cat([torch.ones(1), cumulative_alphas()])
        self.alphas, self.sigmas = cumulative.sqrt(), (1 - cumulative).sqrt()

    def at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        return self.alphas[times + 1].view(-1, 1, 1, 1), self.sigmas[times + 1].view(-1, 1, 1, 1)

    def picture(self, sample: Tensor, v: Tensor, times: Tensor) -> Tensor:
        alpha, sigma = self.at(times)
        return alpha * sample - sigma * v

    def ddim(self, sample: Tensor, v: Tensor, times: Tensor, later: Tensor) -> Tensor:
        """One DDIM step without noise (Song et al. 2020, eq. 12), the picture clipped as the scheduler of the bundle clips it."""
        alpha, sigma = self.at(times)
        to_alpha, to_sigma = self.at(later)
        noise = sigma * sample + alpha * v
        return to_alpha * (alpha * sample - sigma * v).clamp(-1, 1) + to_sigma * noise


class Distillation:
    def __init__(self, teacher: Unet, average: run.Average, followed: Unet, pictures: Pictures, batch: int):
        self.teacher, self.average, self.followed = teacher, average, followed
        self.pictures, self.size, self.classes = pictures, batch, len(pictures.classes)
        self.schedule = Schedule()

    def count(self, share: float) -> int:
        open_counts = [count for count, start in zip(COUNTS, STARTS, strict=True) if share >= start]
        if len(open_counts) == 1 or torch.rand(()) < NEWEST:
            return open_counts[-1]
        return open_counts[int(torch.randint(len(open_counts) - 1, ()))]

    def guided(self, sample: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        both = self.teacher(sample.repeat(2, 1, 1, 1), times.float().repeat(2), torch.cat([torch.full_like(labels, self.classes), labels]))
        without, with_class = both.float().chunk(2)
        return without + GUIDANCE * (with_class - without)

    @torch.no_grad()
    def target(self, sample: Tensor, times: Tensor, labels: Tensor, count: int) -> Tensor:
        """The v with which one step goes where the teacher's two steps go (Salimans & Ho 2022, algorithm 2)."""
        stride = TIMES // count
        middle, end = times - stride // 2, times - stride
        if count == COUNTS[0]:
            halfway = self.schedule.ddim(sample, self.guided(sample, times, labels), times, middle)
            arrived = self.schedule.ddim(halfway, self.guided(halfway, middle, labels), middle, end)
        else:
            self.followed.load_state_dict(self.average.weights)
            counts = torch.full_like(labels, 2 * count)
            first = self.followed(sample, times.float(), labels, counts).float()
            halfway = self.schedule.ddim(sample, first, times, middle)
            second = self.followed(halfway, middle.float(), labels, counts).float()
            arrived = self.schedule.ddim(halfway, second, middle, end)
        alpha, sigma = self.schedule.at(times)
        end_alpha, end_sigma = self.schedule.at(end)
        ratio = end_sigma / sigma
        picture = ((arrived - ratio * sample) / (end_alpha - ratio * alpha)).clamp(-1, 1)
        return (alpha * sample - picture) / sigma

    def loss(self, network: nn.Module, share: float) -> Tensor:
        clean, labels = clean_batch(self.pictures, self.size)
        count = self.count(share)
        times = TIMES - 1 - torch.randint(count, (self.size,)) * (TIMES // count)
        alpha, sigma = self.schedule.at(times)
        sample = alpha * clean + sigma * torch.randn(clean.shape)
        wanted = self.target(sample, times, labels, count)
        made = network(sample, times.float(), labels, torch.full_like(labels, count))
        return (made.float() - wanted).square().mean()


def main() -> None:
    args = arguments(__doc__.splitlines()[0], ("progressive",))
    pictures = Pictures(args.data, held_out=False)
    teacher, noted = load(args.work / "ddpm.pt")
    student, _ = load(args.work / "ddpm.pt", step_counts=True)
    followed, _ = load(args.work / "ddpm.pt", step_counts=True)
    average = run.Average(student, 0.99)
    distillation = Distillation(teacher.eval(), average, followed.eval(), pictures, args.settings["batch"])
    facts = {"pictures": len(pictures), "classes": len(pictures.classes), "step_counts": True, "guidance": GUIDANCE,
             "warm_minutes": noted["minutes"]}
    train(student, args, distillation.loss, facts, args.settings["rate"] * RATE_SHARE, average=average)


if __name__ == "__main__":
    main()
