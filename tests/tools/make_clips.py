"""Writes the bundles of clips under tests/bundles/ and the golden clips under tests/golden/clips/. See README.md beside this file."""

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).resolve().parents[2] / "models" / "recipes" / "export"))

import diffusers  # noqa: E402
import diffusers.pipelines.ltx.pipeline_ltx  # noqa: E402
import diffusers.pipelines.ltx.pipeline_ltx_image2video  # noqa: E402
import diffusers.pipelines.wan.pipeline_wan  # noqa: E402
import diffusers.pipelines.wan.pipeline_wan_i2v  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from diffusers.models.attention import FreeNoiseTransformerBlock  # noqa: E402
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin  # noqa: E402
from PIL import Image, ImageSequence  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import surgery  # noqa: E402
import tiny_clips  # noqa: E402
from agreement import session  # noqa: E402
from animatediff import export_pipeline as export_animatediff  # noqa: E402
from clip_cases import all_cases  # noqa: E402
from ltx import DECODE_NOISE_SCALE, DECODE_TIMESTEP, export_pipeline as export_ltx  # noqa: E402
from make_bundles import BUNDLES, size, tidy_config, write_json  # noqa: E402
from tiny_sentences import write_sentences  # noqa: E402
from tiny_tokenizer import END, write_tokenizer  # noqa: E402
from wan import export_pipeline as export_wan  # noqa: E402

CLIPS = Path(__file__).resolve().parents[1] / "golden" / "clips"
# Frames that `animatediff_windows` is exported for, and the windows inside it.
LONG_FRAMES, WINDOWS = 10, (8, 4)
LIMIT = 1e-4


def write_animatediff(target: Path) -> None:
    export_animatediff(tiny_clips.animatediff(), target)


def write_animatediff_windows(target: Path) -> None:
    export_animatediff(tiny_clips.animatediff(), target, LONG_FRAMES, WINDOWS, encoder=False)


def write_wan(target: Path) -> None:
    export_wan(tiny_clips.wan(), target)


def write_wan_i2v(target: Path) -> None:
    export_wan(tiny_clips.wan_i2v(), target)


def write_ltx(target: Path) -> None:
    export_ltx(tiny_clips.ltx(), target)


def write_ltx_distilled(target: Path) -> None:
    export_ltx(tiny_clips.ltx_distilled(), target)
    timesteps = ", ".join(str(timestep) for timestep in tiny_clips.LTX_TIMESTEPS)
    card = f'name = "ltx_distilled"\n\n[steps]\ntrained = [{len(tiny_clips.LTX_TIMESTEPS)}]\ntimesteps = [{timesteps}]\n'
    (target / "kiln.toml").write_text(card, encoding="utf-8")


WRITERS = {
    "animatediff": write_animatediff,
    "animatediff_windows": write_animatediff_windows,
    "wan": write_wan,
    "wan_i2v": write_wan_i2v,
    "ltx": write_ltx,
    "ltx_distilled": write_ltx_distilled,
}


def write_bundle(name: str) -> None:
    target = BUNDLES / name
    shutil.rmtree(target, ignore_errors=True)
    WRITERS[name](target)
    for model in sorted(target.glob("*/model.onnx")):
        surgery.tidy(model)
    for config in [*target.glob("*/config.json"), target / "model_index.json"]:
        tidy_config(config)
    if name.startswith("animatediff"):
        shutil.rmtree(target / "tokenizer")
        write_tokenizer(target / "tokenizer", END)
        write_json(target / "scheduler" / "scheduler_config.json", tiny_clips.ANIMATEDIFF)
    if name == "wan":
        # More frames than it was trained for are made in windows.
        (target / "kiln.toml").write_text(f'name = "wan"\n\n[clip]\nframes = [{tiny_clips.WAN_TRAINED_FRAMES}]\n')
    if name.startswith("wan"):
        shutil.rmtree(target / "tokenizer")
        write_sentences(target / "tokenizer")
        write_json(target / "scheduler" / "scheduler_config.json", tiny_clips.WAN)
    if name.startswith("ltx"):
        shutil.rmtree(target / "tokenizer")
        write_sentences(target / "tokenizer")
        scheduler = tiny_clips.LTX_DISTILLED if name.endswith("distilled") else tiny_clips.LTX
        write_json(target / "scheduler" / "scheduler_config.json", scheduler)
    compared = {"wan": wan_agreement, "ltx": ltx_agreement}.get(name.split("_")[0], agreement)(name, target)
    print(f"{name}: exported, largest difference from torch {compared:.1e}, {size(target) / 1024:.0f} KiB")


def wan_agreement(name: str, target: Path) -> float:
    """The same for a batch of two, and a clip that is decoded frame by frame of its latents."""
    pipeline = getattr(tiny_clips, name)()
    generator = torch.Generator("cpu").manual_seed(7)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def run(role: str, inputs: dict) -> list[np.ndarray]:
        return session(target / role / "model.onnx").run(None, {name: value.numpy() for name, value in inputs.items()})

    def piece_by_piece(role: str, port: str, whole: torch.Tensor, each: int) -> np.ndarray:
        first, following = (session(target / part / "model.onnx") for part in (f"{role}_first", role))
        part, *past = first.run(None, {port: whole[:, :, :1].numpy()})
        parts = [part]
        for begin in range(1, whole.shape[2], each):
            caches = {f"past.{at}": cache for at, cache in enumerate(past)}
            part, *past = following.run(None, {port: whole[:, :, begin : begin + each].numpy()} | caches)
            parts.append(part)
        return np.concatenate(parts, axis=2)

    config = pipeline.transformer.config
    sample, words = noise(2, config.in_channels, 5, 6, 10), noise(2, 512, config.text_dim)
    inputs = {"hidden_states": sample, "timestep": torch.tensor([420.0, 420.0]), "encoder_hidden_states": words}
    latents = sample[:1, : tiny_clips.WAN_CHANNELS]
    pairs = []
    with torch.no_grad():
        if config.image_dim is not None:
            picture, clip = noise(2, 3, tiny_clips.PICTURE_SIDE, tiny_clips.PICTURE_SIDE), noise(1, 3, 13, 24, 40)
            inputs["encoder_hidden_states_image"] = pipeline.image_encoder(picture, output_hidden_states=True).hidden_states[-2]
            pairs.append((run("image_encoder", {"pixel_values": picture})[0], inputs["encoder_hidden_states_image"]))
            pairs.append((piece_by_piece("vae_encoder", "sample", clip, 4), pipeline.vae.encode(clip).latent_dist.parameters))
        pairs.append((run("transformer", inputs)[0], pipeline.transformer(**inputs, return_dict=False)[0]))
        # diffusers cuts off what is out of range, which Kiln does when it makes pixels.
        pairs.append((piece_by_piece("vae_decoder", "latent_sample", latents, 1).clip(-1, 1), pipeline.vae.decode(latents).sample))
    worst = max(float(np.abs(found - expected.numpy()).max()) for found, expected in pairs)
    if not worst < LIMIT:
        raise SystemExit(f"{name} differs from torch by {worst}, at most {LIMIT} is allowed")
    return worst


def ltx_agreement(name: str, target: Path) -> float:
    """The same for a transformer with a time for each frame, and for both halves of the autoencoder."""
    pipeline = getattr(tiny_clips, name)()
    generator = torch.Generator("cpu").manual_seed(7)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def run(role: str, **inputs) -> np.ndarray:
        network = session(target / role / "model.onnx")
        return network.run(None, {key: value.numpy() for key, value in inputs.items()})[0]

    sides, rate = (5, 3, 2), 16.0
    sample, words = noise(2, tiny_clips.LTX_CHANNELS, *sides), noise(2, 128, tiny_clips.LTX_TEXT_WIDTH)
    mask = torch.ones(2, 128, dtype=torch.int64)
    mask[1, 9:] = 0
    times = torch.tensor([[0.0, 420.0, 420.0, 420.0, 420.0], [999.0] * 5])
    picture, moment = noise(1, 3, 48, 80), torch.tensor([0.05, 0.3])
    with torch.no_grad():
        expected = pipeline.transformer(
            sample.flatten(2).transpose(1, 2),
            words,
            times.repeat_interleave(sides[1] * sides[2], dim=1),
            mask,
            *sides,
            rope_interpolation_scale=(8 / rate, 16, 16),
            return_dict=False,
        )[0]
        decoded = pipeline.vae.decode(sample, moment if name.endswith("distilled") else None).sample
        encoded = pipeline.vae.encode(picture[:, :, None]).latent_dist.parameters[:, :, 0]
    told = {"encoder_hidden_states": words, "encoder_attention_mask": mask, "frame_rate": torch.tensor(rate)}
    found = run("transformer", hidden_states=sample, timestep=times, **told)
    pairs = [
        (found, expected.transpose(1, 2).unflatten(2, sides)),
        (run("vae_decoder", latent_sample=sample, **({"timestep": moment} if name.endswith("distilled") else {})), decoded),
        (run("vae_encoder", sample=picture), encoded),
    ]
    worst = max(float(np.abs(left - right.numpy()).max()) for left, right in pairs)
    if not worst < LIMIT:
        raise SystemExit(f"{name} differs from torch by {worst}, at most {LIMIT} is allowed")
    return worst


def agreement(name: str, target: Path) -> float:
    """How far the denoiser of a bundle lies from torch's, on a batch, a size and a number of frames that it was not traced with."""
    pipeline = tiny_clips.animatediff()
    frames = LONG_FRAMES if name.endswith("windows") else 5
    if name.endswith("windows"):
        pipeline.enable_free_noise(*WINDOWS)
    generator = torch.Generator("cpu").manual_seed(7)
    sample, words = torch.randn(3, 4, frames, 12, 8, generator=generator), torch.randn(3, 77, 24, generator=generator)
    network = session(target / "unet" / "model.onnx")
    worst = 0.0
    for timestep in (999.0, 420.5, 0.0):
        inputs = {"sample": sample.numpy(), "timestep": np.array(timestep, np.float32), "encoder_hidden_states": words.numpy()}
        with torch.no_grad():
            expected = pipeline.unet(sample, torch.tensor(timestep), words.repeat_interleave(frames, dim=0)).sample
        worst = max(worst, float(np.abs(network.run(None, inputs)[0] - expected.numpy()).max()))
    if not worst < LIMIT:
        raise SystemExit(f"{name}/unet differs from torch by {worst}, at most {LIMIT} is allowed")
    return worst


def over_windows(sample, length: int, stride: int, predict):
    """What `predict(begin, end)` gives of overlapping windows of frames, in FreeNoise's places and with its weights."""
    block = SimpleNamespace(context_length=length, context_stride=stride)
    weights = torch.tensor(FreeNoiseTransformerBlock._get_frame_weights(block, length), dtype=torch.float32)
    frames = sample.shape[2]
    places = FreeNoiseTransformerBlock._get_frame_indices(block, frames)
    if places[-1][1] < frames:
        places.append((frames - length, frames))
    total, counted = torch.zeros_like(sample), torch.zeros(frames)
    for begin, end in places:
        total[:, :, begin:end] += predict(begin, end) * weights[:, None, None]
        counted[begin:end] += weights
    return total / counted[:, None, None]


def in_windows(unet, length: int, stride: int):
    forward = type(unet).forward.__get__(unet)

    def windowed(sample, timestep, encoder_hidden_states, **_):
        clips, frames = sample.shape[0], sample.shape[2]
        if frames <= length:
            return forward(sample, timestep, encoder_hidden_states)
        words = encoder_hidden_states.reshape(clips, frames, *encoder_hidden_states.shape[1:])

        def predict(begin: int, end: int):
            return forward(sample[:, :, begin:end], timestep, words[:, begin:end].flatten(0, 1)).sample

        return SimpleNamespace(sample=over_windows(sample, length, stride, predict))

    return windowed


def wan_in_windows(transformer, length: int, stride: int):
    """The same around a transformer, whose frames are of latents and whose texts have a row for each clip."""
    forward = type(transformer).forward.__get__(transformer)

    def windowed(hidden_states, timestep, encoder_hidden_states, **_):
        def predict(begin: int, end: int):
            return forward(hidden_states[:, :, begin:end], timestep, encoder_hidden_states, return_dict=False)[0]

        return (over_windows(hidden_states, length, stride, predict),)

    return windowed


def free_noise(length: int, stride: int, vae_scale_factor: int) -> SimpleNamespace:
    """What `_prepare_latents_free_noise` asks of a pipeline: its noise, and none of its windows inside the motion modules."""
    return SimpleNamespace(
        _free_noise_context_length=length,
        _free_noise_context_stride=stride,
        _free_noise_noise_type="shuffle_context",
        vae_scale_factor=vae_scale_factor,
    )


def asked(case: dict) -> dict:
    """What every pipeline of clips is asked for; a generator of its own for each run."""
    return {
        "prompt": case["prompt"],
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance"],
        "width": case["width"],
        "height": case["height"],
        "num_frames": case["frames"],
        "generator": torch.Generator("cpu").manual_seed(case["seed"]),
    }


def run_animatediff(case: dict):
    base = tiny_clips.animatediff()
    kind = diffusers.AnimateDiffPipeline if case["task"] == "text2video" else diffusers.AnimateDiffVideoToVideoPipeline
    parts = {name: part for name, part in base.components.items() if name not in ("feature_extractor", "image_encoder")}
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    if case["sampler"]:
        pipeline.scheduler = getattr(diffusers, case["sampler"]["class"]).from_config(pipeline.scheduler.config, **case["sampler"]["config"])
    if case["bundle"].endswith("windows"):
        pipeline.enable_free_noise(*WINDOWS)
    elif case["windows"]:
        length, stride = case["windows"]
        pipeline.unet.forward = in_windows(pipeline.unet, length, stride)
        if case["task"] == "text2video":
            free = free_noise(length, stride, pipeline.vae_scale_factor)
            prepare = pipeline.prepare_latents

            def shuffled(*arguments):
                return prepare(*arguments[:-1], AnimateDiffFreeNoiseMixin._prepare_latents_free_noise(free, *arguments))

            pipeline.prepare_latents = shuffled

    def arguments() -> dict:
        found = asked(case) | {"negative_prompt": case["negative"]}
        if case["task"] == "text2video":
            return found
        # A clip has its own number of frames.
        found.pop("num_frames")
        if case["clip"]:
            given = [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(CLIPS / case["clip"]))][: case["frames"]]
        else:
            given = [Image.open(CLIPS / case["input"]).convert("RGB")] * case["frames"]
        pictures = [picture.resize((case["width"], case["height"]), Image.Resampling.LANCZOS) for picture in given]
        return found | {"video": pictures, "strength": case["strength"]}

    latents = pipeline(**arguments(), output_type="latent").frames
    return latents, pipeline(**arguments(), output_type="pil").frames[0]


def run_wan(case: dict):
    # Its texts are of letters that need no mending.
    for module in (diffusers.pipelines.wan.pipeline_wan, diffusers.pipelines.wan.pipeline_wan_i2v):
        module.ftfy = SimpleNamespace(fix_text=lambda text: text)
    pipeline = getattr(tiny_clips, case["bundle"])()
    given = {"image": Image.open(CLIPS / case["input"]).convert("RGB")} if case["input"] else {}
    if case["sampler"]:
        pipeline.scheduler = getattr(diffusers, case["sampler"]["class"]).from_config(pipeline.scheduler.config, **case["sampler"]["config"])

    if case["windows"]:
        length, stride = case["windows"]
        pipeline.transformer.forward = wan_in_windows(pipeline.transformer, length, stride)
        free = free_noise(length, stride, pipeline.vae_scale_factor_spatial)
        sizes = (1, tiny_clips.WAN_CHANNELS, (case["frames"] - 1) // 4 + 1, case["height"], case["width"])
        generator = torch.Generator("cpu").manual_seed(case["seed"])
        given["latents"] = AnimateDiffFreeNoiseMixin._prepare_latents_free_noise(free, *sizes, torch.float32, "cpu", generator)

    def film(output: str):
        return pipeline(
            negative_prompt=case["negative"],
            output_type=output,
            **asked(case),
            **given,
        ).frames

    return film("latent"), film("pil")[0]


def with_timesteps(retrieve, timesteps: list[int]):
    """diffusers' pipelines of LTX hand levels over beside a person's timesteps, which its own check refuses: without them."""

    def retrieved(scheduler, steps, device, _, sigmas, mu):
        return retrieve(scheduler, None, device, timesteps=timesteps)

    return retrieved


def run_ltx(case: dict):
    pipeline, distilled = getattr(tiny_clips, case["bundle"])(), case["bundle"].endswith("distilled")
    module = diffusers.pipelines.ltx.pipeline_ltx
    if case["task"] == "picture2video":
        pipeline = diffusers.LTXImageToVideoPipeline(**pipeline.components)
        pipeline.set_progress_bar_config(disable=True)
        module = diffusers.pipelines.ltx.pipeline_ltx_image2video
    if case["tiles"]:
        pipeline.vae.use_framewise_decoding = True
        pipeline.vae.tile_sample_min_num_frames, pipeline.vae.tile_sample_stride_num_frames = case["tiles"]
    retrieve = with_timesteps(module.retrieve_timesteps, tiny_clips.LTX_TIMESTEPS) if distilled else module.retrieve_timesteps
    size = (case["width"], case["height"])

    def film(output: str):
        given = {"decode_timestep": DECODE_TIMESTEP, "decode_noise_scale": DECODE_NOISE_SCALE} if distilled else {}
        if case["frame_rate"]:
            given["frame_rate"] = case["frame_rate"]
        if case["task"] == "picture2video":
            given["image"] = Image.open(CLIPS / case["input"]).convert("RGB").resize(size, Image.Resampling.LANCZOS)
        with mock.patch.object(module, "retrieve_timesteps", retrieve):
            return pipeline(
                negative_prompt=case["negative"] or "",
                output_type=output,
                **asked(case),
                **given,
            ).frames

    side = pipeline.vae_spatial_compression_ratio
    sides = ((case["frames"] - 1) // 8 + 1, case["height"] // side, case["width"] // side)
    return film("latent").transpose(1, 2).unflatten(2, sides), film("pil")[0]


def run(case: dict):
    runs = {"animatediff": run_animatediff, "wan": run_wan, "ltx": run_ltx}
    return runs[case["bundle"].split("_")[0]](case)


def write_inputs() -> None:
    """A picture, one of another shape, and a clip: a disc that crosses coloured bands."""
    shutil.copy(CLIPS.parent / "pictures" / "input.png", CLIPS / "input.png")
    whole = Image.open(CLIPS / "input.png").convert("RGB")
    whole.crop((0, whole.height // 4, whole.width, whole.height // 4 + whole.height // 2)).save(CLIPS / "input_wide.png")
    bands = [(40 + 24 * at, 200 - 20 * at, 90 + 16 * at) for at in range(8)]
    rows, columns = np.mgrid[0:32, 0:32]
    frames = []
    for at in range(20):
        disc = (rows - 16) ** 2 + (columns - 3 - 1.4 * at) ** 2 < 60
        frame = Image.fromarray(np.where(disc, 8, rows // 4).astype(np.uint8), "P")
        frame.putpalette([value for colour in [*bands, (250, 230, 60)] for value in colour])
        frames.append(frame)
    frames[0].save(CLIPS / "input.gif", save_all=True, append_images=frames[1:], duration=80, loop=0, disposal=1, optimize=False)


def sheet(frames: list[Image.Image]) -> Image.Image:
    """The frames below each other."""
    width, height = frames[0].size
    whole = Image.new("RGB", (width, height * len(frames)))
    for at, frame in enumerate(frames):
        whole.paste(frame, (0, at * height))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", nargs="*", help="write only these bundles, and no clips")
    parser.add_argument("--only", help="run the cases whose names begin so, and write nothing")
    parser.add_argument("--add", help="make the clips whose names begin so, and leave the others as they are")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if given.bundles is not None:
        for name in given.bundles or WRITERS:
            write_bundle(name)
        return
    CLIPS.mkdir(parents=True, exist_ok=True)
    write_inputs()
    if not given.only:
        for old in [*CLIPS.glob(f"{given.add or ''}*.png"), *([] if given.add else CLIPS.glob("*.safetensors"))]:
            if not old.name.startswith("input"):
                old.unlink()
    wanted = given.only or given.add or ""
    cases = [case for case in all_cases() if case["name"].startswith(wanted)]
    kept = load_file(CLIPS / "latents.safetensors") if given.add else {}
    for case in cases:
        latents, frames = run(case)
        assert frames[0].size == (case["width"], case["height"]) and len(frames) == case["frames"], case["name"]
        assert latents.isfinite().all(), f"{case['name']}: not finite"
        values = np.stack([np.asarray(frame, np.float32) for frame in frames])
        apart = np.abs(np.diff(values, axis=0)).mean() if len(frames) > 1 else 0.0
        print(f"{case['name']}: spread {values.std() / 127.5:.2f}, from frame to frame {apart / 127.5:.3f}", flush=True)
        kept[case["name"]] = latents.float().contiguous()
        if not given.only:
            sheet(frames).save(CLIPS / f"{case['name']}.png", optimize=True)
    if given.only:
        return
    save_file(kept, CLIPS / "latents.safetensors")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    text = json.dumps({"versions": versions, "cases": all_cases()}, indent=1, ensure_ascii=False)
    (CLIPS / "cases.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} clips, {size(CLIPS) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
