"""OpenVINO GenAI's pipeline, on the bundle's ONNX files as OpenVINO converts them, weights in f32."""

import shutil
from pathlib import Path

import openvino
import openvino_genai
from openvino import opset13 as operators
from worker import main, onnx_folder


def with_whole_timestep(model) -> None:
    """The pipeline gives a row of one whole number where the export takes one number of any kind."""
    given = model.input("timestep").get_node()
    whole = operators.parameter([1], openvino.Type.i64, name="timestep")
    whole.output(0).set_names({"timestep"})
    number = operators.squeeze(operators.convert(whole, "f32"), operators.constant([0]))
    for taker in given.output(0).get_target_inputs():
        taker.replace_source_output(number.output(0))
    model.remove_parameter(given)
    model.add_parameters([whole])


def converted(work) -> Path:
    """The bundle as OpenVINO has it; made once."""
    source, target = onnx_folder(work), Path(work["bundle"]) / "openvino"
    if (target / "model_index.json").is_file():
        return target
    from openvino_tokenizers import convert_tokenizer
    from transformers import CLIPTokenizerFast

    shutil.rmtree(target, ignore_errors=True)
    for role in ("text_encoder", "unet", "vae_decoder"):
        model = openvino.convert_model(source / role / "model.onnx")
        if role == "unet":
            with_whole_timestep(model)
        openvino.save_model(model, target / role / "openvino_model.xml", compress_to_fp16=False)
        shutil.copy(source / role / "config.json", target / role / "config.json")
    tokenizer = convert_tokenizer(CLIPTokenizerFast.from_pretrained(source / "tokenizer"), with_detokenizer=False)
    openvino.save_model(tokenizer, target / "tokenizer" / "openvino_tokenizer.xml")
    shutil.copytree(source / "scheduler", target / "scheduler")
    # Its classes stay diffusers': by them the pipeline knows what each network is.
    shutil.copy(source / "model_index.json", target / "model_index.json")
    return target


def load(work, clock):
    settings = {"INFERENCE_NUM_THREADS": work["threads"]}
    pipeline = openvino_genai.Text2ImagePipeline(str(converted(work)), "CPU", **settings)

    def picture(seed, file):
        made = pipeline.generate(
            work["prompt"], num_inference_steps=work["steps"], guidance_scale=1.0, height=work["side"], width=work["side"], rng_seed=seed
        )
        told = pipeline.get_performance_metrics()
        clock.milliseconds["text_encoder"] += sum(told.get_text_encoder_infer_duration().values())
        clock.milliseconds["unet"] += told.get_unet_infer_duration().mean * work["steps"]
        clock.milliseconds["vae_decoder"] += told.get_vae_decoder_infer_duration()
        if file:
            from PIL import Image

            Image.fromarray(made.data[0]).save(file)

    return picture, {"openvino-genai": openvino_genai.__version__.split("-")[0]}, None


if __name__ == "__main__":
    main(load)
