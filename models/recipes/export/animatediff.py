"""Writes a folder that Kiln opens out of an AnimateDiff pipeline. See README.md beside this file."""

import argparse
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AnimateDiffPipeline, MotionAdapter

from exporting import clip_text_encoder, export, picture_autoencoder, plain_config, write_around


@contextmanager
def slices_for_splits():
    """The exporter writes a split into pieces that do not divide the whole wrongly; FreeNoise's blocks have one over their frames."""
    split = torch.Tensor.split

    def sliced(tensor, size, dim=0):
        if not isinstance(size, int):
            return split(tensor, size, dim)
        count = int(tensor.shape[dim])
        return tuple(tensor.narrow(dim, at, min(size, count - at)) for at in range(0, count, size))

    torch.Tensor.split = sliced
    try:
        yield
    finally:
        torch.Tensor.split = split


def export_unet(pipeline, target: Path, frames: int | None, windows: tuple[int, int] | None) -> None:
    """The denoiser with its motion modules: one row of text for each clip, frames open unless `frames` fixes them."""
    unet = pipeline.unet
    config = plain_config(unet)
    if windows:
        # What FreeNoise does inside the motion modules depends on the number of frames, so that is fixed with it.
        pipeline.enable_free_noise(context_length=windows[0], context_stride=windows[1])
        config["free_noise_context_length"], config["free_noise_context_stride"] = windows
    count = frames or min(8, config["motion_max_seq_length"])

    def call(network, sample, timestep, words):
        clips, rows = sample.shape[0], sample.shape[2]
        # The class wants a row of text for each frame.
        words = words[:, None].expand(clips, rows, -1, -1).reshape(clips * rows, words.shape[1], words.shape[2])
        return network(sample, timestep, words).sample

    sides = {0: "batch", 3: "height", 4: "width"} | ({} if frames else {2: "frames"})
    inputs = {
        "sample": (torch.randn(2, config["in_channels"], count, 16, 24), sides),
        "timestep": (torch.tensor(999.0), {}),
        "encoder_hidden_states": (torch.randn(2, 77, config["cross_attention_dim"]), {0: "batch", 1: "tokens"}),
    }
    with slices_for_splits():
        export(unet, call, target, inputs, {"out_sample": sides}, config)


def export_pipeline(pipeline, target: Path, frames: int | None = None, windows: tuple[int, int] | None = None, encoder: bool = True) -> None:
    write_around(pipeline, target, "AnimateDiffPipeline", ["tokenizer"])
    clip_text_encoder(pipeline.text_encoder, pipeline.tokenizer, target / "text_encoder")
    picture_autoencoder(pipeline.vae, target, encoder)
    export_unet(pipeline, target / "unet", frames, windows)


def window(text: str) -> tuple[int, int]:
    length, stride = text.split(":")
    return int(length), int(stride)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved: an AnimateDiffPipeline, or a Stable Diffusion 1.x for --motion")
    parser.add_argument("target", type=Path)
    parser.add_argument("--motion", type=Path, help="a folder with a motion adapter, where the source has none")
    parser.add_argument("--scheduler", type=Path, help="a scheduler_config.json that takes the place of the source's")
    parser.add_argument("--frames", type=int, help="fix the number of frames")
    parser.add_argument("--windows", type=window, metavar="LENGTH:STRIDE", help="FreeNoise inside the motion modules, as 16:4; needs --frames")
    parser.add_argument("--no-encoder", action="store_true", help="leave vae_encoder out: text to video alone")
    given = parser.parse_args()
    if given.windows and (not given.frames or given.frames <= given.windows[0]):
        parser.error("--windows needs --frames of more than its length")
    parts = {"motion_adapter": MotionAdapter.from_pretrained(given.motion, local_files_only=True)} if given.motion else {}
    pipeline = AnimateDiffPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32, **parts)
    if given.scheduler:
        import json

        import diffusers

        config = json.loads(given.scheduler.read_text())
        pipeline.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    export_pipeline(pipeline, given.target, given.frames, given.windows, not given.no_encoder)


if __name__ == "__main__":
    main()
