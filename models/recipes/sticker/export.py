"""Checkpoints to a bundle: ONNX files, tokenizer, configurations and card, in diffusers' layout.

    python export.py --work work --output ../../sticker

Every network is compared with PyTorch's own result, and the largest difference is printed.
"""

import argparse
import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import data
import neighbours
import prune
import run
from autoencoder import LATENT, Autoencoder, NormalizedDecoder, NormalizedEncoder
from captions import LENGTH, PLURAL, Captions
from denoiser import SIDE, Denoiser
from shrink import shrink
from tokens import write_tokenizer

OPSET = 17
# The scheduler's times, at equal distances; the student was asked at these.
TIMES = 4


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def export(network: nn.Module, path: Path, inputs: dict[str, Tensor], output: str, precision: str) -> float:
    """Writes one network with a free batch axis; returns its largest difference from PyTorch."""
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The exporter warns that lengths become fixed numbers, which is what they are.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    axes = {name: {0: "batch"} for name, value in inputs.items() if value.ndim > 0} | {output: {0: "batch"}}
    torch.onnx.export(network, tuple(inputs.values()), path, input_names=list(inputs), output_names=[output],
                      dynamic_axes=axes, opset_version=OPSET, dynamo=False)
    with torch.no_grad():
        state_shape(path, network(*inputs.values()).shape)
    before = compare(network, path, inputs)
    shrink(path, precision)
    after = compare(network, path, inputs)
    print(f"{path.parent.name}: {path.stat().st_size / 1e6:.2f} MB, difference {before:.1e}, after shrinking {after:.1e}")
    return after


def state_shape(path: Path, shape: torch.Size) -> None:
    """Writes the output's shape into the file: the exporter leaves open what it did not follow."""
    model = onnx.load(path)
    dims = model.graph.output[0].type.tensor_type.shape.dim
    dims[0].dim_param = "batch"
    for dim, size in zip(dims[1:], shape[1:], strict=True):
        dim.dim_value = size
    onnx.save(model, path)


def compare(network: nn.Module, path: Path, inputs: dict[str, Tensor]) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for repeat in (1, 3):
        wider = {n: torch.cat([v] * repeat) if v.ndim > 0 else v for n, v in inputs.items()}
        with torch.no_grad():
            wanted = network(*wider.values()).numpy()
        made = session.run(None, {n: v.numpy() for n, v in wider.items()})[0]
        worst = max(worst, float(np.abs(made - wanted).max()))
    return worst


def autoencoder(work: Path, output: Path, precision: str) -> dict:
    weights, facts = run.averaged(work / "autoencoder.pt")
    network = Autoencoder(facts["widths"])
    network.load_state_dict(weights)
    kept = torch.load(work / "latents.pt", weights_only=True)
    mse = kept["mse"]
    if (work / "decoder.pt").exists():
        weights, more = run.averaged(work / "decoder.pt")
        network.decoder.load_state_dict(weights)
        mse = more["mse"]
    encoder = NormalizedEncoder(network.encoder, kept["mean"], kept["deviation"])
    decoder = NormalizedDecoder(network.decoder, kept["mean"], kept["deviation"])
    pictures = torch.from_numpy(data.load(work)[0][:2]).float().permute(0, 3, 1, 2) / 127.5 - 1
    # In fp16 the encoder, which only pictures as input need, would take the folder over its size.
    with_encoder = precision != "fp16"
    if with_encoder:
        export(encoder, output / "vae_encoder" / "model.onnx", {"sample": pictures}, "latent_parameters", precision)
    export(decoder, output / "vae_decoder" / "model.onnx", {"latent_sample": kept["latents"][:2]}, "sample", precision)
    fine, middle, coarse = facts["widths"]
    config = {
        "_class_name": "AutoencoderKL", "in_channels": 4, "out_channels": 4, "latent_channels": LATENT,
        "block_out_channels": [fine, fine, middle, coarse], "sample_size": data.SIDE, "scaling_factor": 1.0,
    }
    if with_encoder:
        write(output / "vae_encoder" / "config.json", config)
    write(output / "vae_decoder" / "config.json", config)
    return {**facts, "mse": mse}


class Told(nn.Module):
    """The student as the scheduler calls it: `timestep` counts the TIMES at which it was distilled."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.network(sample, timestep * (1000 / TIMES), encoder_hidden_states)


def denoiser(work: Path, student: Path, output: Path, precision: str) -> dict:
    captions = Captions(data.load(work)[1], seed=0)
    beside = neighbours.load(work, captions.vocabulary)
    spellings = captions.spellings(beside)
    model, _ = prune.teacher(work, captions.vocabulary)
    weights, facts = run.averaged(student)
    network = Denoiser(facts["width"], facts["layers"], facts["heads"], facts["text_width"], facts["rank"], facts["hidden"])
    network.load_state_dict(weights)
    ids = torch.tensor([captions.read("two smiling kittens", spellings), captions.read("", spellings)])
    with torch.no_grad():
        text = model.text_encoder(ids)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, LATENT, SIDE, SIDE, generator=generator)
    # The text encoder is mostly tables, which int8 serves well; so it stays so under fp16 too.
    tables = "int8" if precision == "fp16" else precision
    export(model.text_encoder, output / "text_encoder" / "model.onnx", {"input_ids": ids}, "last_hidden_state", tables)
    inputs = {"sample": sample, "timestep": torch.tensor(2.0), "encoder_hidden_states": text}
    export(Told(network), output / "unet" / "model.onnx", inputs, "out_sample", precision)
    write(output / "text_encoder" / "config.json", {
        "_class_name": "TextEncoder", "hidden_size": text.shape[-1], "max_position_embeddings": LENGTH,
        "vocab_size": PLURAL + len(model.text_encoder.near), "pad_token_id": 0,
    })
    write(output / "unet" / "config.json", {
        "_class_name": "UNet2DConditionModel", "in_channels": LATENT, "out_channels": LATENT, "sample_size": SIDE,
        "cross_attention_dim": text.shape[-1],
    })
    write_tokenizer(output / "tokenizer", captions, beside)
    return facts


def card(output: Path) -> None:
    """Writes `kiln.toml` last: it holds the checksum of every other file."""
    files = sorted(p for p in output.rglob("*") if p.is_file() and p.name != "kiln.toml")
    sums = "\n".join(f'"{p.relative_to(output).as_posix()}" = "{hashlib.sha256(p.read_bytes()).hexdigest()}"' for p in files)
    head = Path(__file__).with_name("card.toml").read_text().rstrip()
    (output / "kiln.toml").write_text(f"{head}\n\n[sha256]\n{sums}\n")
    print(f"{len(files)} files, {sum(p.stat().st_size for p in output.rglob('*') if p.is_file()) / 1e6:.2f} MB in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--student", type=Path, help="the student's checkpoint [default: WORK/student-consistency.pt]")
    parser.add_argument("--precision", choices=["int8", "fp16", "fp32"], default="int8")
    parser.add_argument("--card-only", action="store_true", help="write the card again, after a file beside it changed")
    args = parser.parse_args()
    if not args.card_only:
        student = args.student or args.work / "student-consistency.pt"
        facts = {"autoencoder": autoencoder(args.work, args.output, args.precision),
                 "denoiser": denoiser(args.work, student, args.output, args.precision)}
        print(json.dumps(facts))
        parts = ["text_encoder", "unet", "vae_decoder"] + (["vae_encoder"] if args.precision != "fp16" else [])
        write(args.output / "model_index.json", {
            "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.36.0",
            "scheduler": ["diffusers", "FlowMatchLCMScheduler"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            **{part: ["diffusers", "OnnxRuntimeModel"] for part in parts},
        })
        write(args.output / "scheduler" / "scheduler_config.json", {
            "_class_name": "FlowMatchLCMScheduler", "_diffusers_version": "0.36.0", "num_train_timesteps": TIMES, "shift": 1.0,
        })
    card(args.output)


if __name__ == "__main__":
    main()
