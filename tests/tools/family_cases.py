"""The table of family cases: what is asked of which bundle. Keys are those of Kiln's requests; a missing key is that of `DEFAULTS`."""

DEFAULTS = {
    "task": "sample",
    "prompt": "",
    "seed": 0,
    "count": 1,
    "steps": None,
    "sampler": None,
    "solver": None,
    "guidance": 1.0,
    "eta": None,
    "temperature": None,
    "truncation": None,
    "style_mix": None,
    "walk": None,
    "input": None,
    "samples": 1,
    "trace": None,
}

SCORE_SCALES = {"sigma_min": 0.01, "sigma_max": 10.0}


def case(bundle: str, name: str, **keys) -> dict:
    unknown = set(keys) - set(DEFAULTS)
    if unknown:
        raise SystemExit(f"{bundle}_{name}: unknown keys {unknown}")
    return {"name": f"{bundle}_{name}", "bundle": bundle} | DEFAULTS | keys


def sampler(kind: str, **config) -> dict:
    """What `from_config` of the class makes of the bundle's file, with some keys replaced."""
    return {"class": kind, "config": config}


def autoencoder() -> list[dict]:
    return [
        case("vae", "plain", seed=1, count=4),
        case("vae", "named", prompt="blue", seed=1),
        case("vae", "cool", seed=5, temperature=0.7),
        case("vae", "cold", seed=5, temperature=0.0, prompt="red"),
        case("vae", "walk", seed=3, walk={"to": 11, "frames": 5}),
        case("vae", "invert", task="invert", input="disc_16.png", prompt="green"),
        case("vae", "invert_likeliest", task="invert", input="spot_16.png", seed=2),
        case("vae", "bound", task="likelihood", input="disc_16.png", prompt="green", seed=4),
        case("vae", "bound_of_any", task="likelihood", input="spot_16.png", seed=7),
        case("vae", "bound_of_8", task="likelihood", input="disc_16.png", prompt="blue", seed=8, samples=8),
    ]


def generator() -> list[dict]:
    mixed = [case("gan", f"mix_{at}", seed=2, prompt="blue", style_mix={"seed": 9, "from_layer": at}) for at in (0, 1, 2)]
    truncated = [case("gan", f"truncation_{int(10 * share)}", seed=2, truncation=share) for share in (0.0, 0.7, 1.0)]
    return [
        *truncated,
        *mixed,
        case("gan", "mean_of_blue", seed=6, prompt="blue", truncation=0.0),
        case("gan", "count", seed=4, count=4, truncation=0.7),
        case("gan", "mix_truncated", seed=3, truncation=0.5, style_mix={"seed": 30, "from_layer": 1}),
        case("gan", "walk", seed=3, walk={"to": 4, "frames": 4}, truncation=0.7),
    ]


def flow() -> list[dict]:
    return [
        case("flow", "plain", seed=1, count=3, temperature=1.0),
        case("flow", "cool", seed=2, temperature=0.7),
        case("flow", "walk", seed=5, walk={"to": 6, "frames": 3}, temperature=0.7),
        case("flow", "likelihood_disc", task="likelihood", input="disc_8.png"),
        case("flow", "likelihood_spot", task="likelihood", input="spot_8.png"),
        case("flow", "invert", task="invert", input="disc_8.png"),
        case("flow", "invert_spot", task="invert", input="spot_8.png"),
    ]


def continuous() -> list[dict]:
    fixed = [
        case("cnf", f"{method}_{steps}", solver=method, steps=steps, seed=steps + at)
        for at, method in enumerate(("euler", "heun", "rk4"))
        for steps in (1, 10, 25)
    ]
    toy = [
        case("cnf_gaussian", "heun_40", solver="heun", steps=40, seed=2),
        case("cnf_gaussian", "rk4_20", solver="rk4", steps=20, seed=3),
        case("cnf_gaussian", "dopri5", solver="dopri5", seed=1),
        case("cnf_gaussian", "exact", task="likelihood", input="disc_8.png", trace="exact", samples=32),
        case("cnf_gaussian", "exact_spot", task="likelihood", input="spot_8.png", trace="exact", samples=32),
        case("cnf_gaussian", "probed", task="likelihood", input="disc_8.png", trace="hutchinson", seed=5),
    ]
    return [
        *fixed,
        case("cnf", "dopri5", solver="dopri5", seed=3),
        case("cnf", "dopri5_named", solver="dopri5", seed=3, prompt="green"),
        case("cnf", "guided", solver="euler", steps=10, seed=4, guidance=2.5),
        case("cnf", "guided_rk4", solver="rk4", steps=5, seed=4, guidance=1.5, prompt="red"),
        case("cnf", "count", solver="heun", steps=4, seed=7, count=3),
        case("cnf", "walk", solver="heun", steps=5, seed=1, walk={"to": 8, "frames": 4}),
        case("cnf", "invert_rk4", task="invert", input="disc_8.png", solver="rk4", steps=20, prompt="red"),
        case("cnf", "invert_dopri5", task="invert", input="spot_8.png", solver="dopri5", prompt="blue"),
        case("cnf", "exact", task="likelihood", input="disc_8.png", trace="exact", samples=32, prompt="red"),
        case("cnf", "exact_of_any", task="likelihood", input="spot_8.png", trace="exact", samples=32),
        case("cnf", "probed", task="likelihood", input="disc_8.png", trace="hutchinson", prompt="red", seed=5),
        case("cnf", "probed_4", task="likelihood", input="disc_8.png", trace="hutchinson", prompt="red", seed=6, samples=4),
        *toy,
    ]


def score() -> list[dict]:
    exploding = sampler("ScoreSdeVeScheduler", **SCORE_SCALES)
    two, none = (sampler("ScoreSdeVeScheduler", correct_steps=count, **SCORE_SCALES) for count in (2, 0))
    preserving = sampler("ScoreSdeVpScheduler", beta_min=0.1, beta_max=9.0, sampling_eps=1e-3)
    annealed = {"steps_per_level": 5, "step_size": 2e-5, "denoise": False, **SCORE_SCALES}
    langevin = sampler("AnnealedLangevinScheduler", **annealed)
    longer = sampler("AnnealedLangevinScheduler", **annealed | {"steps_per_level": 20, "denoise": True})
    return [
        case("score", "ve_20", sampler=exploding, steps=20, seed=1),
        case("score", "ve_50", sampler=exploding, steps=50, seed=2, count=2),
        case("score", "ve_two_corrections", sampler=two, steps=10, seed=3),
        case("score", "ve_no_correction", sampler=none, steps=10, seed=3),
        case("score", "ve_walk", sampler=exploding, steps=10, seed=3, walk={"to": 12, "frames": 3}),
        case("score", "vp_20", sampler=preserving, steps=20, seed=1),
        case("score", "vp_50", sampler=preserving, steps=50, seed=2),
        case("score", "ve_by_name", sampler={"choice": "ve"}, steps=15, seed=6),
        case("score", "vp_by_name", sampler={"choice": "vp"}, steps=25, seed=6),
        case("score", "langevin", sampler=langevin, steps=10, seed=1),
        case("score", "langevin_denoised", sampler=longer, steps=10, seed=2, count=2),
        case("score", "langevin_walk", sampler=longer, steps=5, seed=2, walk={"to": 5, "frames": 3}),
        case("score", "heun_20", solver="heun", steps=20, seed=4),
        case("score", "rk4_10", solver="rk4", steps=10, seed=4),
        case("score", "euler_30", solver="euler", steps=30, seed=5, count=2),
        case("score", "dopri5", solver="dopri5", seed=4),
        case("score", "walk", solver="heun", steps=10, seed=4, walk={"to": 9, "frames": 3}),
        case("score", "invert_rk4", task="invert", input="disc_8.png", solver="rk4", steps=20),
        case("score", "exact", task="likelihood", input="disc_8.png", trace="exact", samples=32),
        case("score", "probed", task="likelihood", input="spot_8.png", trace="hutchinson", seed=3),
        case("score_gaussian", "dopri5", solver="dopri5", seed=2),
        case("score_gaussian", "exact", task="likelihood", input="disc_8.png", trace="exact", samples=32),
    ]


def diffusion() -> list[dict]:
    ancestral = sampler("DDPMScheduler")
    implicit = sampler("DDIMScheduler")
    unclipped = sampler("DDIMScheduler", clip_sample=False)
    etas = [
        case("ddpm", f"ddim_{steps}_eta_{int(10 * eta)}", sampler=implicit, steps=steps, eta=eta, seed=steps)
        for steps in (10, 50)
        for eta in (0.0, 0.5, 1.0)
    ]
    return [
        case("ddpm", "ancestral_1000", sampler=ancestral, steps=1000, seed=1),
        case("ddpm", "ancestral_100", sampler=ancestral, steps=100, seed=2, prompt="green"),
        case("ddpm", "ancestral_10", sampler=ancestral, steps=10, seed=3, count=3),
        *etas,
        case("ddpm", "ddim_unclipped", sampler=unclipped, steps=10, eta=0.0, seed=5),
        case("ddpm", "guided", sampler=implicit, steps=10, eta=0.0, seed=6, guidance=3.0),
        case("ddpm", "guided_ancestral", sampler=ancestral, steps=10, seed=6, guidance=1.5, prompt="red"),
        case("ddpm", "walk", sampler=implicit, steps=10, eta=0.0, seed=1, walk={"to": 2, "frames": 4}),
        case("ddpm", "walk_eta", sampler=implicit, steps=10, eta=1.0, seed=1, walk={"to": 2, "frames": 3}),
        case("ddpm", "walk_ancestral", sampler=ancestral, steps=10, seed=4, walk={"to": 9, "frames": 3}, prompt="blue"),
        case("ddpm", "invert", task="invert", input="disc_16.png", sampler=unclipped, steps=25, prompt="red"),
        case("ddpm", "invert_clipped", task="invert", input="spot_16.png", sampler=implicit, steps=25, prompt="blue"),
        case("ddpm", "invert_in_turn", task="invert", input="disc_16.png", sampler=unclipped, steps=50, prompt="blue"),
    ]


def distilled() -> list[dict]:
    halved = [case("progressive", f"steps_{steps}", steps=steps, seed=steps, eta=0.0) for steps in (8, 4, 2, 1)]
    return [
        *halved,
        case("progressive", "count", steps=2, seed=5, count=4, eta=0.0),
        case("progressive", "walk", steps=4, seed=5, walk={"to": 6, "frames": 3}, eta=0.0),
        case("consistency", "steps_1", steps=1, seed=1),
        case("consistency", "steps_2", steps=2, seed=2, count=2),
        case("consistency", "walk", steps=2, seed=2, walk={"to": 3, "frames": 3}),
        case("consistency_cm", "steps_1", steps=1, seed=1),
        case("consistency_cm", "steps_2", steps=2, seed=2, count=3),
        case("consistency_cm", "walk", steps=2, seed=4, walk={"to": 8, "frames": 3}, prompt="green"),
    ]


def judge() -> list[dict]:
    return [case("judge", "sheet", task="features", input="sheet"), case("judge", "disc", task="features", input="disc_8.png")]


def all_cases() -> list[dict]:
    groups = (autoencoder, generator, flow, continuous, score, diffusion, distilled, judge)
    cases = [made for group in groups for made in group()]
    names = [made["name"] for made in cases]
    if len(set(names)) != len(names):
        raise SystemExit("two cases have one name")
    return cases
