"""What the recipes of this folder share: one torch module to one ONNX file, and what lies beside it."""

import json
import shutil
from pathlib import Path
from unittest import mock

import onnx
import torch

OPSET = 18
# A protocol buffer ends at 2 GiB; larger weights lie beside the file.
LARGEST_INLINE_BYTES = 1_800_000_000


def written_out(norm: torch.nn.RMSNorm, values: torch.Tensor) -> torch.Tensor:
    """Root mean square normalisation in operators that the exporter knows."""
    epsilon = torch.finfo(values.dtype).eps if norm.eps is None else norm.eps
    values = values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + epsilon)
    return values if norm.weight is None else values * norm.weight


def example_mask(tokens: int) -> torch.Tensor:
    """Where two texts have words, the second in its first half alone, so that a mask is no constant to the exporter."""
    mask = torch.ones(2, tokens, dtype=torch.int64)
    mask[1, tokens // 2 :] = 0
    return mask


class Module(torch.nn.Module):
    """A function of tensors over `network`, for the exporter, which takes modules alone."""

    def __init__(self, network: torch.nn.Module, call):
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, *inputs):
        return self.call(self.network, *inputs)


def export(network, call, folder: Path, inputs: dict, outputs: dict, config: dict | None = None) -> None:
    """Writes `folder`/model.onnx.

    inputs: name -> (example tensor, {axis: name of an open dimension}); outputs: name -> the same dictionary of axes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    axes = {name: open_axes for name, (_, open_axes) in inputs.items()} | outputs
    with torch.no_grad(), mock.patch.object(torch.nn.RMSNorm, "forward", written_out):
        torch.onnx.export(
            Module(network, call).eval(),
            tuple(example for example, _ in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: open_axes for name, open_axes in axes.items() if open_axes},
            opset_version=OPSET,
            dynamo=False,
        )
    pack(path, sum(parameter.numel() * parameter.element_size() for parameter in network.parameters()))
    if config is not None:
        write_json(folder / "config.json", config)


def pack(path: Path, weights_bytes: int) -> None:
    """Keeps the weights in the file, or in one beside it where they are too large; drops files of single weights."""
    before = {file for file in path.parent.iterdir() if file.name not in ("model.onnx", "config.json")}
    model = onnx.load(path)
    if weights_bytes > LARGEST_INLINE_BYTES:
        onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=1024)
    else:
        onnx.save(model, path)
    for file in before - {path.with_name("model.onnx_data")}:
        file.unlink()


def plain_config(module) -> dict:
    """The module's configuration as diffusers writes it, without the folder it came from."""
    config = json.loads(module.to_json_string() if hasattr(module, "to_json_string") else json.dumps(dict(module.config)))
    config.pop("_name_or_path", None)
    return config


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def write_around(pipeline, target: Path, class_name: str, tokenizers: list[str]) -> None:
    """model_index.json, the scheduler and the tokenizers."""
    write_json(target / "model_index.json", {"_class_name": class_name})
    pipeline.scheduler.save_pretrained(target / "scheduler")
    for name in tokenizers:
        shutil.rmtree(target / name, ignore_errors=True)
        getattr(pipeline, name).save_pretrained(target / name)


def clip_text_encoder(encoder, tokenizer, target: Path) -> None:
    """CLIP: token ids into `last_hidden_state` and `pooler_output`."""
    encoder.set_attn_implementation("eager")
    length = tokenizer.model_max_length
    ids = torch.tensor(tokenizer(["a red cat"], padding="max_length", max_length=length, truncation=True)["input_ids"])

    def call(network, ids):
        found = network(ids)
        return found.last_hidden_state, found.pooler_output

    batch = {0: "batch"}
    outputs = {"last_hidden_state": batch, "pooler_output": batch}
    export(encoder, call, target, {"input_ids": (ids, batch)}, outputs, plain_config(encoder.config))


def picture_autoencoder(vae, target: Path, encoder: bool = True) -> None:
    """A 2-D autoencoder: `vae_decoder` and `vae_encoder`."""
    channels = vae.config.latent_channels
    config = plain_config(vae)
    latent_axes = {0: "batch", 2: "latent_height", 3: "latent_width"}
    picture_axes = {0: "batch", 2: "height", 3: "width"}
    latent = torch.zeros(2, channels, 8, 12)

    def decode(network, latent):
        return network.decode(latent).sample

    export(vae, decode, target / "vae_decoder", {"latent_sample": (latent, latent_axes)}, {"sample": picture_axes}, config)
    if not encoder:
        return

    def encode(network, picture):
        return network.encode(picture).latent_dist.parameters

    side = 2 ** (len(vae.config.block_out_channels) - 1)
    picture = torch.zeros(2, vae.config.in_channels, 8 * side, 12 * side)
    export(vae, encode, target / "vae_encoder", {"sample": (picture, picture_axes)}, {"latent_parameters": latent_axes}, config)
