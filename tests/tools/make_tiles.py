"""Writes tests/golden/tiles/: what diffusers' tiled decoding makes of random latents. See README.md beside this file."""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import tiny_clips  # noqa: E402
from tiny_pipelines import build  # noqa: E402

TILES = Path(__file__).resolve().parents[1] / "golden" / "tiles"
# Bundle, height and width in latents, side of a tile in latents. 38 leaves a strip of 2 latents at the right of tiles of 16.
CASES = [("sd", 24, 40, 16), ("sd", 20, 38, 16), ("sdxl", 28, 13, 8), ("sd_turbo", 16, 33, 16)]
# Of clips: frames of latents, height and width, side of a tile.
CLIPS = [(2, 13, 20, 8), (3, 9, 12, 8)]
# The same of a decoder that sees a clip whole; more than two frames of latents are cut in time as well.
WHOLE_CLIPS = [(1, 9, 12, 8), (3, 11, 8, 8)]
# Of their frames every so many are kept, and of those every second line and column.
KEPT = (8, 2)


def clip(at: int, count: int, height: int, width: int, side: int) -> tuple[dict, dict]:
    """Tensors and the case of a causal decoder's clip."""
    vae = tiny_clips.wan().vae
    vae.enable_tiling(side * 4, side * 4, side * 3, side * 3)
    # Farther out than latents go, so that values are cut off, which is done after tiles are blended.
    latents = 2.0 * torch.randn(1, tiny_clips.WAN_CHANNELS, count, height, width, generator=torch.Generator("cpu").manual_seed(at))
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    frames = vae.decode(latents * deviation + mean).sample
    name = f"wan_{count}x{height}x{width}"
    print(f"{name}: tiles of {side}, {(frames.abs() == 1).float().mean():.3f} of the values cut off")
    return {f"{name}.latents": latents, f"{name}.picture": frames.half()}, {"name": name, "bundle": "wan", "tile_pixels": side * 4}


def whole_clip(at: int, count: int, height: int, width: int, side: int) -> tuple[dict, dict]:
    """The same of a decoder that sees a clip whole."""
    vae = tiny_clips.ltx().vae
    factor = vae.spatial_compression_ratio
    vae.enable_tiling(side * factor, side * factor, 16, side * factor * 3 // 4, side * factor * 3 // 4, 8)
    vae.use_framewise_decoding = count > 2
    channels = vae.config.latent_channels
    latents = torch.randn(1, channels, count, height, width, generator=torch.Generator("cpu").manual_seed(at))
    mean, deviation = (values.view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))
    frames = vae.decode(latents * deviation / vae.config.scaling_factor + mean, return_dict=False)[0]
    name = f"ltx_{count}x{height}x{width}"
    print(f"{name}: tiles of {side}, values {frames.min():.2f} to {frames.max():.2f}")
    every, step = KEPT
    kept = frames[:, :, ::every, ::step, ::step].contiguous()
    return {f"{name}.latents": latents, f"{name}.picture": kept.half()}, {"name": name, "bundle": "ltx", "tile_pixels": side * factor}


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    TILES.mkdir(parents=True, exist_ok=True)
    tensors, cases = {}, []
    for at, (bundle, height, width, side) in enumerate(CASES):
        vae = build(bundle).vae
        vae.enable_tiling()
        vae.tile_latent_min_size, vae.tile_sample_min_size = side, side * 4
        # As the denoiser has them: about 1 times the spread that the autoencoder was scaled for.
        latents = torch.randn(1, 4, height, width, generator=torch.Generator("cpu").manual_seed(at))
        picture = vae.decode(latents / vae.config.scaling_factor).sample
        assert picture.shape == (1, 3, height * 4, width * 4), picture.shape
        name = f"{bundle}_{height}x{width}"
        tensors[f"{name}.latents"] = latents
        tensors[f"{name}.picture"] = picture.half()
        cases.append({"name": name, "bundle": bundle, "tile_pixels": side * 4})
        print(f"{name}: tiles of {side}, values {picture.min():.2f} to {picture.max():.2f}")
    for make, of in ((clip, CLIPS), (whole_clip, WHOLE_CLIPS)):
        for at, sizes in enumerate(of):
            found, case = make(at, *sizes)
            tensors |= found
            cases.append(case)
    save_file(tensors, TILES / "tiles.safetensors")
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    (TILES / "cases.json").write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
