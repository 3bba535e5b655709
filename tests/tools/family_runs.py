"""Runs one family case with the networks of a bundle: torch's own, or the ONNX files."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import family_likelihoods as likelihoods
import family_sampling as sampling
from family_networks import CLASSES, DATA_DEVIATION, SIGMA_MAX, SIGMA_MIN, VARIANCE
from family_noise import Draws
from family_pictures import COLUMNS, COUNT, TILE
from family_schedulers import SCHEDULERS
from make_family_bundles import BUNDLES, CLASSLESS, SIDE

FAMILIES = Path(__file__).resolve().parents[1] / "golden" / "families"
NULL = len(CLASSES)
# Arrays by what follows the case's name, and numbers.
Result = tuple[dict[str, Tensor], dict[str, float]]


def pixels(name: str) -> np.ndarray:
    return np.asarray(Image.open(FAMILIES / name).convert("RGB"))


def in_range(name: str) -> Tensor:
    """`[1, 3, H, W]`, 0 to −1 and 255 to 1."""
    values = pixels(name).astype(np.float64) / 127.5 - 1
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def draws(case: dict) -> list[tuple[Draws, int]]:
    """The random numbers of each picture, and the class that it has without a prompt."""
    if case["walk"] is None:
        return [(Draws(case["seed"] + at), (case["seed"] + at) % len(CLASSES)) for at in range(case["count"])]
    to, frames = case["walk"]["to"], case["walk"]["frames"]
    own = case["seed"] % len(CLASSES)
    return [(Draws(case["seed"], to, at / (frames - 1)), own) for at in range(frames)]


def label_of(case: dict, own: int) -> int | None:
    if case["bundle"] in CLASSLESS:
        return None
    return CLASSES.index(case["prompt"]) if case["prompt"] else own


def predictor(network: Callable, case: dict, label: int | None) -> sampling.Predict:
    """The network of a diffusion bundle with class, guidance and count of steps."""
    guidance = case["guidance"]

    def call(sample: Tensor, timestep: float, which: int | None) -> Tensor:
        values = {"sample": sample, "timestep": torch.full((len(sample),), timestep)}
        if which is not None:
            values["class_labels"] = torch.full((len(sample),), which)
        if case["bundle"] == "progressive":
            values["step_count"] = torch.full((len(sample),), case["steps"])
        return network("unet", **values)[0]

    def predict(sample: Tensor, timestep: float) -> Tensor:
        conditional = call(sample, timestep, label)
        if guidance <= 1:
            return conditional
        none = call(sample, timestep, NULL)
        return none + guidance * (conditional - none)

    return predict


def configuration(case: dict) -> dict:
    chosen = case["sampler"]
    if chosen is None:
        return SCHEDULERS[case["bundle"]]
    if chosen.get("choice") == "ve":
        return {"_class_name": "ScoreSdeVeScheduler", "sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX}
    if chosen.get("choice") == "vp":
        return {"_class_name": "ScoreSdeVpScheduler"} | preserving()
    base = SCHEDULERS.get(case["bundle"], {})
    return base | chosen["config"] | {"_class_name": chosen["class"]}


def preserving(low: float = 0.1) -> dict[str, float]:
    """The preserving process whose σ / α goes from the network's least noise level, at `sampling_eps`, to its greatest, at 1."""
    high = 2 * math.log(1 + SIGMA_MAX**2) - low
    # Where t² (high − low) / 2 + t low has come to ln(1 + least²).
    end = np.roots([(high - low) / 2, low, -math.log(1 + SIGMA_MIN**2)]).max()
    return {"beta_min": low, "beta_max": high, "sampling_eps": float(end)}


def ends(case: dict) -> tuple[Callable, float, float, float]:
    """The field, where pictures and where noise lie, and the noise's deviation."""
    if case["bundle"].startswith("score"):
        return sampling.score_field, math.log(SIGMA_MIN), math.log(SIGMA_MAX), SIGMA_MAX
    return sampling.velocity_field, 0.0, 1.0, 1.0


def sample_field(case: dict, predict: sampling.Predict, draw: Draws, side: int) -> Tensor:
    field, picture, noise, deviation = ends(case)
    start = draw(1, 3, side, side) * deviation
    if case["solver"] == "dopri5":
        return sampling.adaptive(field(predict), start, noise, picture)
    return sampling.fixed_steps(field(predict), case["solver"], case["steps"], start, noise, picture)


def sample_diffusion(network: Callable, case: dict) -> Tensor:
    side = SIDE.get(case["bundle"], 8)
    found = []
    for draw, own in draws(case):
        predict = predictor(network, case, label_of(case, own))
        if case["solver"]:
            found.append(sample_field(case, predict, draw, side))
            continue
        config = configuration(case)
        kind = config["_class_name"]
        if kind == "ScoreSdeVeScheduler":
            found.append(sampling.exploding(predict, config, case["steps"], draw, side))
        elif kind == "ScoreSdeVpScheduler":
            found.append(sampling.preserving(predict, config, case["steps"], draw, side))
        elif kind == "AnnealedLangevinScheduler":
            found.append(sampling.langevin(predict, config, case["steps"], draw, side))
        else:
            found.append(sampling.scheduler_loop(predict, config, case["steps"], case["eta"], draw, side))
    return torch.cat(found)


def invert_diffusion(network: Callable, case: dict) -> Result:
    """The noise that the steps make of the picture backwards, and the picture that they make of that."""
    predict = predictor(network, case, label_of(case, case["seed"] % len(CLASSES)))
    given = in_range(case["input"])
    if case["solver"]:
        made, picture, noise, _ = ends(case)
        field = made(predict)

        def way(sample: Tensor, begin: float, end: float) -> Tensor:
            if case["solver"] == "dopri5":
                return sampling.adaptive(field, sample, begin, end)
            return sampling.fixed_steps(field, case["solver"], case["steps"], sample, begin, end)

        latent = way(given, picture, noise)
        return {"": way(latent, noise, picture), ".latent": latent}, {}
    config = configuration(case)
    latent = sampling.implicit_inversion(predict, config, case["steps"], given)
    return {"": sampling.implicit_sampling(predict, config, case["steps"], latent), ".latent": latent}, {}


def labels_of(case: dict) -> list[int | None]:
    """The class of a likelihood, or each one in its turn."""
    if case["bundle"] in CLASSLESS or case["prompt"]:
        return [label_of(case, 0)]
    return list(range(len(CLASSES)))


def log_mean(logarithms: list[float]) -> float:
    return float(torch.tensor(logarithms, dtype=torch.float64).logsumexp(0)) - math.log(len(logarithms))


def flow_likelihood(network: Callable, case: dict) -> Result:
    """The likelihood by the case's trace; where that is the exact one, what the case's probes make of it as well."""
    field, picture, noise, deviation = ends(case)
    given = likelihoods.cell_centres(pixels(case["input"]))
    exact, probed = [], []
    for label in labels_of(case):
        followed = field(predictor(network, case, label))
        probes = likelihoods.rademacher(Draws(case["seed"]), case["samples"], given.shape[-1])
        found = likelihoods.along_flow(followed, likelihoods.probed_trace(probes), given, picture, noise, deviation)
        probed.append(float(found.mean()))
        if case["trace"] == "exact":
            (nats,) = likelihoods.along_flow(followed, likelihoods.exact_trace, given, picture, noise, deviation)
            exact.append(float(nats))
            error = float(found.std(ddof=1)) / math.sqrt(len(found))
            if abs(exact[-1] - probed[-1]) > 4 * error + 1e-3:
                raise SystemExit(f"{case['name']}: {exact[-1]} nats, by probes {probed[-1]} with an error of {error}")
    nats = log_mean(exact or probed)
    expected = closed_form(case, given)
    if expected is not None and abs(nats - expected) > 1e-3:
        raise SystemExit(f"{case['name']}: {nats} nats, in closed form {expected}")
    numbers = likelihoods.with_bits(nats, given.numel())
    return {}, numbers | ({"nats_of_probes": log_mean(probed)} if exact else {})


def closed_form(case: dict, picture: Tensor) -> float | None:
    """The likelihood under the toys, which are exact for normal data: what the flow does is to scale."""
    if case["bundle"] == "cnf_gaussian":
        return likelihoods.log_normal(picture, deviation=DATA_DEVIATION)
    if case["bundle"] == "score_gaussian":
        scale = math.sqrt((VARIANCE + SIGMA_MAX**2) / (VARIANCE + SIGMA_MIN**2))
        return likelihoods.log_normal(picture.double() * scale, deviation=SIGMA_MAX) + picture.numel() * math.log(scale)
    return None


def features(network: Callable, case: dict) -> Result:
    if case["input"] == "sheet":
        sheet = np.asarray(Image.open(BUNDLES / "real" / "sheet.png").convert("RGB"))
        cut = [sheet[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE] for r, c in (divmod(at, COLUMNS) for at in range(COUNT))]
    else:
        cut = [pixels(case["input"])]
    values = torch.from_numpy(np.stack(cut).astype(np.float64) / 127.5 - 1).float().permute(0, 3, 1, 2)
    return {"": network("judge", sample=F.interpolate(values, (64, 64), mode="bilinear", align_corners=False))[0]}, {}


def run(network: Callable, case: dict) -> Result:
    """The case's arrays, f32 with a first axis for pictures, and its numbers."""
    bundle, task = case["bundle"], case["task"]
    if task == "features":
        return features(network, case)
    if bundle in ("vae", "gan", "flow"):
        import family_direct as direct

        return direct.run(network, case)
    if task == "sample":
        return {"": sample_diffusion(network, case)}, {}
    if task == "likelihood":
        return flow_likelihood(network, case)
    return invert_diffusion(network, case)
