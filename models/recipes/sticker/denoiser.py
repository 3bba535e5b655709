"""The denoiser and the text encoder, both small transformers.

The denoiser sees the 8x8 latents as 16 tokens of 2x2 places, so its width goes into parameters rather than into many
tokens. The caption comes in twice: word by word, as further keys and values of every attention, and as one pooled
vector that with the time sets scale, shift and gate of every layer.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoencoder import LATENT
from captions import LENGTH, PLURAL, UNKNOWN

SIDE, PATCH = 8, 2
TOKENS, TOKEN_WIDTH = (SIDE // PATCH) ** 2, LATENT * PATCH * PATCH


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Plain softmax attention: on a CPU its backward pass is faster than the fused one."""
    # Lengths and widths are fixed, and as plain numbers they stay out of the exported graph.
    width = int(query.shape[-1])
    query, key, value = (x.reshape(-1, int(x.shape[1]), heads, width // heads).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(-1, -2) * (width // heads) ** -0.5
    if mask is not None:
        scores = scores + mask
    made = (scores.softmax(-1) @ value).transpose(1, 2)
    return made.reshape(-1, int(made.shape[1]), width)


class TextLayer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.width, self.heads = width, heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.out(attend(*self.qkv(self.norm1(x)).split(self.width, dim=-1), self.heads, mask))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class TextEncoder(nn.Module):
    """(b, LENGTH) word numbers to (b, LENGTH, 2 * width): each word's own vector, then the caption's pooled one.

    Padding and unknown words are masked and come out as zero in their own half, so they say nothing. A word that no
    caption held is a mixture of words that captions did hold (`mix`). A number from PLURAL on is the plural of a word.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.plural = nn.Parameter(torch.randn(width) * 0.02)
        self.places = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        self.pool = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.layers = nn.ModuleList(TextLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.3)
        self.mix(torch.arange(vocabulary)[:, None].repeat(1, 3), torch.tensor([1.0, 0.0, 0.0]).repeat(vocabulary, 1))

    def mix(self, near: Tensor, share: Tensor) -> None:
        """Sets for every word, known ones first, up to three known words and their shares."""
        where = self.words.weight.device
        self.register_buffer("near", near.to(where, torch.int16), persistent=False)
        self.register_buffer("share", share.to(where, torch.float32), persistent=False)

    def forward(self, input_ids: Tensor, blur: float = 0.0) -> Tensor:
        """With `blur`, words of a training caption lean to their neighbours now and then, as unheard words will."""
        several = (input_ids >= PLURAL).long()
        numbers = input_ids - several * PLURAL
        share = self.share[numbers]
        if blur > 0:
            lean = torch.rand_like(share[..., :1]) * 0.4 * (torch.rand_like(share[..., :1]) < blur)
            share = share * (1 - lean) + lean * torch.tensor([0.0, 0.6, 0.4], device=share.device)
        x = (self.words(self.near[numbers].long()) * share[..., None]).sum(dim=-2)
        spoken = (input_ids > UNKNOWN).float()
        mask = F.pad((spoken - 1) * 1e4, (1, 0))[:, None, None, :]
        x = x + several[..., None].to(x.dtype) * self.plural + self.places
        x = torch.cat([self.pool + 0 * x[:, :1], x], dim=1)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        pooled, own = x[:, :1], x[:, 1:] * spoken[..., None]
        return torch.cat([own, pooled.expand(-1, LENGTH, -1)], dim=-1)


def modulation(width: int, outputs: int, rank: int | None) -> nn.Module:
    """Scales, shifts and gates of a condition; a student's come through `rank` numbers, which saves most of the weights."""
    last = nn.Linear(rank or width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, rank, bias=False), last) if rank else last


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, text_width: int, rank: int | None, hidden: int):
        super().__init__()
        self.width, self.heads = width, heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.query_norm, self.key_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.text_kv = nn.Linear(text_width, 2 * width, bias=False)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.modulation = modulation(width, 6 * width, rank)

    def forward(self, x: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].split(self.width, dim=-1)
        query, key, value = self.qkv(self.norm1(x) * (1 + scale1) + shift1).split(self.width, dim=-1)
        text_key, text_value = self.text_kv(text).split(self.width, dim=-1)
        key, value = torch.cat([key, text_key], dim=1), torch.cat([value, text_value], dim=1)
        x = x + gate1 * self.out(attend(self.query_norm(query), self.key_norm(key), value, self.heads))
        hidden = F.gelu(self.up(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.down(hidden)


class Denoiser(nn.Module):
    """Noisy latents (b, 16, 8, 8), time (0 to 1000) and the text encoder's output to the velocity, noise minus clean."""

    def __init__(self, width: int, layers: int, heads: int, text_width: int, rank: int | None = None, hidden: int | None = None):
        super().__init__()
        self.width, self.text_width = width, text_width
        self.enter = nn.Linear(TOKEN_WIDTH, width)
        self.places = nn.Parameter(torch.randn(1, TOKENS, width) * 0.2)
        self.time1, self.time2 = nn.Linear(128, width), nn.Linear(width, width)
        self.pooled = nn.Linear(text_width, width)
        self.layers = nn.ModuleList(Layer(width, heads, text_width, rank, hidden or 4 * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = modulation(width, 2 * width, rank)
        self.leave = nn.Linear(width, TOKEN_WIDTH)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 64)), persistent=False)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        own, pooled = encoder_hidden_states.split(self.text_width, dim=-1)
        angles = (timestep / 1000).reshape(-1, 1) * self.frequencies
        time = self.time2(F.silu(self.time1(torch.cat([angles.sin(), angles.cos()], dim=-1))))
        condition = F.silu(time + self.pooled(pooled[:, 0]))
        x = self.enter(to_tokens(sample)) + self.places
        for layer in self.layers:
            x = layer(x, own, condition)
        shift, scale = self.modulation(condition)[:, None].split(self.width, dim=-1)
        return to_places(self.leave(self.norm(x) * (1 + scale) + shift))


def to_tokens(latent: Tensor) -> Tensor:
    """(b, 16, 8, 8) to (b, 16 tokens, 64): every token one 2x2 square of places."""
    n = SIDE // PATCH
    x = latent.reshape(-1, LATENT, n, PATCH, n, PATCH)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, TOKENS, TOKEN_WIDTH)


def to_places(tokens: Tensor) -> Tensor:
    n = SIDE // PATCH
    x = tokens.reshape(-1, n, n, LATENT, PATCH, PATCH)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, LATENT, SIDE, SIDE)


class Model(nn.Module):
    """Text encoder and denoiser, trained as one."""

    def __init__(self, settings: dict, vocabulary: int):
        super().__init__()
        text_width = settings["text_width"]
        self.text_encoder = TextEncoder(vocabulary, text_width, settings["text_layers"], settings["text_heads"])
        self.denoiser = Denoiser(settings["width"], settings["layers"], settings["heads"], text_width,
                                 settings.get("rank"), settings.get("hidden"))

    def forward(self, sample: Tensor, timestep: Tensor, input_ids: Tensor, blur: float = 0.0) -> Tensor:
        return self.denoiser(sample, timestep, self.text_encoder(input_ids, blur))
