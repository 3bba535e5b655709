"""The pictures that the family cases start from, and the sheet of pictures that samples are compared with: arithmetic alone."""

from pathlib import Path

import numpy as np
from PIL import Image

from family_export import write_json

TILE, COUNT, COLUMNS = 16, 24, 6


def disc(side: int, x: float, y: float, radius: float, inside: tuple[int, int, int], outside: tuple[int, int, int]) -> np.ndarray:
    """A disc with a soft edge on a ground that darkens downwards; `[side, side, 3]` in [0, 255]. Lengths are shares of the side."""
    down, across = (np.mgrid[0:side, 0:side] + 0.5) / side
    distance = np.hypot(across - x, down - y)
    share = np.clip((radius - distance) * side / 2 + 0.5, 0, 1)[..., None]
    ground = np.array(outside) * (1 - 0.2 * down[..., None])
    return share * np.array(inside) + (1 - share) * ground


def picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.round().astype(np.uint8), "RGB")


INPUTS = {
    "disc_8.png": (8, 0.4, 0.5, 0.3, (230, 60, 40), (250, 250, 240)),
    "disc_16.png": (16, 0.55, 0.45, 0.3, (40, 90, 220), (255, 255, 255)),
    "spot_8.png": (8, 0.7, 0.3, 0.2, (250, 200, 30), (20, 60, 50)),
    "spot_16.png": (16, 0.3, 0.65, 0.25, (30, 160, 60), (90, 30, 120)),
}


def write_inputs(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings in INPUTS.items():
        picture(disc(*settings)).save(folder / name, optimize=True)


def write_sheet(folder: Path) -> None:
    """Tiles that differ in place, size and colour, row by row."""
    folder.mkdir(parents=True, exist_ok=True)
    sheet = np.zeros((COUNT // COLUMNS * TILE, COLUMNS * TILE, 3))
    for at in range(COUNT):
        place = (0.35 + 0.1 * (at % 4), 0.4 + 0.08 * (at % 3), 0.2 + 0.02 * (at % 7))
        colour = (40 + 37 * at % 200, 60 + 91 * at % 180, 30 + 53 * at % 220)
        row, column = divmod(at, COLUMNS)
        sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = disc(TILE, *place, colour, (255, 255, 255))
    picture(sheet).save(folder / "sheet.png", optimize=True)
    write_json(folder / "config.json", {"tile_size": TILE, "count": COUNT, "columns": COLUMNS})
