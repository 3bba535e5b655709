"""Tiny pipelines of clips, of diffusers' own classes with random weights."""

import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    UniPCMultistepScheduler,
    UNetMotionModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from tiny_networks import autoencoder, denoiser, fill, text_encoder
from tiny_pipelines import tokenizer
from tiny_sentences import vocabulary as sentence_vocabulary
from tiny_transformers import sentence_tokenizer, t5

# As the motion modules are published; AnimateDiff-Lightning and AnimateLCM have the same betas.
ANIMATEDIFF = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "linspace",
    "prediction_type": "epsilon",
}
TRAINED_FRAMES = 8


def animatediff(seed: int = 700) -> AnimateDiffPipeline:
    adapter = MotionAdapter(
        block_out_channels=(8, 12),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=TRAINED_FRAMES,
        use_motion_mid_block=True,
    )
    fill(adapter, seed + 3)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            # A trained module adds little to what runs past it, and looks at its neighbours sharply.
            if "proj_out" in name:
                parameter.mul_(0.5)
            if ".attn" in name and ("to_q" in name or "to_k" in name):
                parameter.mul_(2.0)
    unet = UNetMotionModel.from_unet2d(denoiser(seed + 1), adapter).eval()
    pipeline = AnimateDiffPipeline(
        vae=autoencoder(seed + 2),
        text_encoder=text_encoder(seed, hidden=24, layers=2, activation="quick_gelu"),
        tokenizer=tokenizer(),
        unet=unet,
        motion_adapter=adapter,
        scheduler=DDIMScheduler.from_config(ANIMATEDIFF),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


WAN = {
    "_class_name": "UniPCMultistepScheduler",
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "lower_order_final": True,
    "final_sigmas_type": "zero",
    "timestep_spacing": "linspace",
}
WAN_CHANNELS = 4
WAN_TRAINED_FRAMES = 29


def umt5(seed: int, width: int = 32) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(sentence_vocabulary()),
        d_model=width,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=32,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return fill(UMT5EncoderModel(config), seed, gain=0.7)


def wan_autoencoder(seed: int, widths: tuple[int, ...] = (1, 2, 2)) -> AutoencoderKLWan:
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=WAN_CHANNELS,
        dim_mult=list(widths),
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[-0.3, 0.2, 0.1, -0.1],
        latents_std=[1.4, 2.1, 1.7, 2.4],
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )
    fill(vae, seed)
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.6)
    return vae


def wan(seed: int = 720) -> WanPipeline:
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=WAN_CHANNELS,
        out_channels=WAN_CHANNELS,
        text_dim=32,
        freq_dim=32,
        ffn_dim=48,
        num_layers=2,
        rope_max_seq_len=64,
    )
    pipeline = WanPipeline(
        tokenizer=sentence_tokenizer(),
        text_encoder=umt5(seed + 2),
        vae=wan_autoencoder(seed + 1),
        scheduler=UniPCMultistepScheduler.from_config(WAN),
        transformer=fill(transformer, seed),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PICTURE_SIDE = 28


def image_encoder(seed: int, width: int) -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=PICTURE_SIDE,
        patch_size=PICTURE_SIDE // 2,
        hidden_act="gelu",
    )
    return fill(CLIPVisionModel(config), seed)


def wan_i2v(seed: int = 740) -> WanImageToVideoPipeline:
    """Narrower than `wan`, since it holds the encoder as well."""
    width = 16
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        # The latents, which of a latent's four frames are there, the latents of the first frame.
        in_channels=2 * WAN_CHANNELS + 4,
        out_channels=WAN_CHANNELS,
        text_dim=width,
        freq_dim=32,
        ffn_dim=48,
        num_layers=2,
        image_dim=width,
        added_kv_proj_dim=24,
        rope_max_seq_len=64,
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=sentence_tokenizer(),
        text_encoder=umt5(seed + 2, width),
        vae=wan_autoencoder(seed + 1, (1, 1, 1)),
        scheduler=UniPCMultistepScheduler.from_config(WAN),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": PICTURE_SIDE}, crop_size={"height": PICTURE_SIDE, "width": PICTURE_SIDE}
        ),
        image_encoder=image_encoder(seed + 3, width),
        transformer=fill(transformer, seed),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# As 0.9 is published.
LTX = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "shift_terminal": 0.1,
    "use_dynamic_shifting": True,
}
# As the distilled weights are: their timesteps are given, and stay as they are.
LTX_DISTILLED = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
}
LTX_TIMESTEPS = [1000, 993, 909, 725]
LTX_CHANNELS = 8
LTX_WIDTH = 20
LTX_TEXT_WIDTH = 32


def ltx_autoencoder(seed: int, distilled: bool) -> AutoencoderKLLTXVideo:
    plain = {
        "block_out_channels": (4, 4, 4, 6),
        "decoder_block_out_channels": (4, 4, 4, 6),
        "layers_per_block": (1,) * 5,
        "decoder_layers_per_block": (1,) * 5,
    }
    # As 0.9.5 and what followed it are: other blocks, and a decoder that is told a timestep.
    conditioned = {
        "block_out_channels": (4, 8, 8, 8, 8),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "layers_per_block": (1,) * 5,
        "spatio_temporal_scaling": (True,) * 4,
        "decoder_block_out_channels": (4, 8, 16),
        "decoder_layers_per_block": (1,) * 4,
        "decoder_spatio_temporal_scaling": (True,) * 3,
        "decoder_inject_noise": (False,) * 4,
        # Published with all three; where there are fewer channels than a step makes of one, there is nothing to take them from.
        "upsample_residual": (False, False, True),
        "upsample_factor": (1, 2, 2),
        "timestep_conditioning": True,
        "spatial_compression_ratio": 16,
        "temporal_compression_ratio": 8,
    }
    vae = AutoencoderKLLTXVideo(latent_channels=LTX_CHANNELS, patch_size=2, **(conditioned if distilled else plain))
    fill(vae, seed)
    with torch.no_grad():
        vae.decoder.conv_out.conv.weight.mul_(0.6)
        if distilled:
            # A number, and no weight.
            vae.decoder.timestep_scale_multiplier.fill_(1000.0)
            for name, parameter in vae.named_parameters():
                if "time_embedder" in name and "linear_2" in name:
                    parameter.mul_(0.3)
        generator = torch.Generator("cpu").manual_seed(seed)
        vae.latents_mean.copy_(0.3 * torch.randn(LTX_CHANNELS, generator=generator))
        vae.latents_std.copy_(1.0 + torch.rand(LTX_CHANNELS, generator=generator))
    return vae


def ltx(seed: int = 740, distilled: bool = False) -> LTXPipeline:
    transformer = LTXVideoTransformer3DModel(
        in_channels=LTX_CHANNELS,
        out_channels=LTX_CHANNELS,
        num_attention_heads=2,
        attention_head_dim=LTX_WIDTH // 2,
        cross_attention_dim=LTX_WIDTH,
        num_layers=2,
        caption_channels=LTX_TEXT_WIDTH,
    )
    fill(transformer, seed)
    with torch.no_grad():
        # Each block multiplies by what a random projection of the time says, and two of that blow up.
        transformer.time_embed.linear.weight.mul_(0.3)
        for block in transformer.transformer_blocks:
            # The words must show.
            block.attn2.to_q.weight.mul_(3.0)
            block.attn2.to_out[0].weight.mul_(2.0)
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(LTX_DISTILLED if distilled else LTX),
        vae=ltx_autoencoder(seed + 1, distilled),
        text_encoder=t5(seed + 2, LTX_TEXT_WIDTH),
        tokenizer=sentence_tokenizer(),
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ltx_distilled() -> LTXPipeline:
    return ltx(750, distilled=True)
