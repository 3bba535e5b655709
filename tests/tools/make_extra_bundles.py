"""Writes what the cases of tests/golden/extras/ run on: a tiny decoder, two ControlNets with their UNets, two upscalers. See README.md beside this file."""

import json
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from diffusers import AutoencoderTiny, ControlNetModel  # noqa: E402
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution  # noqa: E402

import surgery  # noqa: E402
from agreement import run  # noqa: E402
from tiny_networks import fill  # noqa: E402
from tiny_pipelines import build, sdxl  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "recipes" / "export"))

import control_net as control_recipe  # noqa: E402
import tiny_decoder as tiny_recipe  # noqa: E402
import upscaler as upscaler_recipe  # noqa: E402

BUNDLES = ROOT / "tests" / "bundles"
LIMIT = 1e-4


def tiny_autoencoder() -> AutoencoderTiny:
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    )
    fill(autoencoder, 700)
    return autoencoder


def steered_base(bundle: str):
    """What a ControlNet steers; of SDXL with one layer less, since its weights lie in the repository a second time."""
    if bundle == "sd_control":
        return build("sd")
    pipeline = sdxl(layers=(1, 1))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def control_net(unet) -> ControlNetModel:
    """Zero convolutions, as a fresh one has them, would steer nothing."""
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8), load_weights_from_unet=False)
    fill(control, 710, gain=0.8)
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")):
                parameter.mul_(0.3)
    return control


class SubPixel(torch.nn.Module):
    """The network of "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network"."""

    def __init__(self, factor: int):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 12, 5, padding=2)
        self.second = torch.nn.Conv2d(12, 8, 3, padding=1)
        self.third = torch.nn.Conv2d(8, 3 * factor**2, 3, padding=1)
        self.shuffle = torch.nn.PixelShuffle(factor)
        self.factor = factor

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        details = self.shuffle(self.third(torch.tanh(self.second(torch.tanh(self.first(picture))))))
        enlarged = torch.nn.functional.interpolate(picture, scale_factor=float(self.factor), mode="nearest")
        return enlarged + 0.1 * torch.tanh(details)


def sub_pixel() -> SubPixel:
    return fill(SubPixel(3), 720)


def swin() -> Swin2SRForImageSuperResolution:
    config = Swin2SRConfig(
        image_size=16, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4, mlp_ratio=2.0, upscale=2, upsampler="pixelshuffledirect"
    )
    model = fill(Swin2SRForImageSuperResolution(config), 730, gain=0.5)
    # The published ones are trained to give [0, 1]: near the picture itself here.
    return model


def check(folder: Path, expected: torch.Tensor, output: str, **inputs: torch.Tensor) -> None:
    found = run(folder, **inputs)[output]
    apart = float(abs(found - expected.numpy()).max())
    if not apart < LIMIT:
        raise SystemExit(f"{folder}: differs from torch by {apart}")
    print(f"{folder.relative_to(BUNDLES)}: differs from torch by {apart:.1e}, {(folder / 'model.onnx').stat().st_size / 1024:.0f} KiB")


@torch.no_grad()
def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(7))

    decoder = BUNDLES / "tiny_decoder"
    tiny_recipe.export(tiny_autoencoder(), decoder)
    surgery.tidy(decoder / "model.onnx")
    latent = noise(2, 4, 9, 14)
    check(decoder, tiny_autoencoder().decode(latent).sample, "sample", latent_sample=latent)

    # What is not the UNet's comes from the plain bundle, which has the same seeds.
    sizes = torch.tensor([[48.0, 80.0, 0.0, 0.0, 48.0, 80.0]] * 3)
    for name, width, added in [("sd", 24, {}), ("sdxl", 64, {"text_embeds": noise(3, 32), "time_ids": sizes})]:
        bundle = BUNDLES / f"{name}_control"
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(BUNDLES / name, bundle)
        unet = steered_base(bundle.name).unet
        unet.save_config(bundle / "unet")
        control = control_net(unet)
        control_recipe.export(unet, control, bundle, 4)
        surgery.tidy(bundle / "unet" / "model.onnx")
        inputs = {
            "sample": noise(3, 4, 12, 20),
            "timestep": torch.tensor(420.5),
            "encoder_hidden_states": noise(3, 77, width),
            "controlnet_cond": noise(3, 3, 48, 80).sigmoid(),
            "conditioning_scale": torch.tensor(0.7),
            **added,
        }
        check(bundle / "unet", control_recipe.Steered(unet, control)(**inputs), "out_sample", **inputs)

    for name, network, side, fixed in [("upscaler", sub_pixel(), 24, False), ("upscaler_fixed", upscaler_recipe.Reconstruction(swin()), 16, True)]:
        upscaler_recipe.export(network, BUNDLES / name, side, fixed)
        surgery.tidy(BUNDLES / name / "model.onnx")
        picture = noise(1, 3, *((side, side) if fixed else (13, 18))).sigmoid()
        check(BUNDLES / name, network(picture), "reconstruction", pixel_values=picture)


if __name__ == "__main__":
    main()
