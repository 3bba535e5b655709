"""Writes tests/golden/extras/: weighted prompts, textual inversion, tiny decoders, ControlNet, upscaling. See README.md beside this file."""

import argparse
import json
import logging
import os
import platform
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import extra_cases  # noqa: E402
from make_extra_bundles import control_net, steered_base, sub_pixel, swin, tiny_autoencoder  # noqa: E402
from prompt_weights import encode  # noqa: E402
from tiny_pipelines import build  # noqa: E402

EXTRAS = Path(__file__).resolve().parents[1] / "golden" / "extras"
EMBEDDINGS = EXTRAS / "embeddings"
PICTURES = EXTRAS.parent / "pictures"


def write_embeddings() -> None:
    """One of each layout that is about: diffusers' with its token as the key, web UI's `emb_params`, SDXL's pair."""
    EMBEDDINGS.mkdir(parents=True, exist_ok=True)

    def vectors(seed: int, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))

    save_file({"<toy>": vectors(1, 24)}, EMBEDDINGS / "toy.safetensors")
    save_file({"style-three": vectors(2, 3, 24)}, EMBEDDINGS / "style-three.safetensors")
    save_file({"emb_params": vectors(3, 2, 24)}, EMBEDDINGS / "worn.safetensors")
    save_file({"clip_l": vectors(4, 2, 24), "clip_g": vectors(5, 2, 40)}, EMBEDDINGS / "pair.safetensors")


def load_embeddings(pipeline, files: list[str]) -> None:
    for file in files:
        found = load_file(EMBEDDINGS / file)
        stem = Path(file).stem
        if "clip_l" in found:
            for key, number in (("clip_l", ""), ("clip_g", "_2")):
                encoder, tokenizer = getattr(pipeline, f"text_encoder{number}"), getattr(pipeline, f"tokenizer{number}")
                # The published value makes the class pool at the highest id, which is then the new token's; training pooled at the text's end.
                encoder.text_model.eos_token_id = tokenizer.eos_token_id
                pipeline.load_textual_inversion({stem: found[key]}, token=stem, text_encoder=encoder, tokenizer=tokenizer)
        elif "emb_params" in found:
            pipeline.load_textual_inversion({stem: found["emb_params"]}, token=stem)
        else:
            pipeline.load_textual_inversion(str(EMBEDDINGS / file))


def weighted_arguments(pipeline, case: dict) -> dict:
    is_xl = case["bundle"] == "sdxl"
    pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")][: 1 + is_xl]

    def embeddings(text: str) -> tuple[torch.Tensor, torch.Tensor]:
        made = [encode(text, getattr(pipeline, tokenizer), getattr(pipeline, encoder), is_xl) for tokenizer, encoder in pairs]
        return torch.cat([tokens for tokens, _ in made], dim=-1), made[-1][1]

    tokens, pooled = embeddings(case["prompt"])
    found = {"prompt_embeds": tokens}
    if case["guidance"] > 1:
        if is_xl and case["negative"] is None:
            found["negative_prompt_embeds"], negative_pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        else:
            found["negative_prompt_embeds"], negative_pooled = embeddings(case["negative"] or "")
        if is_xl:
            found |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    return found


@torch.no_grad()
def separate_passes(pipeline, case: dict, found: dict) -> torch.Tensor:
    """The pipeline's own loop with one call for each text, which may then be of different lengths."""
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(case["steps"])
    shape = (1, 4, case["height"] // 4, case["width"] // 4)
    latents = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(case["seed"])) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        with_prompt = pipeline.unet(scaled, timestep, found["prompt_embeds"]).sample
        without = pipeline.unet(scaled, timestep, found["negative_prompt_embeds"]).sample
        latents = scheduler.step(without + case["guidance"] * (with_prompt - without), timestep, latents).prev_sample
    return latents


def steered_pipeline(base, case: dict):
    is_xl = case["bundle"] == "sdxl_control"
    kind = getattr(diffusers, f"StableDiffusion{'XL' * is_xl}ControlNet{'Img2Img' * bool(case['input'])}Pipeline")
    parts = {name: part for name, part in base.components.items() if name != "image_encoder"}
    own = {"add_watermarker": False} if is_xl else {"requires_safety_checker": False}
    if is_xl:
        parts.pop("feature_extractor")
    pipeline = kind(**parts, controlnet=control_net(base.unet), **own)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_steered(case: dict) -> tuple[torch.Tensor, Image.Image]:
    def call(output_type: str):
        pipeline = steered_pipeline(steered_base(case["bundle"]), case)
        control = Image.open(PICTURES / case["control"]).convert("RGB")
        pictures = {"image": control, "width": case["width"], "height": case["height"]}
        if case["input"]:
            pictures = {"image": Image.open(PICTURES / case["input"]).convert("RGB"), "control_image": control, "strength": case["strength"]}
        return pipeline(
            case["prompt"],
            negative_prompt=case["negative"],
            num_inference_steps=case["steps"],
            guidance_scale=case["guidance"],
            controlnet_conditioning_scale=case["control_scale"],
            generator=torch.Generator("cpu").manual_seed(case["seed"]),
            output_type=output_type,
            **pictures,
        ).images

    return call("latent"), call("pil")[0]


@torch.no_grad()
def upscaled(network, picture: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None]
    return network(pixels)


def upscaling() -> dict[str, torch.Tensor]:
    """The whole picture at once, and one tile of the network whose sides are fixed; [1, 3, H, W] in [0, 1], not clamped."""
    wide = Image.open(PICTURES / "input_wide.png").convert("RGB")
    return {
        "upscale": upscaled(sub_pixel(), wide),
        "upscale_fixed": upscaled(lambda pixels: swin()(pixel_values=pixels, return_dict=False)[0], wide.crop((0, 0, 16, 16))),
    }


def run_tiny(case: dict) -> tuple[torch.Tensor, Image.Image]:
    def call(output_type: str):
        pipeline = build(case["bundle"])
        pipeline.register_modules(vae=tiny_autoencoder())
        assert pipeline.vae_scale_factor == 4, pipeline.vae_scale_factor
        return pipeline(
            case["prompt"],
            num_inference_steps=case["steps"],
            guidance_scale=case["guidance"],
            width=case["width"],
            height=case["height"],
            generator=torch.Generator("cpu").manual_seed(case["seed"]),
            output_type=output_type,
        ).images

    return call("latent"), call("pil")[0]


def run(case: dict) -> torch.Tensor | tuple[torch.Tensor, Image.Image]:
    if case["kind"] == "control":
        return run_steered(case)
    if case["kind"] == "tiny":
        return run_tiny(case)
    pipeline = build(case["bundle"])
    common = {
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance"],
        "width": case["width"],
        "height": case["height"],
        "output_type": "latent",
    }

    def generator() -> torch.Generator:
        return torch.Generator("cpu").manual_seed(case["seed"])

    if case["kind"] == "weights":
        found = weighted_arguments(pipeline, case)
        negative = found.get("negative_prompt_embeds")
        alone = separate_passes(pipeline, case, found) if case["bundle"] != "sdxl" and negative is not None else None
        if negative is not None and negative.shape != found["prompt_embeds"].shape:
            return alone
        latents = pipeline(**found, **common, generator=generator()).images
        if alone is not None:
            apart = float((alone - latents).abs().max())
            assert apart < 1e-4, f"{case['name']}: {apart}"
        return latents
    load_embeddings(pipeline, case["embeddings"])
    return pipeline(case["prompt"], negative_prompt=case["negative"], **common, generator=generator()).images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cases whose names begin so, and write nothing")
    parser.add_argument("--add", help="make the cases whose names begin so, and leave what is there of the others")
    given = parser.parse_args()
    only, chosen = given.only, given.only or given.add
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    EXTRAS.mkdir(parents=True, exist_ok=True)
    write_embeddings()
    cases = [*extra_cases.weights(), *extra_cases.embeddings(), *extra_cases.tiny(), *extra_cases.control()]
    kept = load_file(EXTRAS / "latents.safetensors") if given.add else {}
    for case in cases:
        if chosen and not case["name"].startswith(chosen):
            continue
        found = run(case)
        if isinstance(found, tuple):
            found, picture = found
            if not only:
                picture.save(EXTRAS / f"{case['name']}.png", optimize=True)
        kept[case["name"]] = found.float().contiguous()
        assert kept[case["name"]].isfinite().all(), case["name"]
        print(f"{case['name']}: {kept[case['name']].std():.3f}", flush=True)
    if only:
        return
    kept |= {} if given.add else upscaling()
    save_file(kept, EXTRAS / "latents.safetensors")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    text = json.dumps({"versions": versions, "cases": cases}, indent=1, ensure_ascii=False)
    (EXTRAS / "cases.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
