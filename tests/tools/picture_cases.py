"""Which pictures the golden numbers hold: one dictionary per run of a diffusers pipeline."""

SUN = "a smiling sun"
APPLE = "a red apple on a table, highly detailed oil painting"
LONG = "a golden castle by the sea at sunset with many small stars, " * 12
NEGATIVE = "ugly, blurry, bad art"
FAR_SEED = 2**32 + 5

KARRAS = {"use_karras_sigmas": True}
# Name, scheduler class, configuration keys that replace the bundle's, eta.
SAMPLERS = [
    ("ddpm", "DDPMScheduler", {}, 0.0),
    ("ddim", "DDIMScheduler", {}, 0.0),
    ("ddim_eta", "DDIMScheduler", {}, 0.5),
    ("ddim_clip", "DDIMScheduler", {"clip_sample": True, "clip_sample_range": 2.0}, 0.0),
    ("pndm", "PNDMScheduler", {}, 0.0),
    ("pndm_prk", "PNDMScheduler", {"skip_prk_steps": False}, 0.0),
    ("euler", "EulerDiscreteScheduler", {}, 0.0),
    ("euler_karras", "EulerDiscreteScheduler", KARRAS, 0.0),
    ("euler_trailing", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, 0.0),
    ("euler_ancestral", "EulerAncestralDiscreteScheduler", {}, 0.0),
    ("heun", "HeunDiscreteScheduler", {}, 0.0),
    ("dpm_2m", "DPMSolverMultistepScheduler", {}, 0.0),
    ("dpm_2m_karras", "DPMSolverMultistepScheduler", KARRAS, 0.0),
    ("dpm_2m_sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 0.0),
    ("dpm_2m_sde_karras", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", **KARRAS}, 0.0),
    ("unipc", "UniPCMultistepScheduler", {}, 0.0),
    ("lcm", "LCMScheduler", {}, 0.0),
    ("tcd", "TCDScheduler", {}, 0.0),
    ("tcd_eta", "TCDScheduler", {}, 0.3),
]


def case(name: str, bundle: str, task: str, **changes) -> dict:
    plain = {
        "name": name,
        "bundle": bundle,
        "task": task,
        "group": "plain",
        "prompt": SUN,
        "negative": None,
        "seed": 42,
        "steps": 4,
        "guidance": 7.5,
        "eta": 0.0,
        "width": 64,
        "height": 64,
        "count": 1,
        "strength": None,
        "input": None,
        "mask": None,
        "sampler": None,
        # In steps of a byte, and in latents: some three times what ONNX Runtime's rounding alone was seen to move.
        "tolerance": 1,
        "latent_tolerance": 1e-3,
    }
    unknown = changes.keys() - plain.keys()
    assert not unknown, f"{name}: {unknown}"
    return plain | changes


def text(name: str, bundle: str, **changes) -> dict:
    return case(name, bundle, "text2img", **changes)


def image(name: str, bundle: str, **changes) -> dict:
    return case(name, bundle, "img2img", **({"input": "input.png", "strength": 0.75} | changes))


def paint(name: str, bundle: str, **changes) -> dict:
    return case(name, bundle, "inpaint", **({"input": "input.png", "mask": "mask.png", "strength": 1.0} | changes))


WIDE = {"width": 80, "height": 48}
WIDE_INPUT = {"input": "input_wide.png", **WIDE}
WIDE_MASK = {"mask": "mask_wide.png", **WIDE_INPUT}


def sampler(kind: str, config: dict) -> dict:
    return {"class": kind, "config": config}


def stable_diffusion() -> list[dict]:
    cases = [
        text("sd", "sd"),
        text("sd_seed_0", "sd", seed=0),
        text("sd_seed_far", "sd", seed=FAR_SEED),
        text("sd_apple", "sd", prompt=APPLE, seed=0, steps=7),
        text("sd_wide", "sd", **WIDE),
        text("sd_tall", "sd", width=40, height=72, steps=7),
        text("sd_large", "sd", width=128, height=96),
        text("sd_steps_1", "sd", steps=1),
        text("sd_steps_2", "sd", steps=2),
        text("sd_steps_7", "sd", steps=7),
        text("sd_guidance_0", "sd", guidance=0.0),
        text("sd_guidance_1", "sd", guidance=1.0),
        text("sd_guidance_1_5", "sd", guidance=1.5),
        text("sd_guidance_5", "sd", guidance=5.0),
        text("sd_negative", "sd", negative=NEGATIVE),
        text("sd_negative_unused", "sd", negative=NEGATIVE, guidance=1.0),
        text("sd_long", "sd", prompt=LONG),
        text("sd_long_negative", "sd", negative=LONG),
        text("sd_empty", "sd", prompt=""),
        text("sd_count", "sd", count=3),
        text("sd_count_ancestral", "sd", count=2, sampler=sampler("EulerAncestralDiscreteScheduler", {})),
        text("sd_v", "sd_v", steps=7),
        text("sd_v_negative", "sd_v", negative=NEGATIVE, guidance=5.0, seed=0),
        text("sd_v_wide_eta", "sd_v", eta=0.5, **WIDE),
        text("sd_v_long", "sd_v", prompt=LONG),
        text("sd_v_euler", "sd_v", sampler=sampler("EulerDiscreteScheduler", {"timestep_spacing": "trailing"})),
        text("sd_v_dpm", "sd_v", steps=7, sampler=sampler("DPMSolverMultistepScheduler", KARRAS)),
        text("sd_v_unipc", "sd_v", steps=7, sampler=sampler("UniPCMultistepScheduler", {})),
        text(
            "sd_v_zero_snr",
            "sd_v",
            sampler=sampler("DDIMScheduler", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ),
        image("sd_v_img2img", "sd_v"),
    ]
    for name, kind, config, eta in SAMPLERS:
        steps = 4 if kind in ("LCMScheduler", "TCDScheduler") else 7
        cases.append(text(f"sd_sampler_{name}", "sd", steps=steps, eta=eta, sampler=sampler(kind, config)))
    return cases


def turbo() -> list[dict]:
    turbo = {"guidance": 0.0}
    return [
        text("sd_turbo_1", "sd_turbo", steps=1, **turbo),
        text("sd_turbo_2", "sd_turbo", steps=2, **turbo),
        text("sd_turbo_4", "sd_turbo", steps=4, seed=0, **turbo),
        text("sd_turbo_wide", "sd_turbo", steps=1, prompt=APPLE, **WIDE, **turbo),
        text("sd_turbo_guided", "sd_turbo", steps=4, guidance=5.0, negative=NEGATIVE),
        image("sd_turbo_img2img", "sd_turbo", steps=2, strength=0.5, **turbo),
        image("sd_turbo_img2img_wide", "sd_turbo", steps=4, strength=0.75, **WIDE_INPUT, **turbo),
    ]


def consistency() -> list[dict]:
    return [
        text("lcm", "lcm", guidance=8.5),
        text("lcm_1", "lcm", steps=1, guidance=8.5),
        text("lcm_2", "lcm", steps=2, guidance=8.5, seed=0),
        text("lcm_7", "lcm", steps=7, guidance=8.5, prompt=APPLE),
        text("lcm_guidance_0", "lcm", guidance=0.0),
        text("lcm_guidance_1", "lcm", guidance=1.0),
        text("lcm_wide", "lcm", guidance=8.5, **WIDE),
        text("lcm_count", "lcm", guidance=8.5, count=2),
        image("lcm_img2img_30", "lcm", guidance=8.5, strength=0.3),
        image("lcm_img2img_75", "lcm", guidance=8.5, strength=0.75, seed=0),
        image("lcm_img2img_full", "lcm", guidance=8.5, strength=1.0),
        image("lcm_img2img_wide", "lcm", guidance=8.5, **WIDE_INPUT),
        image("lcm_img2img_count", "lcm", guidance=8.5, count=2),
    ]


def xl() -> list[dict]:
    turbo = {"guidance": 0.0}
    dpm = sampler("DPMSolverMultistepScheduler", KARRAS)
    return [
        text("sdxl", "sdxl", guidance=5.0),
        text("sdxl_seed_0", "sdxl", guidance=7.5, seed=0, steps=7),
        text("sdxl_negative", "sdxl", guidance=5.0, negative=NEGATIVE),
        text("sdxl_negative_empty", "sdxl", guidance=5.0, negative=""),
        text("sdxl_empty", "sdxl", guidance=5.0, prompt=""),
        text("sdxl_long", "sdxl", guidance=5.0, prompt=LONG),
        text("sdxl_guidance_1", "sdxl", guidance=1.0),
        text("sdxl_wide", "sdxl", guidance=5.0, **WIDE),
        text("sdxl_steps_1", "sdxl", guidance=5.0, steps=1),
        text("sdxl_count", "sdxl", guidance=5.0, count=2, negative=NEGATIVE),
        text("sdxl_dpm", "sdxl", guidance=5.0, steps=7, sampler=dpm),
        text("sdxl_lightning", "sdxl", guidance=0.0, sampler=sampler("EulerDiscreteScheduler", {"timestep_spacing": "trailing"})),
        image("sdxl_img2img_30", "sdxl", guidance=5.0, strength=0.3, steps=7),
        image("sdxl_img2img_75", "sdxl", guidance=5.0, negative=NEGATIVE),
        image("sdxl_img2img_full", "sdxl", guidance=5.0, strength=1.0),
        image("sdxl_img2img_wide", "sdxl", guidance=5.0, **WIDE_INPUT),
        paint("sdxl_inpaint_60", "sdxl", guidance=5.0, strength=0.6, steps=7),
        paint("sdxl_inpaint_full", "sdxl", guidance=5.0, negative=NEGATIVE),
        paint("sdxl_inpaint_wide", "sdxl", guidance=5.0, **WIDE_MASK),
        text("sdxl_turbo_1", "sdxl_turbo", steps=1, **turbo),
        text("sdxl_turbo_2", "sdxl_turbo", steps=2, seed=0, **turbo),
        text("sdxl_turbo_4", "sdxl_turbo", prompt=APPLE, **turbo),
        text("sdxl_turbo_wide", "sdxl_turbo", steps=2, **WIDE, **turbo),
        text("sdxl_turbo_count", "sdxl_turbo", steps=2, count=2, **turbo),
        image("sdxl_turbo_img2img", "sdxl_turbo", steps=2, strength=0.5, **turbo),
        paint("sdxl_turbo_inpaint", "sdxl_turbo", steps=4, strength=0.6, **turbo),
    ]


def from_pictures() -> list[dict]:
    ancestral = sampler("EulerAncestralDiscreteScheduler", {})
    heun = sampler("HeunDiscreteScheduler", {})
    sde = sampler("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", **KARRAS})
    return [
        image("sd_img2img_30", "sd", strength=0.3, steps=7),
        image("sd_img2img_75", "sd", seed=0),
        image("sd_img2img_full", "sd", strength=1.0),
        image("sd_img2img_wide", "sd", negative=NEGATIVE, **WIDE_INPUT),
        image("sd_img2img_guidance_1", "sd", guidance=1.0),
        image("sd_img2img_count", "sd", count=2),
        image("sd_img2img_ancestral", "sd", steps=7, sampler=ancestral),
        image("sd_img2img_heun", "sd", strength=0.5, sampler=heun),
        image("sd_img2img_sde", "sd", steps=7, sampler=sde),
        image("sd_img2img_ddim_eta", "sd", eta=0.5, sampler=sampler("DDIMScheduler", {})),
        image("sd_img2img_lcm", "sd", sampler=sampler("LCMScheduler", {})),
        image("sd_img2img_euler_karras", "sd", steps=7, sampler=sampler("EulerDiscreteScheduler", KARRAS)),
        image("sd_img2img_dpm", "sd", steps=7, sampler=sampler("DPMSolverMultistepScheduler", KARRAS)),
        image("sd_img2img_unipc", "sd", steps=7, strength=0.6, sampler=sampler("UniPCMultistepScheduler", {})),
        image("sd_img2img_resized", "sd", group="resized", input="input_odd.png", width=64, height=48),
        paint("sd_inpaint_four_60", "sd", strength=0.6, steps=7),
        paint("sd_inpaint_four_full", "sd", seed=0),
        paint("sd_inpaint_four_guidance_1", "sd", guidance=1.0),
        paint("sd_inpaint_four_wide", "sd", negative=NEGATIVE, **WIDE_MASK),
        paint("sd_inpaint_four_ancestral", "sd", steps=7, sampler=ancestral),
        paint("sd_inpaint_four_heun", "sd", strength=0.6, sampler=heun),
        paint("sd_inpaint_four_ddim", "sd", strength=0.6, steps=7, eta=0.5, sampler=sampler("DDIMScheduler", {})),
        paint("sd_inpaint_four_dpm", "sd", steps=7, sampler=sampler("DPMSolverMultistepScheduler", KARRAS)),
        paint("sd_inpaint_four_unipc", "sd", strength=0.6, steps=7, sampler=sampler("UniPCMultistepScheduler", {})),
        paint("sd_inpaint_four_lcm", "sd", strength=0.75, sampler=sampler("LCMScheduler", {})),
        paint("sd_inpaint_four_resized", "sd", group="resized", input="input_odd.png", mask="mask_large.png"),
        paint("sd_inpaint_four_count", "sd", group="shared_draw", count=2, strength=0.6),
        paint("sd_inpaint_nine_60", "sd_inpaint", strength=0.6, steps=7),
        paint("sd_inpaint_nine_full", "sd_inpaint", seed=0),
        paint("sd_inpaint_nine_guidance_1", "sd_inpaint", guidance=1.0),
        paint("sd_inpaint_nine_wide", "sd_inpaint", negative=NEGATIVE, **WIDE_MASK),
        paint("sd_inpaint_nine_ancestral", "sd_inpaint", steps=7, sampler=ancestral),
        paint("sd_inpaint_nine_count", "sd_inpaint", group="shared_draw", count=2),
    ]


def variants() -> list[dict]:
    cases = []
    for bundle in ("sd_legacy", "sd_external", "sd_fp16"):
        cases += [
            text(bundle, bundle),
            text(f"{bundle}_wide", bundle, negative=NEGATIVE, seed=0, **WIDE),
            image(f"{bundle}_img2img", bundle),
        ]
    return cases


def transformers() -> list[dict]:
    """Rectified flow in transformers. Guidance of `flux_dev` is an embedding, and `flux_schnell` is told none."""
    large = {"width": 96, "height": 128}
    sd3 = [
        text("sd3", "sd3", guidance=7.0),
        text("sd3_seed_0", "sd3", seed=0, steps=7, guidance=5.0),
        text("sd3_seed_far", "sd3", seed=FAR_SEED, guidance=7.0),
        text("sd3_apple", "sd3", prompt=APPLE, guidance=7.0),
        text("sd3_negative", "sd3", negative=NEGATIVE, guidance=7.0),
        text("sd3_long", "sd3", prompt=LONG, guidance=7.0),
        text("sd3_empty", "sd3", prompt="", guidance=7.0),
        text("sd3_guidance_1", "sd3", guidance=1.0),
        text("sd3_steps_1", "sd3", steps=1, guidance=7.0),
        text("sd3_wide", "sd3", guidance=7.0, **WIDE),
        text("sd3_large", "sd3", guidance=7.0, **large),
        text("sd3_count", "sd3", guidance=7.0, count=2),
        text("sd3_heun", "sd3", guidance=7.0, sampler=sampler("FlowMatchHeunDiscreteScheduler", {})),
        image("sd3_img2img_30", "sd3", strength=0.3, steps=7, guidance=7.0),
        image("sd3_img2img_60", "sd3", strength=0.6, guidance=7.0, negative=NEGATIVE),
        image("sd3_img2img_full", "sd3", strength=1.0, guidance=7.0),
        image("sd3_img2img_wide", "sd3", guidance=7.0, **WIDE_INPUT),
        text("sd35_turbo_4", "sd35_turbo", guidance=0.0),
        text("sd35_turbo_1", "sd35_turbo", steps=1, guidance=1.0, seed=0),
        text("sd35_turbo_guided", "sd35_turbo", prompt=APPLE, negative=NEGATIVE, guidance=4.5),
        text("sd35_turbo_wide", "sd35_turbo", guidance=0.0, **WIDE),
        image("sd35_turbo_img2img", "sd35_turbo", guidance=0.0),
        paint("sd3_inpaint_60", "sd3", strength=0.6, steps=7, guidance=7.0),
        paint("sd3_inpaint_full", "sd3", guidance=7.0, negative=NEGATIVE),
        paint("sd3_inpaint_wide", "sd3", guidance=7.0, **WIDE_MASK),
    ]
    flux = [
        text("flux_schnell_4", "flux_schnell", guidance=0.0),
        text("flux_schnell_1", "flux_schnell", steps=1, guidance=0.0, seed=0),
        text("flux_schnell_apple", "flux_schnell", prompt=APPLE, steps=2, guidance=0.0),
        text("flux_schnell_long", "flux_schnell", prompt=LONG, guidance=0.0),
        text("flux_schnell_wide", "flux_schnell", guidance=0.0, **WIDE),
        text("flux_schnell_count", "flux_schnell", guidance=0.0, count=2),
        image("flux_schnell_img2img", "flux_schnell", guidance=0.0),
        text("flux_dev", "flux_dev", guidance=3.5),
        text("flux_dev_seed_0", "flux_dev", seed=0, steps=7, guidance=3.5),
        text("flux_dev_guidance_1", "flux_dev", guidance=1.0),
        text("flux_dev_guidance_7", "flux_dev", guidance=7.0, prompt=APPLE),
        text("flux_dev_empty", "flux_dev", prompt="", guidance=3.5),
        text("flux_dev_tall", "flux_dev", guidance=3.5, width=40, height=72, steps=7),
        text("flux_dev_large", "flux_dev", guidance=3.5, **large),
        image("flux_dev_img2img_30", "flux_dev", strength=0.3, steps=7, guidance=3.5),
        image("flux_dev_img2img_60", "flux_dev", strength=0.6, guidance=3.5),
        image("flux_dev_img2img_wide", "flux_dev", guidance=3.5, **WIDE_INPUT),
        paint("flux_dev_inpaint_60", "flux_dev", strength=0.6, steps=7, guidance=3.5),
        paint("flux_dev_inpaint_full", "flux_dev", guidance=3.5),
        paint("flux_schnell_inpaint", "flux_schnell", strength=0.75, guidance=0.0, **WIDE_MASK),
        image("flux_dev_img2img_count", "flux_dev", group="shared_draw", guidance=3.5, count=2),
    ]
    return sd3 + flux


def pix_art() -> list[dict]:
    """`pixart_sigma` has DPM-Solver++ and longer texts, `pixart_lcm` is told the picture's size and was distilled.

    Their noise ends at a signal of 1/160, by which a random predictor's mistakes are multiplied: latents go to hundreds.
    """
    hundreds = {"latent_tolerance": 0.05}

    def sigma(name: str, **changes) -> dict:
        return text(f"pixart_sigma{name}", "pixart_sigma", **({"guidance": 4.5} | hundreds | changes))

    def lcm(name: str, **changes) -> dict:
        return text(f"pixart_lcm{name}", "pixart_lcm", **({"guidance": 0.0} | hundreds | changes))

    euler = sampler("EulerDiscreteScheduler", {})
    return [
        sigma(""),
        sigma("_seed_0", seed=0, steps=7),
        sigma("_seed_far", seed=FAR_SEED, steps=20),
        sigma("_capitals", prompt="  A Red APPLE on a table, \u00c4PFEL  "),
        sigma("_negative", negative=NEGATIVE),
        sigma("_long", prompt=LONG * 2),
        sigma("_empty", prompt=""),
        sigma("_guidance_1", guidance=1.0),
        sigma("_guidance_7", guidance=7.0, prompt=APPLE),
        sigma("_steps_1", steps=1),
        sigma("_wide", **WIDE),
        sigma("_large", width=96, height=128),
        sigma("_count", count=2),
        sigma("_karras", steps=7, sampler=sampler("DPMSolverMultistepScheduler", KARRAS)),
        sigma("_euler", steps=7, sampler=euler),
        sigma("_lcm", guidance=1.0, sampler=sampler("LCMScheduler", {})),
        lcm(""),
        lcm("_1", steps=1, seed=0),
        lcm("_2", steps=2, prompt=APPLE),
        lcm("_8", steps=8),
        lcm("_long", prompt=LONG),
        lcm("_wide", **WIDE),
        lcm("_tall", width=40, height=72),
        lcm("_count", count=2),
        lcm("_guided", guidance=4.5, negative=NEGATIVE, steps=7, sampler=sampler("DPMSolverMultistepScheduler", {})),
        # With a single step its pipeline decodes the estimate; after this sampler's that is not the sample.
        lcm("_euler_1", steps=1, sampler=euler),
    ]


def sana() -> list[dict]:
    """`sana` reads prompts behind an instruction, `sana_sprint` without; the second is told its guidance."""

    # Its pipelines ask for multiples of 32.
    wide = {"width": 96, "height": 64}

    def plain(name: str, **changes) -> dict:
        return text(f"sana{name}", "sana", **({"guidance": 4.5} | changes))

    def sprint(name: str, **changes) -> dict:
        return text(f"sana_sprint{name}", "sana_sprint", **({"guidance": 4.5, "steps": 2} | changes))

    def from_picture(name: str, **changes) -> dict:
        return image(f"sana_sprint_img2img{name}", "sana_sprint", **({"guidance": 4.5, "steps": 2, "strength": 0.6} | changes))

    return [
        plain("_plain"),
        plain("_seed_0", seed=0, steps=7),
        plain("_seed_far", seed=FAR_SEED, steps=20),
        plain("_capitals", prompt="  A Red APPLE on a table, \u00c4PFEL  "),
        plain("_negative", negative=NEGATIVE),
        plain("_long", prompt=LONG * 2),
        plain("_empty", prompt=""),
        plain("_guidance_1", guidance=1.0),
        plain("_guidance_7", guidance=7.0, prompt=APPLE),
        plain("_steps_1", steps=1),
        plain("_wide", **wide),
        plain("_large", width=96, height=128),
        plain("_count", count=2),
        plain("_flow_euler", sampler=sampler("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})),
        sprint("_2"),
        sprint("_1", steps=1),
        sprint("_3", steps=3, seed=0),
        sprint("_4", steps=4, prompt=APPLE),
        sprint("_long", prompt=LONG * 2),
        sprint("_empty", prompt="", steps=1),
        sprint("_guidance_0", guidance=0.0),
        sprint("_guidance_1", guidance=1.0),
        sprint("_guidance_9", guidance=9.0, seed=FAR_SEED),
        sprint("_wide", **wide),
        sprint("_tall", width=32, height=96, steps=4),
        sprint("_count", count=2),
        from_picture("_60"),
        from_picture("_30", strength=0.3, steps=4),
        from_picture("_full", strength=1.0, seed=0),
        from_picture("_wide", group="resized", input="input_wide.png", steps=3, **wide),
        from_picture("_resized", group="resized", input="input_odd.png"),
        from_picture("_count", count=2, steps=4),
    ]


def all_cases() -> list[dict]:
    cases = [*stable_diffusion(), *turbo(), *consistency(), *xl(), *from_pictures(), *variants(), *transformers(), *pix_art(), *sana()]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)), "two cases share a name"
    return cases
