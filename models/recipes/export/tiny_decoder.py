"""Exports diffusers' `AutoencoderTiny` (TAESD and its kin) as `vae_decoder_tiny/`: `model.onnx` with `config.json` beside it.

    python models/recipes/export/tiny_decoder.py FOLDER_OF_AUTOENCODER BUNDLE

The decoder takes latents as the denoiser has them and gives [-1, 1]; its `scaling_factor`, which is 1, stays in its configuration.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny


class Decoder(torch.nn.Module):
    def __init__(self, autoencoder: AutoencoderTiny):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latent_sample).sample


@torch.no_grad()
def export(autoencoder: AutoencoderTiny, folder: Path) -> None:
    """Writes the two files into `folder`; sides of the latents stay open."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = {0: "batch_size", 2: "height_latent", 3: "width_latent"}
    latent = torch.randn(1, autoencoder.config.latent_channels, 12, 20, generator=torch.Generator("cpu").manual_seed(0))
    torch.onnx.export(
        Decoder(autoencoder.eval()),
        (latent,),
        str(folder / "model.onnx"),
        input_names=["latent_sample"],
        output_names=["sample"],
        dynamic_axes={"latent_sample": axes, "sample": {0: "batch_size", 2: "height", 3: "width"}},
        opset_version=18,
        dynamo=False,
    )
    config = {key: value for key, value in autoencoder.config.items() if not key.startswith("_name_or_path")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("autoencoder", type=Path, help="a folder that AutoencoderTiny.save_pretrained wrote")
    arguments.add_argument("bundle", type=Path, help="where vae_decoder_tiny/ shall lie")
    given = arguments.parse_args()
    export(AutoencoderTiny.from_pretrained(given.autoencoder, local_files_only=True), given.bundle / "vae_decoder_tiny")


if __name__ == "__main__":
    main()
