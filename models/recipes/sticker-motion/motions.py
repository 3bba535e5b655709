"""The motions: what moves how at which phase of the loop, what they are called, and clips rendered from stickers.

A gesture is what one frame does to the still sticker, eight numbers: the affine map (m00, m01, m10, m11, t0, t1) from a place on the
still picture to a place on the frame, both on [-1, 1] with y downwards, and the two parts of a sideways ripple.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MOTIONS = ["bounce", "spin", "wobble", "wave", "grow", "drift", "blink"]
# Every spelling that means a motion. None of them is told to the part that draws the thing, so words that a sticker's name needs (a
# winking face, a water wave) are not among them; of the stickers' names only `waving hand`, `growing heart` and those of people `bouncing` a ball lose one.
SPELLINGS = {
    "bounce": "bounce bounces bouncing bouncy jump jumps jumping hop hops hopping leaping",
    "spin": "spin spins spinning rotate rotates rotating rotation twirl twirls twirling whirling",
    "wobble": "wobble wobbles wobbling wobbly swing swings swinging sway sways swaying wiggle wiggles wiggling",
    "wave": "waving ripple ripples rippling undulating",
    "grow": "grow grows growing pulse pulses pulsing throbbing swelling inflating",
    "drift": "drift drifts drifting float floats floating gliding hovering",
    "blink": "blink blinks blinking",
}
# The form in which captions and tests say it.
SAID = {"bounce": "bouncing", "spin": "spinning", "wobble": "wobbling", "wave": "waving", "grow": "growing", "drift": "drifting",
        "blink": "blinking"}

# The sticker stands smaller and lower on a clip than on a picture, so that there is room to move in.
SCALE, GROUND = 0.76, 0.06
BOTTOM = GROUND + SCALE
# Radians from the top of the frame to its middle: the ripple holds 1.2 waves.
RIPPLE = 1.2 * math.pi
GESTURE = 8
# Places looked at along a pixel's height and width: more along the height, since a blink presses a sticker flat.
FINE = (4, 2)


def affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(n, 3, 3) of rows (a, b, x) and (c, d, y)."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, x, c, d, y, zero, zero, one], dim=-1).view(-1, 3, 3)


def about(matrix: Tensor, x: float, y: float) -> Tensor:
    """The same map with (x, y) as its fixed point."""
    here, back = torch.eye(3), torch.eye(3)
    here[:2, 2], back[:2, 2] = torch.tensor([x, y]), -torch.tensor([x, y])
    return here @ matrix @ back


def turned(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return affine(angle.cos(), -angle.sin(), angle.sin(), angle.cos(), zero, zero)


def scaled(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return affine(x, zero, zero, y, zero, zero)


def moved(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return affine(one, zero, zero, one, x, y)


def gestures(present: Tensor, phase: Tensor) -> Tensor:
    """Which motions are asked for (n, 7), 0 or 1, and phases on [0, 1) (n,) to gestures (n, 8).

    Where nothing is asked for, the sticker breathes. Several motions go on at once.
    """
    turn, zero = 2 * math.pi * phase, torch.zeros_like(phase)
    asked = dict(zip(MOTIONS, present.unbind(1), strict=True))

    def where(name: str, matrix: Tensor) -> Tensor:
        return torch.lerp(torch.eye(3), matrix, asked[name].view(-1, 1, 1))

    height = turn.sin().abs()
    low = (1 - height).pow(4)
    hop = moved(zero, -0.36 * height) @ about(scaled(1 + 0.10 * low, 1 - 0.16 * low), 0, BOTTOM)
    swing = about(turned(0.30 * (2 * turn).sin()), 0, BOTTOM)
    size = 0.95 + 0.36 * turn.sin()
    drift = moved(0.24 * turn.sin(), -0.08 * (2 * turn).sin()) @ about(turned(0.16 * turn.sin()), 0, GROUND)
    breath = 0.5 - 0.5 * turn.cos()
    idle = (1 - present.sum(1)).clamp_min(0).view(-1, 1, 1)
    breathing = torch.lerp(torch.eye(3), about(scaled(1 + 0.02 * breath, 1 - 0.06 * breath), 0, BOTTOM), idle)
    start = about(scaled(zero + SCALE, zero + SCALE), 0, 0)
    start = moved(zero, zero + GROUND) @ start
    shut = 1 - 0.88 * (1.6 * (0.5 - 0.5 * turn.cos()) - 0.6).clamp_min(0)
    blink = about(scaled(torch.ones_like(shut), shut), 0, GROUND)
    whole = where("drift", drift) @ where("bounce", hop) @ where("wobble", swing) @ where("grow", about(scaled(size, size), 0, GROUND))
    whole = whole @ where("spin", about(turned(turn), 0, GROUND)) @ where("blink", blink) @ breathing @ start
    wave = 0.12 * asked["wave"]
    return torch.stack([whole[:, 0, 0], whole[:, 0, 1], whole[:, 1, 0], whole[:, 1, 1], whole[:, 0, 2], whole[:, 1, 2],
                        wave * turn.cos(), -wave * turn.sin()], dim=1)


def places(side: int) -> Tensor:
    """The middles of a line's `side` cells on [-1, 1]."""
    return (torch.arange(side) * 2 + 1) / side - 1


def field(gesture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gestures (n, 8) and the places of a frame's rows (h,) and columns (w,) to where each place comes from (n, h, w, 2)."""
    m00, m01, m10, m11, t0, t1, sine, cosine = gesture[:, :, None, None].unbind(1)
    y = rows[:, None]
    x = columns[None] + sine * (RIPPLE * y).sin() + cosine * (RIPPLE * y).cos() - t0
    y = y - t1
    # No gesture that is asked for comes near 0, but latents that are no clip's may.
    determinant = (m00 * m11 - m01 * m10).clamp_min(0.01)
    return torch.stack([(m11 * x - m01 * y) / determinant, (m00 * y - m10 * x) / determinant], dim=-1)


def posed(picture: Tensor, gesture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Premultiplied stickers (n, 4, side, side) and gestures to frames, each pixel the mean of all places within it."""
    side = int(picture.shape[-1])
    made = F.grid_sample(picture, field(gesture, rows, columns).clamp(-4, 4), mode="bilinear", align_corners=False)
    return F.avg_pool2d(made, (len(rows) // side, len(columns) // side))


def render(picture: Tensor, gesture: Tensor, fine: tuple[int, int] = FINE) -> Tensor:
    """The same with `fine` places along a pixel's height and width."""
    side = picture.shape[-1]
    return posed(picture, gesture, places(fine[0] * side), places(fine[1] * side))


def premultiplied(pictures: Tensor) -> Tensor:
    """(n, 64, 64, 4) uint8, straight alpha, to (n, 4, 64, 64) on [0, 1] with colour times alpha."""
    x = pictures.float().permute(0, 3, 1, 2) / 255
    return torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)


def shown(frames: Tensor) -> Tensor:
    """(n, 4, 64, 64), straight alpha on [-1, 1], to [0, 1] with colour times alpha."""
    x = frames * 0.5 + 0.5
    return torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)


def straight(frames: Tensor) -> Tensor:
    """Premultiplied on [0, 1] to straight alpha on [-1, 1], as the autoencoder takes and gives it."""
    colour = frames[:, :3] / frames[:, 3:].clamp_min(1 / 512)
    return (torch.cat([colour.clamp(0, 1), frames[:, 3:]], dim=1) * 2 - 1).contiguous()


def drawn(count: int, generator: torch.Generator) -> Tensor:
    """(count, 7): one motion mostly, sometimes two, now and then none."""
    present = torch.zeros(count, len(MOTIONS))
    first, second = torch.randint(len(MOTIONS), (2, count), generator=generator)
    chance = torch.rand(count, generator=generator)
    present.scatter_(1, first[:, None], (chance > 0.08).float()[:, None])
    return torch.maximum(present, torch.zeros_like(present).scatter_(1, second[:, None], (chance > 0.85).float()[:, None]))
