"""Exports a super-resolution network as a folder for `kiln upscale`: `model.onnx`, [B, 3, H, W] to [B, 3, sH, sW], both in [0, 1].

    python models/recipes/export/upscaler.py FOLDER_OF_SWIN2SR OUTPUT --side 64

transformers' Swin2SR cuts its windows for the size that it was traced with, so the sides are fixed and larger pictures are made of tiles. A
convolutional network is exported by `export` with its sides left open.
"""

import argparse
from pathlib import Path

import torch


@torch.no_grad()
def export(network: torch.nn.Module, folder: Path, side: int, fixed: bool) -> None:
    """Writes `model.onnx` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = {0: "batch_size"} if fixed else {0: "batch_size", 2: "height", 3: "width"}
    torch.onnx.export(
        network.eval(),
        (torch.rand(1, 3, side, side),),
        str(folder / "model.onnx"),
        input_names=["pixel_values"],
        output_names=["reconstruction"],
        dynamic_axes={"pixel_values": axes, "reconstruction": dict(axes)},
        opset_version=18,
        dynamo=False,
    )


class Reconstruction(torch.nn.Module):
    """Swin2SR without the wrapping of its output."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values, return_dict=False)[0]


def main() -> None:
    from transformers import Swin2SRForImageSuperResolution

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=Path, help="a folder that Swin2SRForImageSuperResolution.save_pretrained wrote")
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--side", type=int, default=64, help="of a tile in pixels")
    given = arguments.parse_args()
    model = Swin2SRForImageSuperResolution.from_pretrained(given.model, local_files_only=True)
    export(Reconstruction(model), given.output, given.side, fixed=True)


if __name__ == "__main__":
    main()
