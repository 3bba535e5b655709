"""Writes tests/bundles/safety/, a tiny safety checker as diffusers' old exporter wrote them, and tests/golden/safety/: what torch and diffusers
make of pictures. See README.md beside this file."""

import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import numpy  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from transformers import CLIPConfig, CLIPImageProcessor  # noqa: E402

import surgery  # noqa: E402
from tiny_pipelines import build  # noqa: E402

TESTS = Path(__file__).resolve().parents[1]
BUNDLE, GOLDEN = TESTS / "bundles" / "safety", TESTS / "golden" / "safety"
SIDE = 32
SEEDS = range(12)
PROMPT, STEPS = "a red apple", 4
# Like one of those, each by a concept of its own; the last only with the hundredth that special care adds.
BAD, CAREFUL = (1, 6), 9
# Width, height: smaller than the checker's side, larger, wide, high, and of its size.
SIZES = [(20, 24), (64, 64), (97, 41), (33, 150), (32, 32), (300, 211)]


def checker() -> StableDiffusionSafetyChecker:
    torch.manual_seed(7)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10}
    config = CLIPConfig(vision_config=vision | {"projection_dim": 12}, text_config=text, projection_dim=12)
    network = StableDiffusionSafetyChecker(config).eval()
    for name, value in network.named_parameters():
        # transformers' own start is so small that every picture looks alike.
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.6 / value.shape[-1] ** 0.5 if value.ndim == 2 else 0.15)
    return network


def processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def similarity(embeddings: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(embeddings, concept[None])


@torch.no_grad()
def teach(network, pixels: torch.Tensor) -> None:
    """Sets concepts and thresholds, so that some of the pictures are held back and the others are not."""
    # Of random weights every picture looks alike: what they have in common is taken away.
    norm = network.vision_model.vision_model.post_layernorm
    norm.bias.sub_(network.vision_model(pixels)[1].mean(0))
    embeddings = network.visual_projection(network.vision_model(pixels)[1])
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    network.concept_embeds.copy_(torch.randn(17, 12, generator=torch.Generator().manual_seed(3)))
    network.concept_embeds_weights.fill_(2.0)
    network.special_care_embeds.copy_(torch.randn(3, 12, generator=torch.Generator().manual_seed(4)))
    network.special_care_embeds_weights.fill_(2.0)
    for concept, seed in enumerate((*BAD, CAREFUL)):
        # Near this picture and far from the others, as well as so few numbers can.
        wanted = torch.nn.functional.one_hot(torch.tensor(seed), len(unit)).float() - 0.3
        direction = torch.linalg.solve(unit.T @ unit + 1e-2 * torch.eye(unit.shape[1]), unit.T @ wanted)
        scores = similarity(embeddings, direction)
        others = torch.cat([scores[:seed], scores[seed + 1:]]).max()
        assert scores[seed] > others + 0.05, (seed, scores)
        network.concept_embeds[concept].copy_(direction)
        network.concept_embeds_weights[concept] = scores[seed] + 0.005 if seed == CAREFUL else (scores[seed] + others) / 2
        if seed == CAREFUL:
            network.special_care_embeds[0].copy_(direction)
            network.special_care_embeds_weights[0] = (scores[seed] + others) / 2


def export(network, path: Path) -> None:
    path.parent.mkdir(parents=True)
    class Exported(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, clip_input, images):
            return self.network.forward_onnx(clip_input, images.clone())

    axes = {0: "batch", 1: "height", 2: "width"}
    torch.onnx.export(
        Exported(),
        (torch.randn(1, 3, SIDE, SIDE), torch.rand(1, 64, 64, 3)),
        str(path),
        input_names=["clip_input", "images"],
        output_names=["out_images", "has_nsfw_concepts"],
        dynamic_axes={"clip_input": {0: "batch"}, "images": axes, "out_images": axes, "has_nsfw_concepts": {0: "batch"}},
        opset_version=14,
        dynamo=False,
    )
    surgery.tidy(path)


def noise(width: int, height: int) -> Image.Image:
    """Smooth colours, so that a filter has something to get wrong."""
    numbers = numpy.random.default_rng(width * 1000 + height).integers(0, 256, (5, 5, 3), dtype=numpy.uint8)
    return Image.fromarray(numbers).resize((width, height), Image.BILINEAR)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    for folder in (BUNDLE, GOLDEN):
        shutil.rmtree(folder, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    network, extractor = checker(), processor()

    pipeline = build("sd")

    def generate(seed: int, **more):
        generator = torch.Generator("cpu").manual_seed(seed)
        return pipeline(PROMPT, num_inference_steps=STEPS, height=64, width=64, generator=generator, **more)

    pictures = [generate(seed).images[0] for seed in SEEDS]
    teach(network, extractor(pictures, return_tensors="pt").pixel_values)
    pipeline.register_modules(safety_checker=network, feature_extractor=extractor)
    verdicts = [bool(generate(seed).nsfw_content_detected[0]) for seed in SEEDS]
    assert 3 <= sum(verdicts) < len(SEEDS) - 2, verdicts

    path = BUNDLE / "safety_checker" / "model.onnx"
    export(network, path)
    config = json.loads(network.config.to_json_string())
    (BUNDLE / "safety_checker" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    extractor.save_pretrained(BUNDLE / "feature_extractor")

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for seed, picture in zip(SEEDS, pictures):
        inputs = {
            "clip_input": extractor(picture, return_tensors="np").pixel_values,
            "images": numpy.asarray(picture, dtype=numpy.float32)[None] / 255,
        }
        assert bool(session.run(["has_nsfw_concepts"], inputs)[0][0]) == verdicts[seed], seed

    tensors = {}
    for width, height in SIZES:
        picture = noise(width, height)
        name = f"{width}x{height}"
        picture.save(GOLDEN / f"{name}.png")
        tensors[name] = numpy.ascontiguousarray(extractor(picture, return_tensors="np").pixel_values)
    save_file(tensors, GOLDEN / "clip_input.safetensors")
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    cases = {"versions": versions, "bundle": "sd", "prompt": PROMPT, "steps": STEPS, "held_back": dict(zip(map(str, SEEDS), verdicts))}
    (GOLDEN / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    print(f"{path.stat().st_size} bytes; held back: {[seed for seed in SEEDS if verdicts[seed]]}")


if __name__ == "__main__":
    main()
