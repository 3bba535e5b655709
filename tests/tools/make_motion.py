"""Clips of `models/sticker-motion` by the recipe's own loop: diffusers' scheduler, ONNX Runtime, the `tokenizers` library.

    python tests/tools/make_motion.py

writes `tests/golden/motion/`: each case's frames below each other, its latents, and `cases.json`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "recipes" / "sticker-motion"))

import film  # noqa: E402

CASES = [
    {"name": "spin", "prompt": "a spinning cat", "seed": 3, "steps": 4, "frames": 6},
    {"name": "two_fish", "prompt": "two bouncing fish", "seed": 11, "steps": 1, "frames": 5},
    {"name": "both", "prompt": "a flat blue rocket, wobbling and growing", "seed": 7, "steps": 2, "frames": 8},
    {"name": "blink", "prompt": "a blinking owl", "seed": 2, "steps": 1, "frames": 4},
    {"name": "waving", "prompt": "a waving rainbow", "seed": 5, "steps": 2, "frames": 4},
    {"name": "drift", "prompt": "a floating balloon", "seed": 1, "steps": 1, "frames": 3},
    {"name": "still", "prompt": "a ghost", "seed": 8, "steps": 4, "frames": 3},
]


def main() -> None:
    folder = ROOT / "tests" / "golden" / "motion"
    folder.mkdir(parents=True, exist_ok=True)
    bundle, latents = film.Bundle(ROOT / "models" / "sticker-motion"), {}
    for case in CASES:
        made = bundle.latents(case["prompt"], case["seed"], case["steps"], case["frames"])
        frames = film.to_pictures(np.concatenate([bundle.decoder.run(None, {"latent_sample": part[None]})[0] for part in made]))
        latents[case["name"]] = np.ascontiguousarray(made.transpose(1, 0, 2, 3))
        Image.fromarray(frames.reshape(-1, 64, 4), "RGBA").save(folder / f"{case['name']}.png", optimize=True)
    save_file(latents, folder / "latents.safetensors")
    (folder / "cases.json").write_text(json.dumps({"cases": CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
