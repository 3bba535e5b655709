"""The one denoiser that ddpm, cnf, score, progressive and consistency share: a small class-conditional U-Net.

It sees a picture as 2x2 pixels folded into channels, so that its first convolutions work on a quarter of the places. Most
parameters lie where the places are fewest. Norms run over the channels of each place: on a CPU that is faster than norms over
groups, and the time's scale and shift keep the network from losing the picture's level.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 64


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Plain softmax attention over (b, places, width): on a CPU its backward pass is faster than the fused one."""
    # Lengths and widths are fixed, and as plain numbers they stay out of the exported graph.
    places, width = int(query.shape[1]), int(query.shape[2])
    query, key, value = (x.reshape(-1, places, heads, width // heads).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-1, -2) * (width // heads) ** -0.5
    return (scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, places, width)


class ChannelNorm(nn.Module):
    """Mean zero and deviation one over the channels of each place, then a learned scale and shift."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), (self.width,), self.weight, self.bias).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions; the condition scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int, condition: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(inputs), ChannelNorm(outputs)
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.convolution2.weight)
        nn.init.zeros_(self.convolution2.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.convolution1(F.silu(self.norm1(x)))
        return self.skip(x) + self.convolution2(F.silu(self.norm2(hidden) * (1 + scale) + shift))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.width, self.heads = width, heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        side = int(x.shape[-1])
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        made = self.out(attend(*self.qkv(tokens).chunk(3, dim=-1), self.heads))
        return x + made.transpose(1, 2).reshape(-1, self.width, side, side)


class Condition(nn.Module):
    """Time, class and (where there is one) the count of steps as one vector."""

    def __init__(self, width: int, classes: int, step_counts: bool):
        super().__init__()
        self.time1, self.time2 = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)
        self.classes = nn.Embedding(classes + 1, width)
        self.counts = nn.Linear(FREQUENCIES, width) if step_counts else None
        if self.counts is not None:
            # A student starts as its teacher, which knew no counts.
            nn.init.zeros_(self.counts.weight)
            nn.init.zeros_(self.counts.bias)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), FREQUENCIES)), persistent=False)

    def forward(self, timestep: Tensor, class_labels: Tensor, step_count: Tensor | None) -> Tensor:
        angles = timestep.reshape(-1, 1) / 1000 * self.frequencies
        time = self.time2(F.silu(self.time1(torch.cat([angles.sin(), angles.cos()], dim=-1))))
        vector = time + self.classes(class_labels)
        if self.counts is not None:
            doublings = step_count.float().log2().reshape(-1, 1) * self.frequencies[: FREQUENCIES // 2] / 10
            vector = vector + self.counts(torch.cat([doublings.sin(), doublings.cos()], dim=-1))
        return F.silu(vector)


class Unet(nn.Module):
    """The network of DDPM (Ho et al. 2020) with the prediction of Salimans & Ho 2022 (arXiv:2202.00512), v.

    `sample` (b, 3, side, side) f32 is alpha * picture + sigma * noise, the picture in [-1, 1]; `timestep` (b) f32 from -1 to 999
    is a place on the cosine schedule; `class_labels` (b) i64, where `classes` itself means "no class"; `step_count` (b) i64, only
    with `step_counts`. Gives v = alpha * noise - sigma * picture, of the sample's shape.
    Last layers start at zero: an untrained network gives zeros.
    """

    def __init__(self, widths: tuple[int, ...] = (48, 96, 128), blocks: tuple[int, ...] = (1, 1, 1), condition: int = 128,
                 heads: int = 4, classes: int = 8, step_counts: bool = False):
        super().__init__()
        self.condition = Condition(condition, classes, step_counts)
        self.enter = nn.Conv2d(12, widths[0], 3, padding=1)
        self.fold, self.unfold = nn.ModuleList(), nn.ModuleList()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            above = widths[max(level - 1, 0)]
            self.fold.append(nn.Conv2d(4 * above, width, 1) if level else nn.Identity())
            self.unfold.append(nn.Conv2d(width, 4 * above, 1) if level else nn.Identity())
            self.down.append(nn.ModuleList(Residual(width, width, condition) for _ in range(count)))
            self.up.append(nn.ModuleList(Residual(width * (1 if i else 2), width, condition) for i in range(count)))
        self.down_attention = nn.ModuleList(Attention(width, heads) for width in widths[1:])
        self.up_attention = nn.ModuleList(Attention(width, heads) for width in widths[1:])
        self.middle = Residual(widths[-1], widths[-1], condition)
        self.norm, self.leave = ChannelNorm(widths[0]), nn.Conv2d(widths[0], 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor, step_count: Tensor | None = None) -> Tensor:
        condition = self.condition(timestep, class_labels, step_count)
        x = self.enter(F.pixel_unshuffle(sample, 2).contiguous(memory_format=torch.channels_last))
        kept = []
        for level, blocks in enumerate(self.down):
            x = self.fold[level](F.pixel_unshuffle(x, 2)) if level else x
            for block in blocks:
                x = block(x, condition)
            x = self.down_attention[level - 1](x) if level else x
            kept.append(x)
        x = self.middle(x, condition)
        for level in reversed(range(len(self.up))):
            x = torch.cat([x, kept[level]], dim=1)
            for block in self.up[level]:
                x = block(x, condition)
            if level:
                x = F.pixel_shuffle(self.unfold[level](self.up_attention[level - 1](x)), 2)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(x))), 2)
