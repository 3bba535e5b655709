"""Draws clips with an exported bundle through ONNX Runtime, from its own files alone, and lays them out.

    python film.py --bundle ../../sticker-motion --output ../../sticker-motion

writes `sheet.png` (a row for each prompt, the frames from left to right) and `example.webp` (one clip of each motion, every second frame).
"""

import argparse
import json
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer

import neighbour
import motions
import still

# Each motion, two at once, none, and a word, a colour and a number that the sticker model's captions held as well.
PROMPTS = """a bouncing red apple|a spinning pizza|a wobbling robot|a waving rainbow|a growing heart|a drifting balloon|a blinking owl
a spinning bouncing cat|a ghost|two bouncing fish|a flat blue wobbling cat|a floating unicorn"""
COLUMNS = 12


def to_pictures(sample: np.ndarray) -> np.ndarray:
    """(n, 4, 64, 64) on [-1, 1] to (n, 64, 64, 4) uint8."""
    return np.clip((sample.transpose(0, 2, 3, 1) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


class Bundle:
    def __init__(self, folder: Path):
        self.text_encoder, self.unet, self.decoder = (still.session(folder / part / "model.onnx") for part in ("text_encoder", "unet", "vae_decoder"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
        length = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())["model_max_length"]
        self.tokenizer.enable_padding(length=length, pad_id=0, pad_token="[PAD]")
        self.tokenizer.enable_truncation(length)
        self.channels = json.loads((folder / "unet" / "config.json").read_text())["in_channels"]
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)

    def latents(self, prompt: str, seed: int, steps: int, frames: int) -> np.ndarray:
        """(frames, channels, 8, 8): noise comes as one tensor for the whole clip."""
        ids = np.array([self.tokenizer.encode(prompt).ids], dtype=np.int64)
        text = self.text_encoder.run(None, {"input_ids": ids})[0]
        generator = torch.Generator().manual_seed(seed)
        latent = torch.randn(1, self.channels, frames, 8, 8, generator=generator)
        self.scheduler.set_timesteps(steps)
        for time in self.scheduler.timesteps:
            inputs = {"sample": latent.numpy(), "timestep": np.array(time, dtype=np.float32), "encoder_hidden_states": text}
            velocity = torch.from_numpy(self.unet.run(None, inputs)[0])
            latent = self.scheduler.step(velocity, time, latent, generator=generator).prev_sample
        return latent[0].transpose(0, 1).numpy()

    def draw(self, prompt: str, seed: int, steps: int, frames: int, every: int = 1) -> np.ndarray:
        """(frames / every, 64, 64, 4) uint8, straight alpha."""
        latents = self.latents(prompt, seed, steps, frames)[::every]
        return to_pictures(np.concatenate([self.decoder.run(None, {"latent_sample": part[None]})[0] for part in latents]))


def on_white(frame: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame, "RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    return page.convert("RGB")


def sheet(clips: list[np.ndarray], labels: list[str]) -> Image.Image:
    """One row for each clip, COLUMNS of its frames at equal distances, its prompt above."""
    side, label = 56, 11
    page = Image.new("RGB", (COLUMNS * side, len(clips) * (side + label)), "white")
    draw = ImageDraw.Draw(page)
    for row, (clip, text) in enumerate(zip(clips, labels, strict=True)):
        draw.text((3, row * (side + label)), text, fill="black", font_size=9)
        for column in range(COLUMNS):
            frame = on_white(clip[column * len(clip) // COLUMNS]).resize((side, side), Image.Resampling.LANCZOS)
            page.paste(frame, (column * side, row * (side + label) + label))
    return page


def moving(clips: list[np.ndarray]) -> list[Image.Image]:
    """All clips in a row, with their transparency."""
    pages = []
    for number in range(len(clips[0])):
        page = Image.new("RGBA", (len(clips) * 64, 64))
        for place, clip in enumerate(clips):
            page.paste(Image.fromarray(clip[number], "RGBA"), (place * 64, 0))
        pages.append(page)
    return pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--prompts", default=PROMPTS, help="prompts between bars and lines, instead of the usual ones")
    parser.add_argument("--seed", type=int, default=0, help="of the first prompt; the next ones count on")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--frames", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    prompts = [prompt for line in args.prompts.splitlines() for prompt in line.split("|")]
    bundle = Bundle(args.bundle)
    clips = [bundle.draw(prompt, args.seed + number, args.steps, args.frames) for number, prompt in enumerate(prompts)]
    args.output.mkdir(parents=True, exist_ok=True)
    sheet(clips, prompts).quantize(128).save(args.output / "sheet.png", optimize=True)
    pages = moving([clip[::2] for clip in clips[: len(motions.MOTIONS)]])
    pages[0].save(args.output / "example.webp", save_all=True, append_images=pages[1:], duration=1000 // 12, loop=0, quality=50, method=6)
    for name in ("sheet.png", "example.webp"):
        print(f"{args.output / name}: {len(clips)} clips, {(args.output / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
