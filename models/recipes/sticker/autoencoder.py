"""The autoencoder: 64x64 RGBA pictures to 16 channels of 8x8 latents and back.

Pictures go in and come out as straight alpha on [-1, 1]. Inside, colour is multiplied by alpha first, so what
lies under a transparent pixel changes nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT = 16


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Encoder(nn.Module):
    """(b, 4, 64, 64) to (b, 32, 8, 8): means, then log variances."""

    def __init__(self, widths: tuple[int, int, int]):
        super().__init__()
        fine, middle, coarse = widths
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(16, fine, 3, padding=1), Residual(fine),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1), Residual(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1), Residual(coarse),
            nn.GroupNorm(8, coarse), nn.SiLU(), nn.Conv2d(coarse, 2 * LATENT, 1),
        )
        # Little noise at the start: the decoder then has something to learn from at once.
        nn.init.constant_(self.body[-1].bias[LATENT:], -5.0)

    def forward(self, picture: Tensor) -> Tensor:
        mean, log_variance = self.body(premultiplied(picture)).split(LATENT, dim=1)
        return torch.cat([mean, log_variance.clamp(-12, 4)], dim=1)


class Decoder(nn.Module):
    """(b, 16, 8, 8) to (b, 4, 64, 64)."""

    def __init__(self, widths: tuple[int, int, int]):
        super().__init__()
        fine, middle, coarse = widths
        self.body = nn.Sequential(
            nn.Conv2d(LATENT, coarse, 3, padding=1), Residual(coarse),
            nn.Conv2d(coarse, 4 * middle, 1), nn.PixelShuffle(2), Residual(middle), Residual(middle),
            nn.Conv2d(middle, 4 * fine, 1), nn.PixelShuffle(2), Residual(fine), Residual(fine),
            nn.GroupNorm(8, fine), nn.SiLU(), nn.Conv2d(fine, 16, 3, padding=1), nn.PixelShuffle(2),
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.body(latent)


class Autoencoder(nn.Module):
    def __init__(self, widths: tuple[int, int, int]):
        super().__init__()
        self.encoder, self.decoder = Encoder(widths), Decoder(widths)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(picture).chunk(2, dim=1)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(latent), mean, log_variance


def premultiplied(picture: Tensor) -> Tensor:
    """Straight alpha on [-1, 1] to colour times alpha and alpha, again on [-1, 1]."""
    colour, alpha = picture[:, :3] * 0.5 + 0.5, picture[:, 3:] * 0.5 + 0.5
    return torch.cat([colour * alpha, alpha], dim=1) * 2 - 1


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture[..., 1:, :] - picture[..., :-1, :], picture[..., 1:] - picture[..., :-1]


def reconstruction(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 on premultiplied colour and alpha, and L1 on their slopes, which keeps outlines sharp."""
    made, wanted = premultiplied(made), premultiplied(wanted)
    loss = F.l1_loss(made, wanted)
    for a, b in zip(slopes(made), slopes(wanted), strict=True):
        loss = loss + F.l1_loss(a, b)
    return loss


class Normalized(nn.Module):
    """An autoencoder half whose latents have mean 0 and deviation 1 in every channel, as the denoiser wants them."""

    def __init__(self, inner: nn.Module, mean: Tensor, deviation: Tensor):
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.reshape(1, -1, 1, 1))


class NormalizedEncoder(Normalized):
    def forward(self, sample: Tensor) -> Tensor:
        mean, log_variance = self.inner(sample).split(LATENT, dim=1)
        return torch.cat([(mean - self.mean) / self.deviation, log_variance - 2 * self.deviation.log()], dim=1)


class NormalizedDecoder(Normalized):
    def forward(self, latent_sample: Tensor) -> Tensor:
        return self.inner(latent_sample * self.deviation + self.mean).clamp(-1, 1)
