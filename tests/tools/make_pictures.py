"""Writes the golden pictures under tests/golden/pictures/. See README.md beside this file."""

import argparse
import json
import logging
import os
import platform
import warnings
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import tiny_schedulers  # noqa: E402
from make_bundles import BUNDLES  # noqa: E402
from onnx_modules import use_onnx  # noqa: E402
from picture_cases import all_cases  # noqa: E402
from picture_inputs import write_inputs  # noqa: E402
from tiny_masked import INSTRUCTION  # noqa: E402
from tiny_pipelines import VARIANTS, build, scheduler  # noqa: E402

PICTURES = Path(__file__).resolve().parents[1] / "golden" / "pictures"
KINDS = {
    ("sd", "text2img"): diffusers.StableDiffusionPipeline,
    ("sd", "img2img"): diffusers.StableDiffusionImg2ImgPipeline,
    ("sd", "inpaint"): diffusers.StableDiffusionInpaintPipeline,
    ("lcm", "text2img"): diffusers.LatentConsistencyModelPipeline,
    ("lcm", "img2img"): diffusers.LatentConsistencyModelImg2ImgPipeline,
    ("sdxl", "text2img"): diffusers.StableDiffusionXLPipeline,
    ("sdxl", "img2img"): diffusers.StableDiffusionXLImg2ImgPipeline,
    ("sdxl", "inpaint"): diffusers.StableDiffusionXLInpaintPipeline,
    ("sd3", "text2img"): diffusers.StableDiffusion3Pipeline,
    ("sd3", "img2img"): diffusers.StableDiffusion3Img2ImgPipeline,
    ("sd3", "inpaint"): diffusers.StableDiffusion3InpaintPipeline,
    ("flux", "text2img"): diffusers.FluxPipeline,
    ("flux", "img2img"): diffusers.FluxImg2ImgPipeline,
    ("flux", "inpaint"): diffusers.FluxInpaintPipeline,
    ("pixart_sigma", "text2img"): diffusers.PixArtSigmaPipeline,
    ("pixart_lcm", "text2img"): diffusers.PixArtAlphaPipeline,
    ("sana", "text2img"): diffusers.SanaPipeline,
    ("sana_sprint", "text2img"): diffusers.SanaSprintPipeline,
    ("sana_sprint", "img2img"): diffusers.SanaSprintImg2ImgPipeline,
}


FAMILIES = ("pixart_sigma", "pixart_lcm", "sana_sprint", "sana", "flux", "sd3", "sdxl", "lcm", "sd")


def family_of(bundle: str) -> str:
    return next(family for family in FAMILIES if bundle.startswith(family))


def pipeline_for(case: dict, onnx: bool):
    """A fresh pipeline of the class that the task wants, with the case's scheduler."""
    bundle = case["bundle"]
    base = build(VARIANTS.get(bundle, bundle))
    if bundle == "sd_legacy":
        base.scheduler = scheduler(tiny_schedulers.SD_LEGACY)
    family = family_of(bundle)
    extra = {"requires_safety_checker": False} if family in ("sd", "lcm") else {}
    parts = {name: part for name, part in base.components.items() if name != "image_encoder" or part is not None}
    pipeline = KINDS[family, case["task"]](**parts, **extra)
    pipeline.set_progress_bar_config(disable=True)
    if case["sampler"]:
        kind = getattr(diffusers, case["sampler"]["class"])
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **case["sampler"]["config"])
    if onnx:
        use_onnx(pipeline, BUNDLES / bundle)
    elif bundle == "sd_legacy":
        # Its encoder has sampled already, so nothing is drawn for it; the bundle's takes the mean.
        encode = pipeline.vae.encode
        pipeline.vae.encode = lambda sample: SimpleNamespace(latents=encode(sample).latent_dist.mode())
    if (family, case["task"]) == ("sd3", "inpaint"):
        # diffusers 0.36 leaves the shift out here, alone among its pipelines of these latents.
        decode, shift = pipeline.vae.decode, pipeline.vae.config.shift_factor
        pipeline.vae.decode = lambda latent, **options: decode(latent + shift, **options)
    return pipeline


def arguments(case: dict) -> dict:
    """A fresh generator per picture: picture i has the seed of the case plus i."""
    generators = [torch.Generator("cpu").manual_seed(case["seed"] + at) for at in range(case["count"])]
    found = {
        "prompt": case["prompt"],
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance"],
        "num_images_per_prompt": case["count"],
        "generator": generators if case["count"] > 1 else generators[0],
    }
    is_transformer = case["bundle"].startswith(("sd3", "flux", "sana"))
    if case["bundle"] != "lcm" and not case["bundle"].startswith("flux"):
        found["negative_prompt"] = case["negative"]
    if case["bundle"] != "lcm" and not is_transformer:
        found["eta"] = case["eta"]
    if family_of(case["bundle"]).startswith(("pixart", "sana")):
        # The size that is asked for, not a published one near it.
        found |= {"negative_prompt": case["negative"] or "", "use_resolution_binning": False}
    if case["bundle"] == "sana":
        found |= {"complex_human_instruction": INSTRUCTION}
    if case["bundle"] == "sana_sprint":
        found |= {"complex_human_instruction": None}
        del found["negative_prompt"]
        if case["steps"] != 2:
            # Its place in the middle is for two steps.
            found["intermediate_timesteps"] = None
    # Image to image takes its size from the picture, but for the transformers'.
    if case["task"] != "img2img" or is_transformer:
        found |= {"width": case["width"], "height": case["height"]}
    if case["input"]:
        found |= {"image": Image.open(PICTURES / case["input"]).convert("RGB"), "strength": case["strength"]}
    if case["mask"]:
        found["mask_image"] = Image.open(PICTURES / case["mask"]).convert("L")
    return found


def run(case: dict, onnx: bool = False) -> tuple[torch.Tensor, list[Image.Image]]:
    pipeline = pipeline_for(case, onnx)
    latents = pipeline(**arguments(case), output_type="latent").images
    pictures = pipeline(**arguments(case), output_type="pil").images
    if hasattr(pipeline, "_unpack_latents"):
        latents = pipeline._unpack_latents(latents, case["height"], case["width"], pipeline.vae_scale_factor)
    return latents.float().contiguous(), pictures


def measure(case: dict, latents: torch.Tensor, pictures: list[Image.Image]) -> tuple[float, int]:
    """How far the same run over the bundle's ONNX files lies from torch's, in latents and in steps of a byte."""
    found_latents, found = run(case, onnx=True)
    pairs = zip(found, pictures)
    steps = max(int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max()) for a, b in pairs)
    return float((found_latents - latents).abs().max()), steps


def file_names(case: dict) -> list[str]:
    if case["count"] == 1:
        return [f"{case['name']}.png"]
    return [f"{case['name']}.{at}.png" for at in range(case["count"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cases whose names begin so, and write nothing")
    only = parser.parse_args().only
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    if not only:
        for old in [*PICTURES.glob("*.png"), *PICTURES.glob("*.safetensors")]:
            old.unlink()
    write_inputs(PICTURES)

    cases = [case for case in all_cases() if not only or case["name"].startswith(only)]
    kept = {}
    for case in cases:
        latents, pictures = run(case)
        width, height = pictures[0].size
        assert (width, height) == (case["width"], case["height"]), f"{case['name']}: {width}x{height}"
        assert latents.isfinite().all(), f"{case['name']}: not finite"
        latent_difference, steps = measure(case, latents, pictures)
        if case["bundle"] == "sd_fp16":
            # Half precision rounds 8000 times more coarsely: twice what ONNX Runtime shows here.
            case["tolerance"] = 2 * steps
            case["latent_tolerance"] = round(2 * latent_difference, 2)
        elif steps > case["tolerance"]:
            raise SystemExit(f"{case['name']}: the bundle's picture is {steps}/255 away from torch's")
        spread = np.asarray(pictures[0]).std() / 127.5
        print(f"{case['name']}: spread {spread:.2f}, ONNX differs {latent_difference:.1e} and {steps}/255", flush=True)
        case["pictures"] = file_names(case)
        kept[case["name"]] = latents
        if not only:
            for name, picture in zip(case["pictures"], pictures):
                picture.save(PICTURES / name, optimize=True)
    if only:
        return
    save_file(kept, PICTURES / "latents.safetensors")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    text = json.dumps({"versions": versions, "cases": cases}, indent=1, ensure_ascii=False)
    (PICTURES / "cases.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} cases, {sum(case['count'] for case in cases)} pictures")


if __name__ == "__main__":
    main()
