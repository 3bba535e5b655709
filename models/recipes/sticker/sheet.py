"""Draws prompts with an exported bundle through ONNX Runtime and lays the pictures out on one sheet.

    python sheet.py --bundle ../../sticker --output ../../sticker/sheet.png

Tokenizer, scheduler, text encoder, denoiser and decoder are taken from the bundle's files alone.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image, ImageDraw
from tokenizers import Tokenizer

PROMPTS = """a red apple|smiling face|a smiling sun|cat|dog|rocket|fish|pizza
heart|flat heart|blue heart|crying face|unicorn|robot|birthday cake|flower
tree|house|flat house|car|snowman|clock|guitar|butterfly
flat cat|flat rocket|flat fish|green apple|ghost|owl|coffee|a crown""".replace("\n", "|").split("|")
CELL, LABEL = 100, 14


class Bundle:
    def __init__(self, folder: Path):
        def session(name: str) -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(folder / name / "model.onnx", providers=["CPUExecutionProvider"])

        self.text_encoder, self.unet, self.decoder = session("text_encoder"), session("unet"), session("vae_decoder")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
        self.length = 12
        self.tokenizer.enable_padding(length=self.length, pad_id=0, pad_token="[PAD]")
        self.tokenizer.enable_truncation(self.length)
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")

    def draw(self, prompts: list[str], seed: int, steps: int, guidance: float) -> np.ndarray:
        """(count, 64, 64, 4) uint8. Every prompt starts from the noise of its own seed: seed, seed + 1 …"""
        ids = np.array([e.ids for e in self.tokenizer.encode_batch([""] * len(prompts) + prompts)], dtype=np.int64)
        text = self.text_encoder.run(None, {"input_ids": ids})[0]
        latent = torch.cat([torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))])
        self.scheduler.set_timesteps(steps)
        for time in self.scheduler.timesteps:
            both = torch.cat([latent, latent]).numpy()
            inputs = {"sample": both, "timestep": np.array(time, dtype=np.float32), "encoder_hidden_states": text}
            without, with_text = torch.from_numpy(self.unet.run(None, inputs)[0]).chunk(2)
            latent = self.scheduler.step(without + guidance * (with_text - without), time, latent).prev_sample
        picture = self.decoder.run(None, {"latent_sample": latent.numpy()})[0]
        return np.clip((picture.transpose(0, 2, 3, 1) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def sheet(pictures: np.ndarray, labels: list[str], columns: int) -> Image.Image:
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * CELL, rows * (CELL + LABEL)), "white")
    draw = ImageDraw.Draw(page)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = (i % columns) * CELL, (i // columns) * (CELL + LABEL)
        sticker = Image.fromarray(picture, "RGBA").resize((CELL - 8, CELL - 8), Image.Resampling.BICUBIC)
        page.paste(sticker, (x + 4, y + 2), sticker)
        draw.text((x + 4, y + CELL - 4), label[:17], fill="black")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--prompts", help="prompts between bars, instead of the usual ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--columns", type=int, default=8)
    args = parser.parse_args()
    prompts = args.prompts.split("|") if args.prompts else PROMPTS
    pictures = Bundle(args.bundle).draw(prompts, args.seed, args.steps, args.guidance)
    page = sheet(pictures, prompts, args.columns).quantize(128) if not args.prompts else sheet(pictures, prompts, args.columns)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    page.save(args.output, optimize=True)
    print(f"{args.output}: {len(prompts)} pictures, {args.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
