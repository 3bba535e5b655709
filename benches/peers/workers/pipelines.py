"""diffusers' own pipeline, on torch, or on ONNX Runtime by optimum."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from worker import main, onnx_folder  # noqa: E402


def on_torch(work, clock):
    import diffusers

    dtype = getattr(torch, work["options"].get("dtype", "float32"))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(f"{work['bundle']}/diffusers", torch_dtype=dtype, local_files_only=True)
    pipeline.text_encoder.forward = clock.timed("text_encoder", pipeline.text_encoder.forward)
    pipeline.unet.forward = clock.timed("unet", pipeline.unet.forward)
    pipeline.vae.decode = clock.timed("vae_decoder", pipeline.vae.decode)
    return pipeline, {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0]}


def on_onnxruntime(work, clock):
    import importlib.metadata

    import onnxruntime
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work["threads"]
    pipeline = ORTStableDiffusionPipeline.from_pretrained(onnx_folder(work), session_options=options, provider="CPUExecutionProvider")
    for role, part in (("text_encoder", pipeline.text_encoder), ("unet", pipeline.unet), ("vae_decoder", pipeline.vae_decoder)):
        part.session.run = clock.timed(role, part.session.run)
    return pipeline, {"optimum-onnx": importlib.metadata.version("optimum-onnx"), "onnxruntime": onnxruntime.__version__}


def load(work, clock):
    torch.set_num_threads(work["threads"])
    pipeline, versions = (on_onnxruntime if work["options"]["on"] == "onnxruntime" else on_torch)(work, clock)
    pipeline.set_progress_bar_config(disable=True)

    def picture(seed, file):
        given = dict(num_inference_steps=work["steps"], guidance_scale=0.0, height=work["side"], width=work["side"])
        made = pipeline(work["prompt"], generator=torch.Generator("cpu").manual_seed(seed), **given).images[0]
        if file:
            made.save(file)

    return picture, versions, None


if __name__ == "__main__":
    main(load)
