"""The runs that golden clips are of."""

from picture_cases import APPLE, NEGATIVE, SUN, sampler


def case(name: str, bundle: str, **changes) -> dict:
    plain = {
        "name": name,
        "bundle": bundle,
        "task": "text2video",
        "prompt": SUN,
        "negative": None,
        "seed": 42,
        "steps": 4,
        "guidance": 7.5,
        "width": 32,
        "height": 32,
        "frames": 8,
        "strength": None,
        "input": None,
        # A clip to begin with, whose first frames are taken.
        "clip": None,
        "sampler": None,
        # Frames in a window and from one window to the next, where the clip is longer than the model was trained for.
        "windows": None,
        # What a model that is told of it is told; its own otherwise.
        "frame_rate": None,
        # Of a decoder that goes over a clip in tiles of time: frames of a tile, and from one to the next.
        "tiles": None,
        "tolerance": 1,
        "latent_tolerance": 1e-3,
    }
    unknown = changes.keys() - plain.keys()
    assert not unknown, f"{name}: {unknown}"
    return plain | changes


# As AnimateDiff-Lightning and AnimateLCM are published.
LIGHTNING = sampler("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "beta_schedule": "linear"})
LCM = sampler("LCMScheduler", {"beta_schedule": "linear"})
WIDE = {"width": 48, "height": 32}


def animatediff() -> list[dict]:
    def clip(name: str, **changes) -> dict:
        return case(f"animatediff{name}", "animatediff", **changes)

    def from_picture(name: str, **changes) -> dict:
        return clip(name, task="video2video", **({"input": "input.png", "strength": 0.75} | changes))

    return [
        clip(""),
        clip("_seed_0", seed=0, steps=7),
        clip("_apple", prompt=APPLE, seed=7),
        clip("_negative", negative=NEGATIVE, guidance=5.0),
        clip("_guidance_1", guidance=1.0),
        clip("_frames_5", frames=5),
        clip("_frames_1", frames=1),
        clip("_wide", **WIDE),
        clip("_tall", width=24, height=40, frames=6),
        clip("_lightning_1", guidance=1.0, steps=1, sampler=LIGHTNING),
        clip("_lightning_2", guidance=1.0, steps=2, sampler=LIGHTNING, **WIDE),
        clip("_lightning_4", guidance=1.0, sampler=LIGHTNING, seed=0),
        clip("_lcm", guidance=2.0, sampler=LCM),
        clip("_lcm_2", guidance=1.0, steps=2, sampler=LCM, frames=3),
        clip("_ancestral", sampler=sampler("EulerAncestralDiscreteScheduler", {})),
        clip("_dpm", steps=7, sampler=sampler("DPMSolverMultistepScheduler", {"use_karras_sigmas": True})),
        from_picture("_picture"),
        from_picture("_picture_full", strength=1.0, frames=5),
        from_picture("_picture_many", frames=18, strength=0.5, windows=[8, 2]),
        from_picture("_picture_lightning", guidance=1.0, strength=0.5, sampler=LIGHTNING),
        from_picture("_picture_lcm", guidance=1.0, sampler=LCM, **WIDE),
        *[
            clip(f"_clip{name}", task="video2video", **({"clip": "input.gif", "strength": 0.75} | changes))
            for name, changes in {
                "": {},
                "_negative": {"negative": NEGATIVE, "guidance": 5.0, "strength": 0.5},
                "_full": {"strength": 1.0, "frames": 5},
                "_frames_1": {"frames": 1},
                "_many": {"frames": 18, "strength": 0.5, "windows": [8, 2]},
                "_lightning": {"guidance": 1.0, "strength": 0.5, "sampler": LIGHTNING, "seed": 0},
                "_lcm": {"guidance": 1.0, "sampler": LCM, **WIDE},
                "_ancestral": {"sampler": sampler("EulerAncestralDiscreteScheduler", {}), "width": 24, "height": 40},
            }.items()
        ],
        clip("_long_9", frames=9, windows=[8, 2]),
        clip("_long_12", frames=12, windows=[8, 2]),
        clip("_long_13", frames=13, windows=[8, 2], guidance=1.0, seed=3, sampler=LIGHTNING),
        clip("_long_21", frames=21, windows=[8, 2], sampler=LCM, guidance=1.0, **WIDE),
        # The same with the windows inside the motion modules, where diffusers has them.
        case("animatediff_windows", "animatediff_windows", frames=10),
        case("animatediff_windows_lightning", "animatediff_windows", frames=10, seed=0, guidance=1.0, sampler=LIGHTNING, **WIDE),
        case("animatediff_windows_lcm", "animatediff_windows", frames=10, prompt=APPLE, guidance=1.0, sampler=LCM),
    ]


def wan() -> list[dict]:
    def clip(name: str, **changes) -> dict:
        return case(f"wan{name}", "wan", **({"guidance": 5.0, "frames": 9} | changes))

    def shifted(shift: float) -> dict:
        return sampler("UniPCMultistepScheduler", {"flow_shift": shift})

    return [
        clip(""),
        clip("_seed_0", seed=0, steps=7),
        clip("_apple", prompt=APPLE),
        clip("_negative", negative=NEGATIVE),
        clip("_empty", prompt=""),
        clip("_long_prompt", prompt=f"{APPLE}, " * 60),
        clip("_guidance_1", guidance=1.0),
        clip("_steps_1", guidance=1.0, steps=1),
        clip("_steps_2", guidance=1.0, steps=2, seed=0),
        clip("_frames_1", frames=1),
        clip("_frames_5", frames=5, seed=7),
        clip("_frames_17", frames=17, guidance=1.0),
        clip("_wide", **WIDE),
        clip("_tall", width=16, height=48, frames=5),
        # Windows of 8 frames of latents, which are 29 frames.
        clip("_long_33", frames=33, width=16, height=16, windows=[8, 2]),
        clip("_long_41", frames=41, width=16, height=32, windows=[8, 2], guidance=1.0, seed=3, steps=2),
        clip("_long_45", frames=45, width=32, height=16, windows=[8, 2], guidance=1.0, negative=NEGATIVE),
        clip("_shift_5", guidance=1.0, sampler=shifted(5.0)),
        clip("_shift_1", sampler=shifted(1.0)),
        clip("_order_3", steps=7, sampler=sampler("UniPCMultistepScheduler", {"solver_order": 3})),
        clip("_flow_euler", sampler=sampler("FlowMatchEulerDiscreteScheduler", {"shift": 3.0})),
    ]


def wan_i2v() -> list[dict]:
    def clip(name: str, **changes) -> dict:
        return case(f"wan_i2v{name}", "wan_i2v", **({"task": "image2video", "guidance": 5.0, "frames": 9, "input": "input.png"} | changes))

    return [
        clip(""),
        clip("_seed_0", seed=0, steps=7),
        clip("_apple", prompt=APPLE, seed=7),
        clip("_negative", negative=NEGATIVE),
        clip("_guidance_1", guidance=1.0),
        clip("_steps_1", guidance=1.0, steps=1),
        clip("_frames_1", frames=1),
        clip("_frames_5", frames=5, guidance=1.0),
        clip("_frames_17", frames=17, guidance=1.0, steps=2),
        clip("_wide", **WIDE),
        clip("_tall", width=16, height=48, frames=5),
        # CLIP sees the middle of the picture, the autoencoder all of it in another shape.
        clip("_wide_picture", input="input_wide.png", frames=5),
        clip("_flow_euler", sampler=sampler("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}), frames=5),
    ]


def ltx() -> list[dict]:
    def clip(name: str, **changes) -> dict:
        return case(f"ltx{name}", "ltx", **({"guidance": 3.0, "frames": 9} | changes))

    def distilled(name: str, **changes) -> dict:
        return case(f"ltx_distilled{name}", "ltx_distilled", **({"guidance": 1.0, "frames": 9} | changes))

    picture = {"task": "picture2video", "input": "input.png"}
    wide = {"width": 64, "height": 32}
    return [
        clip(""),
        clip("_seed_0", seed=0, steps=7),
        clip("_apple", prompt=APPLE),
        clip("_negative", negative=NEGATIVE),
        clip("_empty", prompt=""),
        clip("_long_prompt", prompt=f"{APPLE}, " * 60),
        clip("_guidance_1", guidance=1.0),
        clip("_steps_2", guidance=1.0, steps=2, seed=0),
        clip("_frames_1", frames=1),
        clip("_frames_25", frames=25, guidance=1.0),
        clip("_wide", **wide),
        clip("_tall", width=32, height=64, seed=7),
        clip("_rate_8", frame_rate=8),
        clip("_rate_60", frame_rate=60, frames=17, guidance=1.0),
        clip("_picture", **picture),
        clip("_picture_negative", **picture, negative=NEGATIVE, seed=0),
        clip("_picture_wide", **picture, **wide, frames=17, guidance=1.0),
        clip("_tiles", frames=41, guidance=1.0, tiles=[16, 8]),
        distilled(""),
        distilled("_seed_0", seed=0),
        distilled("_apple", prompt=APPLE, **wide),
        distilled("_frames_1", frames=1),
        distilled("_frames_17", frames=17, seed=7),
        distilled("_picture", **picture),
        distilled("_picture_tall", **picture, width=32, height=64, seed=3),
        distilled("_tiles", frames=33, tiles=[16, 8]),
    ]


def all_cases() -> list[dict]:
    cases = [*animatediff(), *wan(), *wan_i2v(), *ltx()]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names)), "two cases share a name"
    return cases
