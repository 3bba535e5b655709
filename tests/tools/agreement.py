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
        for role in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            encoder = getattr(pipeline, role, None)
            if encoder is None:
                continue
            tokenizer = getattr(pipeline, role.replace("text_encoder", "tokenizer"))
            length = min(tokenizer.model_max_length, 128)
            ids = tokenizer(["a red cat", "", "sun " * 90], padding="max_length", max_length=length, truncation=True)["input_ids"]
            ids = torch.tensor(ids)
            expected = encoder(ids, output_hidden_states=True)
            found = run(bundle / role, input_ids=ids)
            for name, value in found.items():
                key, _, at = name.partition(".")
                reference = expected[key][int(at)] if at else expected[key]
                worst = max(worst, difference(bundle, role, name, value, reference, limit))

        latent_channels = pipeline.vae.config.latent_channels
        check = denoiser if getattr(pipeline, "unet", None) is not None else transformer
        for role, name, inputs, expected in check(pipeline, noise):
            found = run(bundle / role, **inputs)[name]
            worst = max(worst, difference(bundle, role, name, found, expected, limit))

        picture = noise(3, 3, 48, 80)
        found = run(bundle / "vae_encoder", sample=picture)["latent_parameters"]
        expected = pipeline.vae.encode(picture).latent_dist.parameters
        worst = max(worst, difference(bundle, "vae_encoder", "latent_parameters", found, expected, limit))

        latent = noise(3, latent_channels, 12, 20) * 5
        found = run(bundle / "vae_decoder", latent_sample=latent)["sample"]
        expected = pipeline.vae.decode(latent).sample
        worst = max(worst, difference(bundle, "vae_decoder", "sample", found, expected, limit))
    return worst


def check_masked(pipeline, bundle: Path, limit: float = LIMIT) -> float:
    """The same for a transformer that is told where the padding of texts is; texts of a length that none was traced with."""
    generator = torch.Generator("cpu").manual_seed(7)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def texts(length: int) -> tuple[torch.Tensor, torch.Tensor]:
        read = pipeline.tokenizer(["a red cat", "", "sun " * 90], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return read.input_ids, read.attention_mask

    network, worst = pipeline.transformer, 0.0
    config = network.config
    ids, mask = texts(90)
    with torch.no_grad():
        expected = pipeline.text_encoder(ids, attention_mask=mask)[0]
        found = run(bundle / "text_encoder", input_ids=ids, attention_mask=mask)
        # What stands in the place of padding is read by nobody.
        worst = difference(bundle, "text_encoder", "last_hidden_state", found["last_hidden_state"] * mask[..., None].numpy(), expected * mask[..., None], limit)
        given = {
            "hidden_states": noise(3, config.in_channels, 12, 20),
            "encoder_hidden_states": noise(3, 90, config.caption_channels),
            "encoder_attention_mask": mask,
        }
        told, added = dict(given), {}
        if config.get("use_additional_conditions"):
            added = {"resolution": torch.tensor([[48.0, 80.0]] * 3), "aspect_ratio": torch.tensor([[0.6]] * 3)}
            told["added_cond_kwargs"] = added
        if config.get("guidance_embeds"):
            given["guidance"] = told["guidance"] = torch.full([3], 0.45)
        largest = 1.0 if config.get("guidance_embeds") else 999.0
        for share in (1.0, 0.42, 0.0):
            timestep = torch.full([3], largest * share)
            expected = network(**told, timestep=timestep, return_dict=False)[0]
            found = run(bundle / "transformer", **given, **added, timestep=timestep)["out_hidden_states"]
            worst = max(worst, difference(bundle, "transformer", "out_hidden_states", found, expected, limit))
        latent = noise(3, pipeline.vae.config.latent_channels, 6, 10) * 5
        found = run(bundle / "vae_decoder", latent_sample=latent)["sample"]
        worst = max(worst, difference(bundle, "vae_decoder", "sample", found, pipeline.vae.decode(latent).sample, limit))
        if (bundle / "vae_encoder").is_dir():
            picture = noise(3, 3, 96, 160)
            found = run(bundle / "vae_encoder", sample=picture)["latent_sample"]
            worst = max(worst, difference(bundle, "vae_encoder", "latent_sample", found, pipeline.vae.encode(picture).latent, limit))
    return worst


def denoiser(pipeline, noise):
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
        yield "unet", "out_sample", inputs | extra | (added or {}), expected


def transformer(pipeline, noise):
    network = pipeline.transformer
    config = network.config
    packed = hasattr(pipeline, "_pack_latents")
    inputs = {
        "encoder_hidden_states": noise(3, 90, config.joint_attention_dim),
        "pooled_projections": noise(3, config.pooled_projection_dim),
    }
    if packed:
        inputs["hidden_states"] = noise(3, 6 * 10, config.in_channels)
        inputs["img_ids"] = pipeline._prepare_latent_image_ids(3, 6, 10, "cpu", torch.float32)
        inputs["txt_ids"] = torch.zeros(90, 3)
        if config.guidance_embeds:
            inputs["guidance"] = torch.full([3], 3.5)
    else:
        inputs["hidden_states"] = noise(3, config.in_channels, 12, 20)
    for timestep in (1000.0, 420.5, 1.0):
        inputs["timestep"] = torch.full([3], timestep / 1000 if packed else timestep)
        yield "transformer", "out_hidden_states", inputs, network(**inputs, return_dict=False)[0]


def run(folder: Path, **inputs: torch.Tensor) -> dict[str, np.ndarray]:
    network = session(folder / "model.onnx")
    names = [output.name for output in network.get_outputs()]
    # Flux's places are exported as integers.
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    given = {port.name: inputs[port.name].numpy().astype(types[port.type]) for port in network.get_inputs()}
    return dict(zip(names, network.run(names, given)))


def difference(bundle: Path, role: str, output: str, found: np.ndarray, expected: torch.Tensor, limit: float) -> float:
    if found.shape != tuple(expected.shape):
        raise SystemExit(f"{bundle.name}/{role}: `{output}` is {found.shape}, torch gives {tuple(expected.shape)}")
    value = float(np.abs(found - expected.numpy()).max())
    if not value < limit:
        raise SystemExit(f"{bundle.name}/{role}: `{output}` differs from torch by {value}, at most {limit} is allowed")
    return value
