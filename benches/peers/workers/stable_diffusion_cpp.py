"""stable-diffusion.cpp through its Python binding, on the pipeline's safetensors; component times are those of its log."""

import importlib.metadata
import re

from worker import main

SPENT = {
    "text_encoder": re.compile(r"get_learned_condition completed, taking ([\d.]+) ?(m?s)"),
    "unet": re.compile(r"sampling completed, taking ([\d.]+) ?(m?s)"),
    "vae_decoder": re.compile(r"latent 1 decoded, taking ([\d.]+) ?(m?s)"),
}


def load(work, clock):
    import stable_diffusion_cpp as binding

    folder = f"{work['bundle']}/diffusers"

    @binding.sd_log_callback
    def heard(level, text, data):
        for role, pattern in SPENT.items():
            if found := pattern.search(text.decode(errors="replace")):
                clock.milliseconds[role] += float(found[1]) * (1 if found[2] == "ms" else 1000)

    tiny = {"taesd_path": f"{folder}/vae/diffusion_pytorch_model.safetensors"} if work["options"].get("tiny_decoder") else {}
    engine = binding.StableDiffusion(model_path=folder, n_threads=work["threads"], vae_decode_only=True, verbose=False, **tiny)
    binding.sd_set_log_callback(heard, None)

    def picture(seed, file):
        given = dict(sample_steps=work["steps"], cfg_scale=1.0, sample_method="euler", width=work["side"], height=work["side"])
        made = engine.generate_image(work["prompt"], seed=seed, **given)[0]
        if file:
            made.save(file)

    # The log is the only place that tells the times, and the callback has to outlive this function.
    picture.heard = heard
    return picture, {"stable-diffusion-cpp-python": importlib.metadata.version("stable-diffusion-cpp-python")}, None


if __name__ == "__main__":
    main(load)
