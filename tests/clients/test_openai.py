"""OpenAI's own client for Python against `kiln serve`."""

import base64
import io
import threading
import time
import urllib.request

import httpx2 as httpx
import openai
import pytest
from PIL import Image

TOKEN = "0123456789abcdef0123456789abcdef"
TINY = {"size": "64x64", "extra_body": {"steps": 2, "seed": 4}}


def client(server, token="none"):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0, timeout=60)


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def png(color, size=(64, 64), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def test_models_are_listed_and_found(server):
    speaks = client(server)
    names = [model.id for model in speaks.models.list()]
    assert names == ["sd_turbo", "sd", "sticker"]
    assert speaks.models.retrieve("sticker").owned_by == "kiln"
    with pytest.raises(openai.NotFoundError) as raised:
        speaks.models.retrieve("../../etc")
    assert raised.value.status_code == 404
    with pytest.raises(openai.NotFoundError) as raised:
        speaks.models.retrieve("nothing")
    assert raised.value.code == "model_not_found" and raised.value.param == "model"


def test_pictures_come_in_the_answer_or_as_addresses(server):
    speaks = client(server)
    made = speaks.images.generate(prompt="a red apple", n=2, response_format="b64_json", **TINY)
    pictures = [opened(image.b64_json) for image in made.data]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2 and made.size == "64x64" and made.output_format == "png"
    assert abs(made.created - time.time()) < 300
    sticker = opened(speaks.images.generate(model="sticker", prompt="a red apple", background="transparent").data[0].b64_json)
    assert sticker.mode == "RGBA" and sticker.getchannel("A").getextrema() == (0, 255)
    with pytest.raises(openai.BadRequestError):
        speaks.images.generate(model="sticker", prompt="a red apple", background="opaque")
    assert "a red apple" in pictures[0].text["parameters"] and "Seed: 4" in pictures[0].text["parameters"]
    again = speaks.images.generate(prompt="a red apple", response_format="url", **TINY)
    with urllib.request.urlopen(again.data[0].url) as answer:
        assert Image.open(answer).tobytes() == pictures[0].tobytes()
    assert again.data[0].b64_json is None


def test_kilns_own_fields_are_kept_to(server):
    extra = {"steps": 3, "seed": 9, "guidance": 2.0, "negative_prompt": "worm", "sampler": "euler", "within": 600}
    made = client(server).images.generate(model="sd", prompt="a red apple", size="64x64", extra_body=extra)
    told = opened(made.data[0].b64_json).text["parameters"]
    for part in ["Steps: 3", "Seed: 9", "CFG scale: 2", "Negative prompt: worm"]:
        assert part in told, told


def test_a_stream_has_partial_pictures_and_the_whole_one(server):
    events = list(client(server).images.generate(
        model="sd", prompt="a red apple", size="64x64", stream=True, partial_images=2, extra_body={"steps": 8, "seed": 4}))
    partial, last = events[:-1], events[-1]
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert last.type == "image_generation.completed" and last.usage.total_tokens == 0
    for event in events:
        assert event.output_format == "png" and opened(event.b64_json).size == tuple(map(int, event.size.split("x")))
    whole = client(server).images.generate(model="sd", prompt="a red apple", size="64x64", extra_body={"steps": 8, "seed": 4})
    assert opened(last.b64_json).tobytes() == opened(whole.data[0].b64_json).tobytes()
    plain = list(client(server).images.generate(prompt="a red apple", stream=True, **TINY))
    assert [event.type for event in plain] == ["image_generation.completed"]


def test_pictures_are_edited_and_varied(server):
    speaks = client(server)
    picture, extra = ("a.png", png("red"), "image/png"), {"seed": 4, "steps": 4, "strength": 0.5}
    edited = speaks.images.edit(image=picture, prompt="a green apple", size="64x64", extra_body=extra)
    assert opened(edited.data[0].b64_json).size == (64, 64)
    assert speaks.images.create_variation(image=picture, size="64x64", extra_body=extra).data
    clear, solid = ("m.png", png((0, 0, 0, 0), mode="RGBA"), "image/png"), ("m.png", png((0, 0, 0, 255), mode="RGBA"), "image/png")
    changed, kept = [
        opened(speaks.images.edit(image=picture, mask=mask, prompt="a tree", size="64x64", extra_body=extra).data[0].b64_json)
        for mask in (clear, solid)]
    assert changed.tobytes() != kept.tobytes(), "a mask that is clear everywhere and one that is nowhere give the same"
    with pytest.raises(openai.BadRequestError) as raised:
        speaks.images.edit(image=picture, mask=picture, prompt="a tree", size="64x64", extra_body=extra)
    assert raised.value.param == "mask"
    events = list(speaks.images.edit(image=picture, prompt="a tree", size="64x64", stream=True, partial_images=1, extra_body={"steps": 4}))
    assert events[-1].type == "image_edit.completed"


def test_errors_are_those_that_the_client_knows(start):
    server = start()
    speaks = client(server)
    cases = [
        {"prompt": "a", "n": 100_000}, {"prompt": "a" * 3000}, {"prompt": "a", "size": "7"}, {"prompt": "a", "size": "100000x100000"},
        {"prompt": "a", "quality": "hd"}, {"prompt": "a", "background": "transparent"}, {"prompt": "a", "output_format": "webp"},
        {"prompt": "a", "extra_body": {"steps": -1}}, {"prompt": "a", "extra_body": {"sampler": "../../etc/passwd"}},
        {"prompt": "a", "extra_body": {"unknown": 1}}, {"prompt": ["a"]}, {"prompt": "a", "stream": True, "partial_images": 9},
        {"prompt": "a", "stream": True, "response_format": "url"},
    ]
    for case in cases:
        with pytest.raises(openai.APIStatusError) as raised:
            speaks.images.generate(**case)
        assert raised.value.status_code in (400, 413), case
        assert set(raised.value.body) == {"message", "type", "param", "code"} and raised.value.type == "invalid_request_error", case
    bomb = png("black", size=(20000, 20000), mode="1")
    for file in (b"", b"no picture", bomb):
        with pytest.raises(openai.APIStatusError) as raised:
            speaks.images.edit(image=("../../a.png", file, "image/png"), prompt="a")
        assert 400 <= raised.value.status_code < 500
    locked = start("--token-file", write(server, TOKEN))
    with pytest.raises(openai.AuthenticationError) as raised:
        client(locked, "wrong").images.generate(prompt="a", **TINY)
    assert raised.value.code == "invalid_api_key"
    assert client(locked, TOKEN).images.generate(prompt="a", **TINY).data


def write(server, token):
    path = f"{server.folder}-tokens"
    with open(path, "w") as file:
        file.write(token + "\n")
    return path


def test_a_full_queue_is_a_rate_limit_and_a_client_that_goes_takes_its_job_along(start):
    server = start("--queue", "2")
    slow = {"model": "sd", "prompt": "a red apple", "size": "512x512", "n": 8, "extra_body": {"steps": 200}}
    outcomes = []

    def ask():
        try:
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=4).images.generate(**slow)
        except openai.APIError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "RateLimitError" in outcomes and "APITimeoutError" in outcomes, outcomes
    until = time.time() + 60
    while time.time() < until:
        states = [job["state"] for job in httpx.get(f"{server.url}/jobs").json()["jobs"]]
        if set(states) == {"cancelled"}:
            return
        time.sleep(0.2)
    raise AssertionError(states)
