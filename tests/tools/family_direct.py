"""Reference runs of the families that make a picture in one pass: autoencoder, style-based generator, normalizing flow."""

import json
from collections.abc import Callable

import torch
from torch import Tensor

import family_likelihoods as likelihoods
import family_runs as runs
from family_lineage import VAE_DEVIATION
from family_noise import Draws


def labelled(label: int | None) -> dict[str, Tensor]:
    return {} if label is None else {"class_labels": torch.tensor([label])}


def latent_size(bundle: str, role: str) -> int:
    return json.loads((runs.BUNDLES / bundle / role / "config.json").read_text())["latent_size"]


def truncated(network: Callable, latent: Tensor, label: int, share: float) -> Tensor:
    """The style, drawn toward the mean one of its class (T. Karras et al., 2018, arXiv:1812.04948, appendix B)."""
    mean = torch.tensor(json.loads((runs.BUNDLES / "gan" / "mapping" / "config.json").read_text())["mean_styles"][label])
    return mean + share * (network("mapping", latent=latent, **labelled(label))[0] - mean)


def generate(network: Callable, case: dict, latent: Tensor, label: int) -> Tensor:
    share = 1.0 if case["truncation"] is None else case["truncation"]
    count = json.loads((runs.BUNDLES / "gan" / "synthesis" / "config.json").read_text())["style_count"]
    styles = truncated(network, latent, label, share)[:, None].repeat(1, count, 1)
    mix = case["style_mix"]
    if mix is not None:
        styles[:, mix["from_layer"] :] = truncated(network, Draws(mix["seed"])(*latent.shape), label, share)[:, None]
    return network("synthesis", styles=styles)[0]


def sample(network: Callable, case: dict) -> runs.Result:
    bundle = case["bundle"]
    size = latent_size(bundle, "mapping" if bundle == "gan" else "decoder")
    temperature = 1.0 if case["temperature"] is None else case["temperature"]
    samples, latents = [], []
    for draw, own in runs.draws(case):
        label, latent = runs.label_of(case, own), draw(1, size) * temperature
        latents.append(latent)
        made = generate(network, case, latent, label) if bundle == "gan" else network("decoder", latent=latent, **labelled(label))[0]
        samples.append(made)
    return {"": torch.cat(samples), ".latent": torch.cat(latents)}, {}


def log_likelihood(network: Callable, case: dict, label: int | None) -> float:
    picture, given = likelihoods.cell_centres(runs.pixels(case["input"])), labelled(label)
    if case["bundle"] == "flow":
        latent, log_determinant = network("encoder", sample=picture, **given)
        return likelihoods.log_normal(latent) + float(log_determinant)

    def encode(values: Tensor) -> tuple[Tensor, Tensor]:
        return network("encoder", sample=values, **given)

    def decode(latent: Tensor) -> Tensor:
        return network("decoder", latent=latent, **given)[0]

    return likelihoods.evidence_lower_bound(encode, decode, picture, VAE_DEVIATION, case["samples"], Draws(case["seed"]))


def run(network: Callable, case: dict) -> runs.Result:
    if case["task"] == "sample":
        return sample(network, case)
    labels = runs.labels_of(case)
    found = [log_likelihood(network, case, label) for label in labels]
    if case["task"] == "likelihood":
        return {}, likelihoods.with_bits(runs.log_mean(found), runs.pixels(case["input"]).size)
    # Without a class, the one that makes the picture likeliest.
    given = labelled(labels[found.index(max(found))])
    latent = network("encoder", sample=runs.in_range(case["input"]), **given)[0]
    return {"": network("decoder", latent=latent, **given)[0], ".latent": latent}, {}
