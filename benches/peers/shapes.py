"""The bundles that are measured: published models' shapes with random weights, and the one in the box."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shape:
    """A bundle and the picture that is made with it."""

    what: str
    side: int
    steps: int
    prompt: str = "a red apple"
    # Of diffusers' and transformers' classes; none for a bundle that lies in the repository.
    text_encoder: dict = field(default_factory=dict)
    unet: dict = field(default_factory=dict)
    # None is diffusers' `AutoencoderTiny` as published, in place of the decoder.
    autoencoder: dict | None = None
    folder: str | None = None

    @property
    def is_random(self) -> bool:
        return self.folder is None


KL = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32, sample_size=512)

SHAPES = {
    "sd-turbo": Shape(
        "the shape of SD-Turbo: a UNet of 866 M weights, a text encoder of 340 M, the usual decoder",
        side=512,
        steps=1,
        text_encoder=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"),
        unet=dict(
            block_out_channels=(320, 640, 1280, 1280),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            layers_per_block=2,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        ),
        autoencoder=KL,
    ),
    "bk-sdm-tiny": Shape(
        "the shape of BK-SDM-Tiny with the decoder of TAESD: a UNet of 323 M weights, four steps",
        side=512,
        steps=4,
        text_encoder=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu"),
        unet=dict(
            block_out_channels=(320, 640, 1280),
            down_block_types=("CrossAttnDownBlock2D",) * 3,
            mid_block_type=None,
            up_block_types=("CrossAttnUpBlock2D",) * 3,
            layers_per_block=1,
            cross_attention_dim=768,
            attention_head_dim=8,
        ),
    ),
    "sticker": Shape("the model in the box", side=64, steps=4, folder="models/sticker"),
    # Seconds for the whole harness; what `--check` runs.
    "check": Shape(
        "a bundle of some megabytes, for trying the harness",
        side=64,
        steps=2,
        text_encoder=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu"),
        unet=dict(
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=16,
        ),
        autoencoder=dict(block_out_channels=(16, 16, 16, 16), layers_per_block=1, norm_num_groups=8, sample_size=64),
    ),
}
