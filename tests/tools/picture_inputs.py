"""The pictures and masks that image-to-image and inpainting cases start from, drawn with arithmetic alone."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int, height: int) -> Image.Image:
    """A gradient with a disc and a bar: every channel differs, edges run both ways."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red, green, blue = 255 * x / (width - 1), 255 * y / (height - 1), 255 * (1 - x / (width - 1))
    pixels = np.stack([red, green, blue], axis=-1)
    disc = (x - width * 0.35) ** 2 + (y - height * 0.4) ** 2 < (height * 0.25) ** 2
    pixels[disc] = (250, 200, 30)
    bar = (x > width * 0.7) & (x < width * 0.8)
    pixels[bar] = (20, 90, 60)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGB")


def mask(width: int, height: int) -> Image.Image:
    """White where to paint. The two greys lie on either side of one half, where diffusers cuts."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    pixels[: height // 8] = 127
    pixels[-(height // 8) :] = 128
    return Image.fromarray(pixels, "L")


PICTURES = {"input.png": (64, 64), "input_wide.png": (80, 48), "input_odd.png": (66, 50)}
MASKS = {"mask.png": (64, 64), "mask_wide.png": (80, 48), "mask_large.png": (128, 128)}


def write_inputs(folder: Path) -> None:
    for name, size in PICTURES.items():
        picture(*size).save(folder / name)
    for name, size in MASKS.items():
        mask(*size).save(folder / name)
