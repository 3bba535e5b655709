"""Draws prompts with the teacher (PyTorch) or with an exported bundle (ONNX Runtime); pictures are (n, 64, 64, 4) uint8."""

from pathlib import Path

import diffusers
import json
import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import Tensor

import data
import neighbours
import prune
import run
from autoencoder import Autoencoder, NormalizedDecoder
from captions import LENGTH, Captions
from distil import Guided

BATCH = 64


def to_pictures(sample: np.ndarray) -> np.ndarray:
    return np.clip((sample.transpose(0, 2, 3, 1) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def noises(seeds: list[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Every picture starts from the noise of its own seed, whatever is drawn beside it."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.cat([torch.randn(1, 16, 8, 8, generator=g) for g in generators]), generators


def decoder(work: Path) -> NormalizedDecoder:
    weights, facts = run.averaged(work / "autoencoder.pt")
    network = Autoencoder(facts["widths"]).eval()
    network.load_state_dict(weights)
    if (work / "decoder.pt").exists():
        network.decoder.load_state_dict(run.averaged(work / "decoder.pt")[0])
    kept = torch.load(work / "latents.pt", weights_only=True)
    return NormalizedDecoder(network.decoder, kept["mean"], kept["deviation"]).requires_grad_(False)


class Teacher:
    """The teacher by Euler's steps along the guided path."""

    def __init__(self, work: Path, scale: float):
        captions = Captions(data.load(work)[1], seed=0)
        self.spellings = captions.spellings(neighbours.load(work, captions.vocabulary))
        self.captions, self.decoder = captions, decoder(work)
        self.guided = Guided(prune.teacher(work, captions.vocabulary)[0], scale)

    @torch.no_grad()
    def draw(self, prompts: list[str], seeds: list[int], steps: int) -> np.ndarray:
        made = []
        for start in range(0, len(prompts), BATCH):
            ids = torch.tensor([self.captions.read(p, self.spellings) for p in prompts[start : start + BATCH]])
            sample, text = noises(seeds[start : start + BATCH])[0], self.guided.network.text_encoder(ids)
            for step in range(steps):
                sample = sample - self.guided(sample, torch.full((len(ids),), 1 - step / steps), text) / steps
            made.append(to_pictures(self.decoder(sample).numpy()))
        return np.concatenate(made)


class Bundle:
    """An exported bundle, from its own files alone: tokenizer, scheduler, text encoder, denoiser, decoder."""

    def __init__(self, folder: Path):
        def session(name: str) -> onnxruntime.InferenceSession:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            return onnxruntime.InferenceSession(folder / name / "model.onnx", options, providers=["CPUExecutionProvider"])

        self.text_encoder, self.unet, self.decoder = session("text_encoder"), session("unet"), session("vae_decoder")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
        self.tokenizer.enable_padding(length=LENGTH, pad_id=0, pad_token="[PAD]")
        self.tokenizer.enable_truncation(LENGTH)
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)

    def draw(self, prompts: list[str], seeds: list[int], steps: int) -> np.ndarray:
        made = []
        for start in range(0, len(prompts), BATCH):
            part = prompts[start : start + BATCH]
            ids = np.array([e.ids for e in self.tokenizer.encode_batch(part)], dtype=np.int64)
            text = self.text_encoder.run(None, {"input_ids": ids})[0]
            latent, generators = noises(seeds[start : start + BATCH])
            self.scheduler.set_timesteps(steps)
            for time in self.scheduler.timesteps:
                inputs = {"sample": latent.numpy(), "timestep": np.array(time, dtype=np.float32), "encoder_hidden_states": text}
                velocity = torch.from_numpy(self.unet.run(None, inputs)[0])
                latent = self.scheduler.step(velocity, time, latent, generator=generators).prev_sample
            made.append(to_pictures(self.decoder.run(None, {"latent_sample": latent.numpy()})[0]))
        return np.concatenate(made)
