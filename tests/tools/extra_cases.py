"""What the golden numbers under tests/golden/extras/ hold: one dictionary per picture."""

LONG = "a golden castle by the sea at sunset with many small stars, " * 12
NEGATIVE = "ugly, (blurry:1.4), [bad art]"


def case(kind: str, name: str, bundle: str, **changes) -> dict:
    plain = {
        "name": name,
        "kind": kind,
        "bundle": bundle,
        "prompt": "a smiling sun",
        "negative": None,
        "seed": 42,
        "steps": 4,
        "guidance": 7.5,
        "width": 64,
        "height": 64,
    }
    return plain | changes


def weighted(name: str, prompt: str, bundle: str = "sd", **changes) -> dict:
    return case("weights", f"weights_{name}", bundle, prompt=prompt, **changes)


def weights() -> list[dict]:
    return [
        weighted("plain", "a smiling sun"),
        weighted("number", "a (smiling:1.3) sun"),
        weighted("round", "a ((smiling)) sun"),
        weighted("square", "a [[smiling]] (sun)"),
        weighted("nested", "(a (smiling:1.5) [sun]:0.8), red"),
        weighted("less", "a (smiling:0.2) sun"),
        weighted("against", "a (smiling:-0.5) sun"),
        weighted("escaped", r"a \(smiling\) \[sun\] \\ (red)"),
        weighted("unbalanced", "a (smiling [sun"),
        weighted("stray", "a smiling) sun] :1.3) :"),
        weighted("break", "a smiling sun BREAK (a red apple:1.2)"),
        weighted("break_within", "(a sun BREAK an apple:1.2) BREAK BREAK"),
        weighted("long", LONG),
        weighted("long_weighted", f"({LONG}:1.2) a (red:1.5) apple"),
        weighted("long_without_comma", "golden castle sea sunset " * 24),
        weighted("long_both", LONG, negative=f"{LONG} (ugly)"),
        weighted("long_negative", "a smiling sun", negative=f"{LONG} (ugly)"),
        weighted("negative", "a (smiling) sun", negative=NEGATIVE),
        weighted("pads_otherwise", "a (smiling:1.3) sun, [red]", bundle="sd_v"),
        weighted("pads_otherwise_long", LONG, bundle="sd_v"),
        weighted("guidance_1", "a (smiling:1.3) sun", guidance=1.0),
        weighted("xl", "a (smiling:1.3) sun, [red]", bundle="sdxl", guidance=5.0),
        weighted("xl_negative", "a (smiling) sun", bundle="sdxl", guidance=5.0, negative=NEGATIVE),
        weighted("xl_long", LONG, bundle="sdxl", guidance=5.0),
        weighted("xl_break", "a sun BREAK (a red apple:1.4)", bundle="sdxl", guidance=5.0, negative="ugly BREAK bad"),
    ]


def embedded(name: str, prompt: str, files: list[str], bundle: str = "sd", **changes) -> dict:
    return case("embedding", f"embedding_{name}", bundle, prompt=prompt, embeddings=files, **changes)


def embeddings() -> list[dict]:
    return [
        embedded("one", "a <toy> on a table", ["toy.safetensors"]),
        embedded("three", "a style-three portrait", ["style-three.safetensors"]),
        embedded("web_ui", "a photo of worn", ["worn.safetensors"]),
        embedded("two_files", "worn <toy>, red", ["toy.safetensors", "worn.safetensors"]),
        embedded("negative", "a smiling sun", ["worn.safetensors"], negative="ugly, worn"),
        embedded("pads_otherwise", "a <toy> on a table", ["toy.safetensors"], bundle="sd_v"),
        embedded("xl", "a pair of apples, pair", ["pair.safetensors"], bundle="sdxl", guidance=5.0),
    ]


def tiny() -> list[dict]:
    """diffusers' pipelines with an `AutoencoderTiny` in the decoder's place."""
    return [
        case("tiny", "tiny", "sd"),
        case("tiny", "tiny_wide", "sd", seed=0, width=80, height=48),
        case("tiny", "tiny_xl", "sdxl", guidance=5.0),
        case("tiny", "tiny_turbo", "sd_turbo", steps=1, guidance=0.0),
    ]


def steered(name: str, bundle: str = "sd_control", **changes) -> dict:
    return case("control", f"control_{name}", bundle, **({"control": "input.png", "control_scale": 1.0, "input": None} | changes))


def control() -> list[dict]:
    return [
        steered("one"),
        steered("half", control_scale=0.5),
        steered("none", control_scale=0.0),
        steered("more", control_scale=1.7, seed=0),
        steered("guidance_1", guidance=1.0),
        steered("resized", control="input_odd.png"),
        steered("wide", control="input_wide.png", width=80, height=48, negative="ugly, blurry"),
        steered("img2img", control="mask.png", input="input.png", strength=0.75),
        steered("xl", "sdxl_control", guidance=5.0),
        steered("xl_half", "sdxl_control", guidance=5.0, control_scale=0.5, negative="ugly, blurry"),
        steered("xl_wide", "sdxl_control", guidance=1.0, control="input_wide.png", width=80, height=48, seed=0),
        steered("xl_img2img", "sdxl_control", guidance=5.0, control="mask.png", input="input.png", strength=0.75),
    ]
