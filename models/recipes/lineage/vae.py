"""Variational autoencoder: an encoder to the posterior's mean and log-variance, a decoder to the mean of p(x|z), both told the class.

Kingma & Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114. The likelihood is a Gaussian whose one deviation is the
best for the pictures at hand (Rybkin, Daniilidis & Levine 2020, "Simple and Effective VAE Training with Calibrated Decoders",
arXiv:2006.13202, eq. 3).
"""

from pathlib import Path

import torch
from torch import Tensor, nn

import onnx_file


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 16), channels)


class Block(nn.Module):
    """Two convolutions beside a skip; the class shifts the middle."""

    def __init__(self, channels: int, out_channels: int, classes: int):
        super().__init__()
        self.norm_in, self.convolution_in = norm(channels), nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm_out, self.convolution_out = norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        self.shift = nn.Embedding(classes, out_channels)
        self.activation = nn.SiLU()
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.convolution_out.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.convolution_in(self.activation(self.norm_in(x))) + self.shift(labels)[:, :, None, None]
        return self.skip(x) + self.convolution_out(self.activation(self.norm_out(y)))


class Frame(nn.Module):
    """A Gaussian prior for each class, N(centre, spread spread^T), told in coordinates in which it is N(0, I)."""

    def __init__(self, latent_size: int, classes: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(classes, latent_size))
        self.register_buffer("spread", torch.eye(latent_size).repeat(classes, 1, 1))
        self.register_buffer("inverse", torch.eye(latent_size).repeat(classes, 1, 1))

    def into(self, mean: Tensor, log_variance: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A diagonal posterior in the new coordinates: the mean moves along, the variances are the nearest that are diagonal again."""
        moved = (self.inverse[labels] @ (mean - self.centre[labels])[:, :, None])[:, :, 0]
        precision = (self.spread[labels].square().transpose(1, 2) @ (-log_variance).exp()[:, :, None])[:, :, 0]
        return moved, -precision.log()

    def out_of(self, latent: Tensor, labels: Tensor) -> Tensor:
        return self.centre[labels] + (self.spread[labels] @ latent[:, :, None])[:, :, 0]

    @torch.no_grad()
    def fit(self, mean: Tensor, log_variance: Tensor, labels: Tensor) -> None:
        """Takes as prior of a class the mean and covariance of its posteriors, given in the present coordinates; classes lend each other covariance."""
        mean, variance = mean.double(), log_variance.double().exp()
        classes, size = self.centre.shape
        centres = torch.stack([mean[labels == k].mean(0) for k in range(classes)])
        apart = mean - centres[labels]
        shared = apart.T @ apart / len(apart)
        for k in range(classes):
            own = apart[labels == k]
            share = len(own) / (len(own) + 2 * size)
            covariance = share * own.T @ own / len(own) + (1 - share) * shared + variance[labels == k].mean(0).diag()
            spread = self.spread[k].double()
            self.centre[k] += (spread @ centres[k]).float()
            self.spread[k] = (spread @ torch.linalg.cholesky(covariance)).float()
            self.inverse[k] = torch.linalg.inv(self.spread[k].double()).float()


class Encoder(nn.Module):
    """[B, 3, S, S] in [-1, 1] and labels [B] to mean and log-variance [B, D]; each width after the first halves the sides."""

    def __init__(self, widths: tuple[int, ...], latent_size: int, classes: int, side: int = 32):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        # The full size has no block: it would take half of the encoder's time.
        self.blocks = nn.ModuleList(Block(wide, wide, classes) for wide, _ in pairs[1:])
        self.halve = nn.ModuleList(nn.Conv2d(wide, narrow, 3, stride=2, padding=1) for wide, narrow in pairs)
        self.last = Block(widths[-1], widths[-1], classes)
        self.norm = norm(widths[-1])
        self.head = nn.Linear(widths[-1] * (side >> len(pairs)) ** 2, 2 * latent_size)
        self.frame = Frame(latent_size, classes)

    def forward(self, sample: Tensor, class_labels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.halve[0](nn.functional.silu(self.stem(sample)))
        for block, halve in zip(self.blocks, self.halve[1:], strict=True):
            x = halve(block(x, class_labels))
        x = nn.functional.silu(self.norm(self.last(x, class_labels)))
        mean, log_variance = self.head(x.flatten(1)).float().chunk(2, dim=1)
        return self.frame.into(mean, log_variance.clamp(-12, 4), class_labels)


class Decoder(nn.Module):
    """Latents [B, D] and labels [B] to the mean of p(x|z), [B, 3, S, S] in [-1, 1]."""

    def __init__(self, widths: tuple[int, ...], latent_size: int, classes: int, side: int = 32):
        super().__init__()
        self.side, self.widths = side >> (len(widths) - 1), widths
        self.begin = nn.Linear(latent_size, widths[-1] * self.side**2)
        self.begin_class = nn.Embedding(classes, widths[-1] * self.side**2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.first = Block(widths[-1], widths[-1], classes)
        self.shrink = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairs)
        self.blocks = nn.ModuleList(Block(narrow, narrow, classes) for _, narrow in pairs)
        self.norm = norm(widths[0])
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)
        self.frame = Frame(latent_size, classes)
        nn.init.normal_(self.begin_class.weight, std=0.1)

    def forward(self, latent: Tensor, class_labels: Tensor) -> Tensor:
        latent = self.frame.out_of(latent, class_labels)
        x = (self.begin(latent) + self.begin_class(class_labels)).reshape(-1, self.widths[-1], self.side, self.side)
        x = self.first(x, class_labels)
        for shrink, block in zip(self.shrink, self.blocks, strict=True):
            x = block(nn.functional.interpolate(shrink(x), scale_factor=2.0, mode="nearest"), class_labels)
        return torch.tanh(self.head(nn.functional.silu(self.norm(x))).float())


class Autoencoder(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128), latent_size: int = 64, classes: int = 8, side: int = 32):
        super().__init__()
        self.encoder = Encoder(widths, latent_size, classes, side)
        self.decoder = Decoder(widths, latent_size, classes, side)
        self.latent_size, self.classes, self.side = latent_size, classes, side

    @torch.no_grad()
    def fit_prior(self, sample: Tensor, labels: Tensor) -> None:
        """Gives each class the Gaussian prior that its pictures' posteriors have together."""
        parts = [self.encoder(x, y) for x, y in zip(sample.split(128), labels.split(128), strict=True)]
        self.encoder.frame.fit(*(torch.cat(part) for part in zip(*parts, strict=True)), labels)
        self.decoder.frame.load_state_dict(self.encoder.frame.state_dict())


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) in nats for each picture [B] (arXiv:1312.6114, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def export_vae(network: Autoencoder, folder: Path, deviation: float, bits: int = 32) -> float:
    """Writes `encoder/` and `decoder/` under `folder`; gives the largest difference from PyTorch."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, network.classes - 1])
    sample = torch.rand(2, 3, network.side, network.side, generator=generator) * 2 - 1
    latent = torch.randn(2, network.latent_size, generator=generator)
    worst = max(
        onnx_file.export(network.encoder, folder / "encoder" / "model.onnx", {"sample": sample, "class_labels": labels},
                         ["mean", "log_variance"], bits),
        onnx_file.export(network.decoder, folder / "decoder" / "model.onnx", {"latent": latent, "class_labels": labels}, ["sample"], bits),
    )
    shared = {"latent_size": network.latent_size, "sample_size": network.side}
    onnx_file.write_config(folder / "encoder" / "config.json", {"_class_name": "VaeEncoder", **shared, "in_channels": 3})
    onnx_file.write_config(folder / "decoder" / "config.json",
                           {"_class_name": "VaeDecoder", **shared, "out_channels": 3, "deviation": deviation})
    return worst
