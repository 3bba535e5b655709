"""The sticker bundle and the conductor's checkpoint to a bundle of clips: ONNX files, tokenizer, configurations and card.

    python bundle.py --work work --output ../../sticker-motion

Every network is compared with PyTorch's own result in f32, and the largest difference is printed.
"""

import argparse
import hashlib
import json
import random
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

import neighbour
import data
import motions
import packed
import run
import small
import still
from captions import COLOURS, COUNTS, LENGTH, PAD, UNKNOWN, plural
from clip import CHANNELS, STILL, ClipDenoiser, ClipText, Conductor, Posed

OPSET = 17
# The scheduler's times, as the sticker's: 4 steps are at 1, 3/4, 1/2 and 1/4 of noise.
TIMES = 4
# Prompts on which the matrices are rounded, and shares of noise at which the sticker's denoiser was asked when it was distilled.
PROMPTS, SHARES = 192, (1.0, 1.0, 0.75, 0.5, 0.25)


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def prompts(entries: list[dict], count: int, seed: int) -> list[str]:
    """Names of stickers, some with a colour, a number or their style."""
    draw, made = random.Random(seed), []
    for entry in draw.choices(entries, k=count):
        name, chance = entry["name"], draw.random()
        if chance < 0.2:
            name = f"{draw.choice(COLOURS)} {name}"
        elif chance < 0.35:
            *before, last = name.split()
            name = " ".join([COUNTS[draw.choice([2, 3, 4])][0], *before, plural(last)])
        made.append(f"flat {name}" if entry["style"] == "flat" else name)
    return made


def ids(texts: list[str], spellings: dict[str, int]) -> Tensor:
    rows = [[spellings.get(word, UNKNOWN) for word in data.words(text)] for text in texts]
    return torch.tensor([(row + [PAD] * LENGTH)[:LENGTH] for row in rows])


def export(network: nn.Module, path: Path, inputs: dict[str, Tensor], output: str, open_axes: dict[str, dict[int, str]]) -> None:
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The exporter warns that lengths become fixed numbers, which is what they are.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    torch.onnx.export(network, tuple(inputs.values()), path, input_names=list(inputs), output_names=[output], dynamic_axes=open_axes,
                      opset_version=OPSET, dynamo=False)
    with torch.no_grad():
        shape = network(*inputs.values()).shape
    model = onnx.load(path)
    # The exporter leaves open what it did not follow.
    for axis, (dim, size) in enumerate(zip(model.graph.output[0].type.tensor_type.shape.dim, shape, strict=True)):
        if axis in open_axes[output]:
            dim.dim_param = open_axes[output][axis]
        else:
            dim.dim_value = size
    onnx.save(model, path)


def compare(wanted: Tensor, path: Path, inputs: dict[str, Tensor]) -> float:
    made = still.session(path).run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return float(np.abs(made - wanted.numpy()).max())


def told(path: Path, *differences: float) -> None:
    print(f"{path.parent.name}: {path.stat().st_size / 1e6:.3f} MB, difference " + ", after rounding ".join(f"{d:.1e}" for d in differences), flush=True)


@torch.no_grad()
def text_and_denoiser(work: Path, stickers: Path, output: Path) -> None:
    spellings, encoder, network = still.spellings(), still.text_encoder(), still.denoiser()
    facts = run.averaged(work / "conductor.pt")
    conductor = Conductor(facts[1]["width"]).eval()
    conductor.load_state_dict(facts[0])
    first = len(encoder.near)
    spellings |= {word: first + number for number, name in enumerate(motions.MOTIONS) for word in motions.SPELLINGS[name].split()}
    asked = ids(["two bouncing kittens", "a flat wobbling red apple", ""], spellings)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(3, CHANNELS, 6, 8, 8, generator=generator)
    paths = [output / part / "model.onnx" for part in ("text_encoder", "unet")]
    axes = {"sample": {0: "batch", 2: "frames"}, "encoder_hidden_states": {0: "batch"}, "out_sample": {0: "batch", 2: "frames"}}

    # Shares of mixtures in f16: they are of nine bits at most.
    encoder.share = encoder.share.half()
    text = ClipText(encoder, first)(asked)
    inputs = {"sample": sample, "timestep": torch.tensor(2.0), "encoder_hidden_states": text}
    velocity = ClipDenoiser(network, conductor, TIMES)(**inputs)

    learned = ids(prompts(data.load(stickers)[1], PROMPTS, 1), still.spellings())
    noise = torch.randn(PROMPTS, STILL, 8, 8, generator=generator)
    clean = noise - network(noise, torch.tensor(1000.0), encoder(learned))
    share = torch.tensor(SHARES)[torch.randint(len(SHARES), (PROMPTS,), generator=generator)]
    noisy = torch.lerp(clean, torch.randn(noise.shape, generator=generator), share.view(-1, 1, 1, 1))
    factors = [{f"encoder.{name}": value.numpy() for name, value in small.shrink(encoder, lambda: encoder(learned)).items()}]
    known = encoder(learned)
    factors.append({f"still.{name}": value.numpy() for name, value in small.shrink(network, lambda: network(noisy, share * 1000, known)).items()})

    for path, part, given, name in ((paths[0], ClipText(encoder, first), {"input_ids": asked}, "last_hidden_state"),
                                    (paths[1], ClipDenoiser(network, conductor, TIMES), inputs, "out_sample")):
        open_axes = axes if name == "out_sample" else {"input_ids": {0: "batch"}, name: {0: "batch"}}
        export(part, path, given, name, open_axes)
        rounded = part(*given.values())
        exact = compare(rounded, path, given)
        packed.pack(path, factors.pop(0))
        told(path, exact, compare(rounded, path, given), float((rounded - (text if name != "out_sample" else velocity)).abs().max()))
    write(output / "text_encoder" / "config.json", {
        "_class_name": "TextEncoder", "hidden_size": text.shape[-1], "max_position_embeddings": LENGTH,
        "vocab_size": max(spellings.values()) + 1, "pad_token_id": PAD,
    })
    write(output / "unet" / "config.json", {
        "_class_name": "UNetMotionModel", "in_channels": CHANNELS, "out_channels": CHANNELS, "sample_size": 8,
        "cross_attention_dim": text.shape[-1], "motion_max_seq_length": 1000,
    })
    tokenizer = json.loads((neighbour.BUNDLE / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = spellings
    (output / "tokenizer").mkdir(parents=True, exist_ok=True)
    (output / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer, separators=(",", ":")) + "\n")
    (output / "tokenizer" / "tokenizer_config.json").write_bytes((neighbour.BUNDLE / "tokenizer" / "tokenizer_config.json").read_bytes())


@torch.no_grad()
def decoder(output: Path) -> None:
    """The sticker's decoder, fed with the first channels, and after it the networks' end that moves what it gives."""
    path, before = output / "vae_decoder" / "model.onnx", neighbour.BUNDLE / "vae_decoder"
    latent = torch.randn(2, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
    latent[:, STILL:] = motions.gestures(torch.eye(7)[:2], torch.tensor([0.1, 0.3]))[..., None, None]
    picture = torch.from_numpy(still.session(before / "model.onnx").run(None, {"latent_sample": latent[:, :STILL].numpy()})[0])
    wanted = Posed()(picture, latent)
    export(Posed(), path, {"picture": picture, "latent_sample": latent}, "sample",
           {"picture": {0: "batch"}, "latent_sample": {0: "batch"}, "sample": {0: "batch"}})
    after, model = onnx.load(path), onnx.load(before / "model.onnx")
    packed.repack(model)
    model = onnx.compose.add_prefix(model, "still/")
    after = onnx.compose.add_prefix(after, "posed/", rename_inputs=False, rename_outputs=False)
    bounds = {"still/start": [0], "still/end": [STILL], "still/axis": [1]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in bounds.items())
    model.graph.node.insert(0, helper.make_node("Slice", ["latent_sample", *bounds], [model.graph.input[0].name], "still/slice"))
    for node in after.graph.node:
        node.input[:] = [model.graph.output[0].name if name == "picture" else name for name in node.input]
    graph = helper.make_graph([*model.graph.node, *after.graph.node], "decoder",
                              [value for value in after.graph.input if value.name == "latent_sample"], list(after.graph.output),
                              [*model.graph.initializer, *after.graph.initializer])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(whole, full_check=True)
    onnx.save(whole, path)
    made = torch.from_numpy(still.session(path).run(None, {"latent_sample": latent.numpy()})[0])
    # Colour under a transparent pixel says nothing.
    off = (motions.shown(made) - motions.shown(wanted)).abs().mean() * 255
    print(f"{path.parent.name}: {path.stat().st_size / 1e6:.3f} MB, mean difference after rounding {off:.2f} of 255", flush=True)
    config = json.loads((before / "config.json").read_text())
    write(output / "vae_decoder" / "config.json", config | {"latent_channels": CHANNELS})


def card(output: Path) -> None:
    """Writes `kiln.toml` last: it holds the checksum of every other file."""
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name != "kiln.toml")
    sums = "\n".join(f'"{p.relative_to(output).as_posix()}" = "{hashlib.sha256(p.read_bytes()).hexdigest()}"' for p in files)
    head = Path(__file__).with_name("card.toml").read_text().rstrip()
    (output / "kiln.toml").write_text(f"{head}\n\n[sha256]\n{sums}\n")
    print(f"{len(files)} files, {sum(p.stat().st_size for p in output.rglob('*') if p.is_file()) / 1e6:.3f} MB in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--stickers", type=Path, help="where the sticker recipe's data.py wrote [default: WORK/sticker]")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--card-only", action="store_true", help="write the card again, after a file beside it changed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not args.card_only:
        text_and_denoiser(args.work, args.stickers or args.work / "sticker", args.output)
        decoder(args.output)
        write(args.output / "model_index.json", {
            "_class_name": "AnimateDiffPipeline", "_diffusers_version": "0.36.0",
            "scheduler": ["diffusers", "FlowMatchLCMScheduler"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            **{part: ["diffusers", "OnnxRuntimeModel"] for part in ("text_encoder", "unet", "vae_decoder")},
        })
        write(args.output / "scheduler" / "scheduler_config.json", {
            "_class_name": "FlowMatchLCMScheduler", "_diffusers_version": "0.36.0", "num_train_timesteps": TIMES, "shift": 1.0,
        })
    card(args.output)


if __name__ == "__main__":
    main()
