"""Exports a UNet of Stable Diffusion or SDXL together with a ControlNet as one `unet/model.onnx`, beside the other components of an export.

    optimum-cli export onnx --model PIPELINE BUNDLE
    python models/recipes/export/control_net.py PIPELINE CONTROL_NET BUNDLE

The UNet takes two inputs more: `controlnet_cond`, the picture that steers, [B, 3, H, W] in [0, 1], and `conditioning_scale`, one number.
`model_index.json` is then of a `StableDiffusionControlNetPipeline` or a `StableDiffusionXLControlNetPipeline`.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

CLASSES = {None: "StableDiffusionControlNetPipeline", "text_time": "StableDiffusionXLControlNetPipeline"}
# Numbers that SDXL is told of a picture's size.
TIME_IDS = 6


class Steered(torch.nn.Module):
    def __init__(self, unet: UNet2DConditionModel, control: ControlNetModel):
        super().__init__()
        self.unet, self.control = unet, control

    def forward(self, sample, timestep, encoder_hidden_states, controlnet_cond, conditioning_scale, text_embeds=None, time_ids=None):
        added = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        down, middle = self.control(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            controlnet_cond=controlnet_cond,
            conditioning_scale=conditioning_scale,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states=encoder_hidden_states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


@torch.no_grad()
def export(unet: UNet2DConditionModel, control: ControlNetModel, bundle: Path, pixels_per_latent: int) -> None:
    """Puts the two in place of the bundle's UNet."""
    folder = bundle / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*.onnx*"):
        old.unlink()
    added = unet.config.addition_embed_type
    if added not in CLASSES:
        raise SystemExit(f"{added}: what this UNet is told beside the text is none of {[kind for kind in CLASSES if kind]}")
    side = unet.config.sample_size
    inputs = (
        torch.randn(2, unet.config.in_channels, side, side),
        torch.tensor(500.0),
        torch.randn(2, 77, unet.config.cross_attention_dim),
        torch.rand(2, 3, side * pixels_per_latent, side * pixels_per_latent),
        torch.tensor(1.0),
    )
    names = ["sample", "timestep", "encoder_hidden_states", "controlnet_cond", "conditioning_scale"]
    told = {}
    if added:
        width = unet.config.projection_class_embeddings_input_dim - TIME_IDS * unet.config.addition_time_embed_dim
        inputs += (torch.randn(2, width), torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0]] * 2))
        told = {"text_embeds": {0: "batch_size"}, "time_ids": {0: "batch_size"}}
        names += told
    latents = {0: "batch_size", 2: "height", 3: "width"}
    torch.onnx.export(
        Steered(unet.eval(), control.eval()),
        inputs,
        str(folder / "model.onnx"),
        input_names=names,
        output_names=["out_sample"],
        dynamic_axes={
            "sample": latents,
            "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
            "controlnet_cond": {0: "batch_size", 2: "picture_height", 3: "picture_width"},
            "out_sample": latents,
            **told,
        },
        opset_version=18,
        dynamo=False,
    )
    index = json.loads((bundle / "model_index.json").read_text())
    (bundle / "model_index.json").write_text(json.dumps(index | {"_class_name": CLASSES[added]}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("pipeline", type=Path, help="a folder with unet/ and vae/ as diffusers saves them")
    arguments.add_argument("control", type=Path, help="a folder that ControlNetModel.save_pretrained wrote")
    arguments.add_argument("bundle", type=Path, help="the ONNX export of the pipeline")
    given = arguments.parse_args()
    unet = UNet2DConditionModel.from_pretrained(given.pipeline, subfolder="unet", local_files_only=True)
    control = ControlNetModel.from_pretrained(given.control, local_files_only=True)
    levels = json.loads((given.pipeline / "vae" / "config.json").read_text())["block_out_channels"]
    export(unet, control, given.bundle, 2 ** (len(levels) - 1))


if __name__ == "__main__":
    main()
