"""The networks of the clip model: what the sticker model's are wrapped in so that a sticker moves.

A clip's latents have 24 channels for every frame: the 16 of the still sticker, then the frame's gesture, each of its eight numbers at every
place. So a frame is told apart into what there is and how it stands, and the decoder puts the two together: it decodes the still sticker
and fetches every pixel from where the gesture says (Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks",
2015, arXiv:1506.02025).
"""

import math

import torch
from torch import Tensor, nn

import neighbour
import motions
from captions import PAD, PLURAL
from denoiser import Denoiser, TextEncoder

STILL = 16
CHANNELS = STILL + motions.GESTURE
HARMONICS = 4


class Conductor(nn.Module):
    """Motions (n, 7), 0 or 1, and phases (n,) on [0, 1) to gestures (n, 8)."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(len(motions.MOTIONS) + 2 * HARMONICS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                  nn.Linear(width, motions.GESTURE))
        self.register_buffer("turns", 2 * math.pi * torch.arange(1, HARMONICS + 1), persistent=False)

    def forward(self, asked: Tensor, phase: Tensor) -> Tensor:
        angles = phase[:, None] * self.turns
        return self.body(torch.cat([asked, angles.sin(), angles.cos()], dim=1))


class ClipText(nn.Module):
    """Word numbers (b, l) to (b, l, 2 * width + 7): what the sticker's text encoder says, then which motion a word means.

    Motions are numbered from `first`. The sticker's encoder is not told of them, so they change nothing about the thing.
    """

    def __init__(self, encoder: TextEncoder, first: int):
        super().__init__()
        if first + len(motions.MOTIONS) > PLURAL:
            raise ValueError(f"motions are numbered from {first}, which leaves no room below the plurals at {PLURAL}")
        self.encoder = encoder
        self.register_buffer("numbers", first + torch.arange(len(motions.MOTIONS)), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        meant = (input_ids[..., None] == self.numbers).float()
        things = torch.where(meant.sum(-1) > 0, torch.full_like(input_ids, PAD), input_ids)
        return torch.cat([self.encoder(things), meant], dim=-1)


class ClipDenoiser(nn.Module):
    """Noisy latents of a clip (b, 24, f, 8, 8), the scheduler's time and the text to the velocity, noise minus clean.

    The sticker's denoiser draws the thing once, from the first frame's noise, for all frames; the conductor gives each frame its gesture, the
    frames being spread evenly over one turn. `times` is the time of pure noise.
    """

    def __init__(self, still: Denoiser, conductor: Conductor, times: int):
        super().__init__()
        self.still, self.conductor, self.times = still, conductor, times

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        thing, meant = encoder_hidden_states.split([2 * self.still.text_width, len(motions.MOTIONS)], dim=-1)
        share = timestep / self.times
        first = sample[:, :STILL, 0]
        clean = first - share * self.still(first, share * 1000, thing)
        count = sample.shape[2]
        phase = torch.arange(count, device=sample.device).float() / count
        asked = (meant.sum(1) > 0.5).float()
        together = asked[:, None].expand(-1, count, -1).flatten(0, 1)
        gesture = self.conductor(together, phase.repeat(sample.shape[0]))
        gesture = gesture.view(-1, count, motions.GESTURE).transpose(1, 2)[..., None, None].expand(-1, -1, -1, 8, 8)
        clean = torch.cat([clean[:, :, None].expand(-1, -1, count, -1, -1), gesture], dim=1)
        return (sample - clean) / share.clamp_min(1e-3)


class Posed(nn.Module):
    """The end of the decoder: still stickers (b, 4, 64, 64), straight alpha on [-1, 1], and the clip's latents to frames of the same form."""

    def __init__(self, side: int = 64):
        super().__init__()
        for name, count in zip(("rows", "columns"), motions.FINE, strict=True):
            self.register_buffer(name, motions.places(count * side), persistent=False)

    def forward(self, picture: Tensor, latent: Tensor) -> Tensor:
        gesture = latent[:, STILL:].mean((2, 3))
        return motions.straight(motions.posed(motions.shown(picture), gesture, self.rows, self.columns))
