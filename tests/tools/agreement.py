"""Holds an exported bundle against the torch modules that it came from."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

LIMIT = 1e-4


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_agreement(pipeline, bundle: Path, limit: float = LIMIT) -> float:
    """Runs every component on random input of an odd batch and a size that is not the default; the largest difference."""
    generator = torch.Generator("cpu").manual_seed(7)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    worst = 0.0
    with torch.no_grad():
        for role in ("text_encoder", "text_encoder_2"):
            encoder = getattr(pipeline, role, None)
            if encoder is None:
                continue
            ids = pipeline.tokenizer(["a red cat", "", "sun " * 90], padding="max_length", truncation=True)["input_ids"]
            ids = torch.tensor(ids)
            expected = encoder(ids, output_hidden_states=True)
            found = run(bundle / role, input_ids=ids)
            for name, value in found.items():
                key, _, at = name.partition(".")
                reference = expected[key][int(at)] if at else expected[key]
                worst = max(worst, difference(bundle, role, name, value, reference, limit))

        unet = pipeline.unet
        latent = noise(3, unet.config.in_channels, 12, 20)
        words = noise(3, 77, unet.config.cross_attention_dim)
        extra, added = {}, None
        if unet.config.time_cond_proj_dim:
            extra["timestep_cond"] = noise(3, unet.config.time_cond_proj_dim)
        if unet.config.addition_embed_type == "text_time":
            added = {
                "text_embeds": noise(3, pipeline.text_encoder_2.config.projection_dim),
                "time_ids": torch.tensor([[48.0, 80.0, 0.0, 0.0, 48.0, 80.0]]).repeat(3, 1),
            }
        for timestep in (999.0, 420.5, 0.0):
            expected = unet(latent, torch.tensor(timestep), words, added_cond_kwargs=added, **extra).sample
            inputs = {"sample": latent, "timestep": torch.tensor(timestep), "encoder_hidden_states": words}
            found = run(bundle / "unet", **inputs, **extra, **(added or {}))
            worst = max(worst, difference(bundle, "unet", "out_sample", found["out_sample"], expected, limit))

        picture = noise(3, 3, 48, 80)
        found = run(bundle / "vae_encoder", sample=picture)["latent_parameters"]
        expected = pipeline.vae.encode(picture).latent_dist.parameters
        worst = max(worst, difference(bundle, "vae_encoder", "latent_parameters", found, expected, limit))

        latent = noise(3, 4, 12, 20) * 5
        found = run(bundle / "vae_decoder", latent_sample=latent)["sample"]
        expected = pipeline.vae.decode(latent).sample
        worst = max(worst, difference(bundle, "vae_decoder", "sample", found, expected, limit))
    return worst


def run(folder: Path, **inputs: torch.Tensor) -> dict[str, np.ndarray]:
    network = session(folder / "model.onnx")
    names = [output.name for output in network.get_outputs()]
    return dict(zip(names, network.run(names, {name: value.numpy() for name, value in inputs.items()})))


def difference(bundle: Path, role: str, output: str, found: np.ndarray, expected: torch.Tensor, limit: float) -> float:
    if found.shape != tuple(expected.shape):
        raise SystemExit(f"{bundle.name}/{role}: `{output}` is {found.shape}, torch gives {tuple(expected.shape)}")
    value = float(np.abs(found - expected.numpy()).max())
    if not value < limit:
        raise SystemExit(f"{bundle.name}/{role}: `{output}` differs from torch by {value}, at most {limit} is allowed")
    return value
