"""Writes a folder that Kiln opens out of a Wan 2.1 pipeline, text or picture to video. See README.md beside this file."""

import argparse
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, WanImageToVideoPipeline
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanRotaryPosEmbed

from exporting import export, plain_config, write_around

# Tokens that the published pipelines give the transformer, and behind which it expects those of a picture to begin.
TOKENS = 512


def export_text_encoder(encoder, target: Path) -> None:
    """UMT5: token ids and a mask of the padding into embeddings."""
    encoder.set_attn_implementation("eager")

    def call(network, ids, mask):
        return network(ids, mask).last_hidden_state

    axes = {0: "batch", 1: "tokens"}
    ids = torch.ones(2, 16, dtype=torch.int64)
    inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    export(encoder, call, target, inputs, {"last_hidden_state": axes}, plain_config(encoder.config))


def rotations(rope, hidden_states):
    """`WanRotaryPosEmbed.forward` by looking up places, since the exporter fixes the sizes of its slices."""
    frames, rows, columns = (size // part for size, part in zip(hidden_states.shape[2:], rope.patch_size))
    frame = torch.arange(frames)[:, None, None]
    row = torch.arange(rows)[None, :, None]
    column = torch.arange(columns)[None, None, :]
    nowhere = (frame + row + column) * 0
    places = [(place + nowhere).flatten() for place in (frame, row, column)]
    widths = [rope.t_dim, rope.h_dim, rope.w_dim]

    def looked_up(table):
        return torch.cat([part[place] for part, place in zip(table.split(widths, dim=1), places)], dim=-1)[None, :, None, :]

    return looked_up(rope.freqs_cos), looked_up(rope.freqs_sin)


def rotated(values, cosine, sine):
    first, second = values.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[..., 0::2], sine[..., 1::2]
    return torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)


def attend(_, attention, values, words=None, attention_mask=None, rotary_emb=None):
    """`WanAttnProcessor` without writing into slices, whose sizes the exporter fixes."""
    source = values if words is None else words
    picture = None
    if attention.add_k_proj is not None:
        picture, source = source[:, :-TOKENS], source[:, -TOKENS:]

    def heads(part):
        return part.unflatten(2, (attention.heads, -1))

    query = heads(attention.norm_q(attention.to_q(values)))
    key, value = heads(attention.norm_k(attention.to_k(source))), heads(attention.to_v(source))
    if rotary_emb is not None:
        query, key = rotated(query, *rotary_emb), rotated(key, *rotary_emb)

    def look(key, value):
        parts = (part.transpose(1, 2) for part in (query, key, value))
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2, 3)

    found = look(key, value)
    if picture is not None:
        found = found + look(heads(attention.norm_added_k(attention.add_k_proj(picture))), heads(attention.add_v_proj(picture)))
    return attention.to_out[1](attention.to_out[0](found))


def export_image_encoder(encoder, target: Path) -> None:
    """CLIP's picture half: what its last layer but one says of each patch."""
    encoder.set_attn_implementation("eager")

    def call(network, picture):
        return network(picture, output_hidden_states=True).hidden_states[-2]

    batch = {0: "batch"}
    side = encoder.config.image_size
    inputs = {"pixel_values": (torch.randn(2, 3, side, side), batch)}
    export(encoder, call, target, inputs, {"image_embeds": batch}, plain_config(encoder.config))


def export_transformer(transformer, target: Path, patches: int | None) -> None:
    """patches: of a picture that an image encoder saw, where the transformer is told of one."""
    config = plain_config(transformer)

    def call(network, sample, timestep, words, picture=None):
        return network(sample, timestep, words, picture, return_dict=False)[0]

    sides = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    inputs = {
        "hidden_states": (torch.randn(2, config["in_channels"], 3, 8, 12), sides),
        "timestep": (torch.tensor([999.0, 999.0]), {0: "batch"}),
        "encoder_hidden_states": (torch.randn(2, TOKENS, config["text_dim"]), {0: "batch", 1: "tokens"}),
    }
    if patches is not None:
        # It takes the tokens behind the picture's for the text's, as many as diffusers counts.
        inputs["encoder_hidden_states"] = (inputs["encoder_hidden_states"][0], {0: "batch"})
        inputs["encoder_hidden_states_image"] = (torch.randn(2, patches, config["image_dim"]), {0: "batch"})
    with mock.patch.object(WanRotaryPosEmbed, "forward", rotations), mock.patch.object(WanAttnProcessor, "__call__", attend):
        export(transformer, call, target, inputs, {"out_hidden_states": sides}, config)


class Caches:
    """The frames that the causal convolutions of one half of the autoencoder remember from one call to the next.

    `vae_decoder_first` decodes the first frame of latents into one frame of the clip, and `vae_decoder` each further one into as many as
    the clip has for it; `vae_encoder_first` and `vae_encoder` go the other way. The first gives as `present.N` what the other takes as
    `past.N` and gives again.
    """

    def __init__(self, vae, half, first, further):
        """first, further: what goes in first, and after it."""
        self.vae, self.half = vae, half
        self.count = sum(1 for module in half.modules() if type(module).__name__ == "WanCausalConv3d")
        with torch.no_grad():
            caches = [None] * self.count
            self.run(first, caches)
            self.used = [at for at, cache in enumerate(caches) if cache is not None]
            self.run(further, caches)
        # Those that lie before a step of fewer frames remember one, the others two.
        self.frames = [caches[at].shape[2] for at in self.used]
        # Sides as parts of those of `further`, which are the same for both.
        self.sides = [caches[at].shape[3] / further.shape[3] for at in self.used]

    def run(self, array, caches):
        # Of the decoder's blocks only Wan 2.2's ask whether the chunk is the first.
        if self.half is self.vae.decoder:
            return self.half(self.vae.post_quant_conv(array), feat_cache=caches, feat_idx=[0])
        return self.vae.quant_conv(self.half(array, feat_cache=caches, feat_idx=[0]))

    def first(self, _, array):
        caches = [None] * self.count
        found = self.run(array, caches)
        present, before = [], None
        for at, frames in zip(self.used, self.frames):
            cache = caches[at]
            if isinstance(cache, str):
                # Nothing went through this convolution yet: it remembers black, at the size of the one before it.
                cache = torch.zeros_like(before)
            elif cache.shape[2] < frames:
                cache = torch.cat([torch.zeros_like(cache), cache], dim=2)
            before = cache
            present.append(cache)
        return found, *present

    def following(self, _, array, *past):
        caches = [None] * self.count
        for at, cache in zip(self.used, past):
            caches[at] = cache
        found = self.run(array, caches)
        return found, *(caches[at] for at in self.used)

    def export(self, target: Path, name: str, first, further, inputs: tuple, outputs: tuple, config: dict, to_latents: float) -> None:
        """inputs, outputs: a port's name and its axes; to_latents: sides of `further` to a latent's."""
        def side(times: float, axis: str) -> str:
            times = round(times * to_latents)
            return axis if times == 1 else f"{times}*{axis}"

        # Kiln reads out of these names how large they are.
        axes = [{0: "batch", 3: side(times, "latent_height"), 4: side(times, "latent_width")} for times in self.sides]
        present = {f"present.{at}": open_axes for at, open_axes in enumerate(axes)}
        given, gives = inputs[0], {outputs[0]: outputs[1]}
        # Of a dimension that the exporter does not know to be one it writes a branch.
        with mock.patch.object(torch.Tensor, "squeeze", lambda tensor, axis: tensor.select(axis, 0)):
            with torch.no_grad():
                past = self.first(None, first)[1:]
            export(self.vae, self.first, target / f"{name}_first", {given: (first, inputs[1])}, gives | present, config)
            taken = {f"past.{at}": (cache, open_axes) for at, (cache, open_axes) in enumerate(zip(past, axes))}
            export(self.vae, self.following, target / name, {given: (further, inputs[1])} | taken, gives | present, config)


LATENT_SIDES = {0: "batch", 3: "latent_height", 4: "latent_width"}
FRAME_SIDES = {0: "batch", 3: "height", 4: "width"}


def export_decoder(vae, target: Path) -> None:
    for module in vae.modules():
        if type(module).__name__ == "WanUpsample":
            # The exporter does not know `nearest-exact`; at twice the size it is the same.
            module.mode = "nearest"
    config = plain_config(vae)
    latent = torch.randn(1, config["z_dim"], 1, 8, 12)
    caches = Caches(vae, vae.decoder, latent, latent)
    inputs, outputs = ("latent_sample", LATENT_SIDES), ("sample", FRAME_SIDES | {2: "frames"})
    caches.export(target, "vae_decoder", latent, latent, inputs, outputs, config, 1.0)


def export_encoder(vae, target: Path) -> None:
    config = plain_config(vae)
    side = config["scale_factor_spatial"]
    further = torch.randn(1, config["in_channels"], config["scale_factor_temporal"], 8 * side, 12 * side)
    first = further[:, :, :1]
    caches = Caches(vae, vae.encoder, first, further)
    inputs, outputs = ("sample", FRAME_SIDES), ("latent_parameters", LATENT_SIDES)
    caches.export(target, "vae_encoder", first, further, inputs, outputs, config, float(side))


def export_pipeline(pipeline, target: Path) -> None:
    if getattr(pipeline, "transformer_2", None) is not None or pipeline.config.get("expand_timesteps") or pipeline.vae.config.is_residual:
        raise SystemExit("is of Wan 2.2, whose two transformers, timesteps for each frame and other autoencoder Kiln does not run")
    begins = isinstance(pipeline, WanImageToVideoPipeline)
    encoder = getattr(pipeline, "image_encoder", None) if begins else None
    if pipeline.transformer.config.pos_embed_seq_len is not None:
        raise SystemExit("ends with a picture as well as it begins with one, which Kiln does not run")
    beside = ["tokenizer"] if encoder is None else ["tokenizer", "image_processor"]
    write_around(pipeline, target, "WanImageToVideoPipeline" if begins else "WanPipeline", beside)
    export_text_encoder(pipeline.text_encoder, target / "text_encoder")
    patches = None
    if encoder is not None:
        export_image_encoder(encoder, target / "image_encoder")
        patches = encoder.vision_model.embeddings.num_positions
    export_transformer(pipeline.transformer, target / "transformer", patches)
    export_decoder(pipeline.vae, target)
    if begins:
        export_encoder(pipeline.vae, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder that diffusers saved, with LoRA weights merged into it")
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(given.source, local_files_only=True, torch_dtype=torch.float32)
    export_pipeline(pipeline, given.target)


if __name__ == "__main__":
    main()
