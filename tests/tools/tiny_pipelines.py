"""The tiny pipelines by bundle name, as diffusers objects. Bundles and golden pictures both come from here."""

import tempfile
from pathlib import Path

import diffusers
from diffusers import (
    LatentConsistencyModelPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from transformers import CLIPTokenizer

import tiny_schedulers
from tiny_masked import pixart_lcm, pixart_sigma, sana, sana_sprint
from tiny_networks import autoencoder, denoiser, text_encoder
from tiny_tokenizer import END, write_tokenizer
from tiny_transformers import flux_dev, flux_schnell, sd3, sd35_turbo


def tokenizer(pad: str = END) -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), pad)
        return CLIPTokenizer.from_pretrained(folder)


def scheduler(config: dict):
    return getattr(diffusers, config["_class_name"]).from_config(config)


def stable_diffusion(kind, config: dict, seed: int, pad: str = END, activation: str = "quick_gelu", **unet):
    """Seeds are per network, so pipelines that give the same seed share their text encoder and autoencoder."""
    extra = {"requires_safety_checker": False, "safety_checker": None, "feature_extractor": None}
    return kind(
        vae=autoencoder(seed + 2),
        text_encoder=text_encoder(seed, hidden=24, layers=2, activation=activation),
        tokenizer=tokenizer(pad),
        unet=denoiser(seed + 1, **unet),
        scheduler=scheduler(config),
        **extra,
    )


def sd():
    return stable_diffusion(StableDiffusionPipeline, tiny_schedulers.SD, seed=110)


def sd_v():
    # A v-prediction never divides by alpha, so it stays bounded without help. Layout as in SD 2: linear projections,
    # heads per level, `!` as padding, gelu.
    return stable_diffusion(
        StableDiffusionPipeline,
        tiny_schedulers.SD_V,
        seed=200,
        pad="!",
        activation="gelu",
        structured=False,
        use_linear_projection=True,
        attention_head_dim=(2, 4),
    )


def sd_turbo():
    return stable_diffusion(
        StableDiffusionPipeline,
        tiny_schedulers.SD_TURBO,
        seed=300,
        pad="!",
        activation="gelu",
        use_linear_projection=True,
        attention_head_dim=(2, 4),
    )


def lcm():
    return stable_diffusion(LatentConsistencyModelPipeline, tiny_schedulers.LCM, seed=400, time_cond_proj_dim=16)


def sd_inpaint():
    return stable_diffusion(StableDiffusionInpaintPipeline, tiny_schedulers.SD, seed=110, in_channels=9)


def sdxl(config: dict = tiny_schedulers.SDXL, layers: tuple[int, int] = (1, 2)):
    first, second, projection = 24, 40, 32
    return StableDiffusionXLPipeline(
        vae=autoencoder(502, scaling_factor=0.13025),
        # Encoders of different width and depth: the last layer but one is another output of each.
        text_encoder=text_encoder(500, hidden=first, layers=2, activation="quick_gelu"),
        text_encoder_2=text_encoder(503, hidden=second, layers=3, activation="gelu", projection=projection),
        tokenizer=tokenizer(END),
        tokenizer_2=tokenizer("!"),
        unet=denoiser(
            501,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            transformer_layers_per_block=layers,
            use_linear_projection=True,
            cross_attention_dim=first + second,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + projection,
        ),
        scheduler=scheduler(config),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def sdxl_turbo():
    return sdxl(tiny_schedulers.SDXL_TURBO)


PIPELINES = {
    "sd": sd,
    "sd_v": sd_v,
    "sd_turbo": sd_turbo,
    "lcm": lcm,
    "sd_inpaint": sd_inpaint,
    "sdxl": sdxl,
    "sdxl_turbo": sdxl_turbo,
    "sd3": sd3,
    "sd35_turbo": sd35_turbo,
    "flux_schnell": flux_schnell,
    "flux_dev": flux_dev,
    "pixart_sigma": pixart_sigma,
    "pixart_lcm": pixart_lcm,
    "sana": sana,
    "sana_sprint": sana_sprint,
}
# Derived by graph surgery; their pictures are those of the pipeline named.
VARIANTS = {"sd_legacy": "sd", "sd_fp16": "sd", "sd_external": "sd"}

PUBLISHED_SCHEDULERS = {
    "sd": tiny_schedulers.SD,
    "sd_v": tiny_schedulers.SD_V,
    "sd_turbo": tiny_schedulers.SD_TURBO,
    "lcm": tiny_schedulers.LCM,
    "sd_inpaint": tiny_schedulers.SD,
    "sdxl": tiny_schedulers.SDXL,
    "sdxl_turbo": tiny_schedulers.SDXL_TURBO,
    "sd3": tiny_schedulers.SD3,
    "sd35_turbo": tiny_schedulers.SD3,
    "flux_schnell": tiny_schedulers.FLUX_SCHNELL,
    "flux_dev": tiny_schedulers.FLUX_DEV,
    "pixart_sigma": tiny_schedulers.PIXART,
    "pixart_lcm": tiny_schedulers.PIXART_LCM,
    "sana": tiny_schedulers.SANA,
    "sana_sprint": tiny_schedulers.SANA_SPRINT,
}


def build(name: str):
    pipeline = PIPELINES[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
