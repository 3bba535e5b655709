"""`webuiapi`, a client of Stable Diffusion web UI, against `kiln serve`."""

import threading
import time

import pytest
import requests
import webuiapi
from PIL import Image

TOKEN = "0123456789abcdef0123456789abcdef"
SMALL = {"width": 64, "height": 64, "seed": 4, "steps": 3, "cfg_scale": 2}


def client(server, **more):
    speaks = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", **more)
    speaks.util_set_model("sd")
    return speaks


def test_what_there_is_is_listed(server):
    speaks = client(server)
    assert speaks.util_get_current_model().startswith("sd [")
    assert [model["model_name"] for model in speaks.get_sd_models()] == ["sd_turbo", "sd", "sticker"]
    assert "Euler a" in speaks.util_get_sampler_names() and "karras" in speaks.util_get_scheduler_names()
    assert speaks.get_scripts() == {"txt2img": [], "img2img": []} and speaks.get_loras() == [] and speaks.get_upscalers() == []
    speaks.refresh_checkpoints()
    speaks.util_wait_for_ready(check_interval=0.1)


def test_a_text_becomes_a_picture_that_says_how(server):
    speaks = client(server)
    made = speaks.txt2img(prompt="a red apple", negative_prompt="worm", batch_size=2, **SMALL)
    assert [picture.size for picture in made.images] == [(64, 64)] * 2
    assert made.info["all_seeds"] == [4, 5] and made.info["sampler_name"] == "euler-ancestral"
    told = made.info["infotexts"][0]
    assert told.startswith("a red apple\nNegative prompt: worm\nSteps: 3") and "Seed: 4" in told
    assert made.images[0].text["parameters"] == told
    again = speaks.txt2img(prompt="a red apple", negative_prompt="worm", **SMALL)
    assert again.image.tobytes() == made.image.tobytes()
    other = speaks.txt2img(prompt="a red apple", sampler_name="Euler", scheduler="karras", **SMALL)
    assert other.image.tobytes() != made.image.tobytes()
    answer = requests.post(f"{server.url}/sdapi/v1/png-info", json={"image": made.json["images"][0]})
    assert answer.json()["info"] == told
    assert speaks.png_info(Image.new("RGB", (4, 4))).info == ""


def test_what_clients_send_of_themselves_gives_way_to_the_model(server):
    speaks = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1")
    speaks.util_set_model("sticker")
    made = speaks.txt2img(prompt="a smiling sun", seed=4)
    assert made.image.size == (64, 64) and "Steps: 4," in made.info["infotexts"][0], made.info
    own = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", sampler="Automatic")
    own.util_set_model("sticker")
    same = own.txt2img(prompt="a smiling sun", seed=4, steps=4, cfg_scale=1, width=64, height=64)
    assert same.image.tobytes() == made.image.tobytes()
    for chosen in ({"steps": 21}, {"cfg_scale": 7.5}, {"width": 576}, {"sampler_name": "Heun"}):
        with pytest.raises(RuntimeError) as raised:
            speaks.txt2img(prompt="a smiling sun", **chosen)
        assert raised.value.args[0] == 422, chosen


def test_a_picture_becomes_another(server):
    speaks = client(server)
    picture = Image.new("RGB", (64, 64), "red")
    changed = speaks.img2img(images=[picture], prompt="a tree", denoising_strength=0.7, **SMALL)
    assert changed.image.size == (64, 64)
    white, black = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "black")
    made = [speaks.img2img(images=[picture], mask_image=mask, inpainting_mask_invert=invert, prompt="a tree", denoising_strength=0.7, **SMALL)
            .image.tobytes() for mask, invert in ((white, 0), (black, 1), (black, 0))]
    assert made[0] == made[1] != made[2]


def test_progress_is_told_and_a_run_interrupted(server):
    speaks, ended = client(server), []

    def ask():
        with pytest.raises(RuntimeError) as raised:
            speaks.txt2img(prompt="a red apple", **{**SMALL, "width": 512, "height": 512, "steps": 200})
        ended.append(raised.value.args[0])

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.time() + 60
    while time.time() < until and speaks.get_progress()["state"]["sampling_step"] == 0:
        time.sleep(0.05)
    progress = speaks.get_progress()
    assert 0 < progress["progress"] < 1 and progress["state"]["job_count"] == 1, progress
    speaks.interrupt()
    thread.join(60)
    assert ended == [409]
    assert speaks.get_progress()["state"]["job_count"] == 0


def test_a_password_is_the_token(start):
    probe = start()
    with open(f"{probe.folder}-tokens", "w") as file:
        file.write(TOKEN + "\n")
    server = start("--token-file", f"{probe.folder}-tokens")
    assert client(server, username="kiln", password=TOKEN).txt2img(prompt="a red apple", **SMALL).image.size == (64, 64)
    for path, password in (("sdapi/v1/samplers", "wrong"), ("jobs", TOKEN), ("v1/models", TOKEN)):
        assert requests.get(f"{server.url}/{path}", auth=("kiln", password)).status_code == 401, path


def test_what_kiln_has_not_is_refused_and_the_server_goes_on(server):
    url = f"{server.url}/sdapi/v1"
    cases = [
        {"enable_hr": True}, {"restore_faces": True}, {"tiling": True}, {"styles": ["a"]}, {"script_name": "x"}, {"subseed_strength": 0.5},
        {"alwayson_scripts": {"ControlNet": {"args": [{"model": "a"}]}}}, {"override_settings": {"outdir_samples": "/etc"}},
        {"override_settings": {"sd_model_checkpoint": "../../etc/passwd"}}, {"sampler_name": "../../etc"}, {"unknown": 1},
        {"seed": -7}, {"steps": 10**9}, {"batch_size": 10**18, "n_iter": 10**18}, {"width": 10**6, "height": 10**6}, {"width": 64},
        {"prompt": "a" * 10**5}, {"prompt": ["a"]}, {"init_images": ["aGk="]}, {"save_to": "/etc/passwd"},
    ]
    for case in cases:
        answer = requests.post(f"{url}/txt2img", json={"prompt": "a", **case})
        assert 400 <= answer.status_code < 500 and answer.json()["detail"], (case, answer.text)
    for text in ("", "{", "[]", "null", '{"prompt": NaN}', '{"cfg_scale": NaN}', "[" * 100_000, '{"prompt": "\\ud800"}'):
        answer = requests.post(f"{url}/txt2img", data=text, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500 and answer.json()["detail"], text[:40]
    for pictures in ([], ["?"], ["aGk="], ["aGk=", "aGk="], ["../../etc/passwd"]):
        assert 400 <= requests.post(f"{url}/img2img", json={"init_images": pictures}).status_code < 500, pictures
    assert requests.post(f"{url}/png-info", json={"image": "aGk="}).status_code == 422
    assert requests.post(f"{url}/options", json={"outdir_samples": "/etc"}).status_code == 400
    assert requests.post(f"{url}/txt2img", data="a=b", headers={"content-type": "application/x-www-form-urlencoded"}).status_code == 415
    assert requests.get(f"{url}/nothing").json()["error"] == "not_found"
    assert len(cases) == 20
