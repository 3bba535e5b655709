"""Puts a bundle's ONNX files in place of a pipeline's torch modules.

The golden pictures come from torch; the same pipeline over the bundle shows how far ONNX Runtime's rounding alone moves
them, and that bundle and pictures belong together.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPTextModelOutput

from agreement import session

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class Network:
    def __init__(self, folder: Path):
        self.session = session(folder / "model.onnx")
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, **values: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = {}
        for wanted in self.session.get_inputs():
            value = values[wanted.name].detach().numpy().astype(TYPES[wanted.type])
            if value.ndim == 0 and len(wanted.shape) == 1:
                value = np.repeat(value, values["sample"].shape[0])
            inputs[wanted.name] = value
        found = self.session.run(self.outputs, inputs)
        return {name: torch.from_numpy(value.astype(np.float32)) for name, value in zip(self.outputs, found)}


def use_onnx(pipeline, bundle: Path) -> None:
    for role in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if (bundle / role).is_dir():
            getattr(pipeline, role).forward = text_encoder(Network(bundle / role))
    if (bundle / "transformer").is_dir():
        pipeline.transformer.forward = transformer(Network(bundle / "transformer"))
    else:
        pipeline.unet.forward = denoiser(Network(bundle / "unet"))
    decoder = Network(bundle / "vae_decoder")
    pipeline.vae.decode = lambda latent, **_: (decoder(latent_sample=latent)["sample"],)
    if not (bundle / "vae_encoder").is_dir():
        return
    encoder = Network(bundle / "vae_encoder")

    def encode(sample):
        found = encoder(sample=sample)
        if "latent_sample" in found:
            return SimpleNamespace(latents=found["latent_sample"], latent=found["latent_sample"])
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(found["latent_parameters"]))

    pipeline.vae.encode = encode


def text_encoder(network: Network):
    def forward(input_ids, attention_mask=None, **_):
        found = network(input_ids=input_ids, attention_mask=attention_mask)
        count = sum(name.startswith("hidden_states.") for name in found)
        hidden = tuple(found[f"hidden_states.{at}"] for at in range(count)) or None
        if "text_embeds" in found:
            return CLIPTextModelOutput(found["text_embeds"], found["last_hidden_state"], hidden)
        return BaseModelOutputWithPooling(found["last_hidden_state"], found.get("pooler_output"), hidden)

    return forward


def denoiser(network: Network):
    def forward(sample, timestep, encoder_hidden_states, timestep_cond=None, added_cond_kwargs=None, **_):
        extra = dict(added_cond_kwargs or {})
        if timestep_cond is not None:
            extra["timestep_cond"] = timestep_cond
        found = network(sample=sample, timestep=timestep, encoder_hidden_states=encoder_hidden_states, **extra)
        return (found["out_sample"],)

    return forward


def transformer(network: Network):
    def forward(hidden_states, added_cond_kwargs=None, return_dict=False, **values):
        told = {name: value for name, value in (values | (added_cond_kwargs or {})).items() if torch.is_tensor(value)}
        return (network(hidden_states=hidden_states, **told)["out_hidden_states"],)

    return forward
