"""Clips that the binary wrote, in every format that a browser knows: they play, and show the frames that were made."""

import functools
import http.server
import os
import subprocess
import threading

import pytest

from conftest import ROOT

FRAMES, RATE = 12, 8
# The largest mean difference of a pixel's value, of 255: the browser blends moving pictures with another rounding than still ones; GIF
# has 256 colours and no half opacity; video has half the colour's resolution, which shows at the edges of saturated red.
IMAGES = {"a.png": 0.2, "a.webp": 0.2, "a.gif": 6.0}
VIDEOS = {"a.mp4": 5.5, "a.webm": 5.5}
# The largest difference of a colour's mean over the frame: what a wrong matrix, range or curve would change first, by 6 and more.
SHIFT = 3.2

SHOW = """
    const pixels = (shown, width, height) => {
        const canvas = new OffscreenCanvas(width, height);
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.fillStyle = "white";
        context.fillRect(0, 0, width, height);
        context.drawImage(shown, 0, 0);
        return context.getImageData(0, 0, width, height).data;
    };
    const image = async (name) => {
        const image = new Image();
        image.src = name;
        await image.decode();
        return pixels(image, image.naturalWidth, image.naturalHeight);
    };
    const differ = (a, b) => {
        const sums = [0, 0, 0, 0];
        for (let at = 0; at < a.length; at++) {
            if (at % 4 == 3) continue;
            sums[3] += Math.abs(a[at] - b[at]);
            sums[at % 4] += a[at] - b[at];
        }
        const count = a.length / 4;
        return { mean: sums[3] / count / 3, shift: Math.max(...sums.slice(0, 3).map(Math.abs)) / count, values: a.length, others: b.length };
    };
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The address of a folder with one clip in each format, and its frames."""
    binary = os.environ.get("KILN")
    if not binary:
        pytest.skip("skipped: KILN does not name a binary")
    folder = tmp_path_factory.mktemp("clips")
    for name in [*IMAGES, *VIDEOS, "frames/"]:
        asked = ["a red apple", "--interpolate", "7:42", "--frames", str(FRAMES), "--fps", str(RATE), "--steps", "1"]
        command = [binary, "generate", *asked, "--model", str(ROOT / "models/sticker"), "--output", f"{folder}/{name}", "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
    (folder / "index.html").write_text("<!doctype html><title>clips</title>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, clips):
    page = browser.new_page()
    page.goto(clips)
    yield page
    page.close()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_shows_its_first_frame_and_moves(page, name):
    told = page.evaluate(
        """async (name) => {"""
        + SHOW
        + """
            const decoder = new ImageDecoder({ data: (await fetch(name)).body, type: name.endsWith("png") ? "image/png" : "image/" + name.split(".").pop() });
            await decoder.tracks.ready;
            await decoder.completed;
            const track = decoder.tracks.selectedTrack;
            const times = [];
            for (let index = 0; index < track.frameCount; index++) {
                const { image } = await decoder.decode({ frameIndex: index });
                times.push(image.duration / 1e6);
                image.close();
            }
            return { ...differ(await image(name), await image("frames/0001.png")), times, repeats: track.repetitionCount == Infinity };
        }""",
        name,
    )
    assert told["mean"] <= IMAGES[name] and told["shift"] <= SHIFT and told["values"] == told["others"], told
    assert len(told["times"]) == FRAMES and told["repeats"], told
    assert abs(sum(told["times"]) - FRAMES / RATE) < 0.006, told


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_plays_to_its_end_and_shows_each_frame(page, name):
    told = page.evaluate(
        """async ([name, frames, rate]) => {"""
        + SHOW
        + """
            const video = document.createElement("video");
            const happens = (event) => new Promise((done, failed) => {
                video.addEventListener(event, done, { once: true });
                video.addEventListener("error", () => failed(new Error(video.error.message)), { once: true });
            });
            video.muted = true;
            document.body.append(video);
            const known = happens("loadeddata");
            // Whole and in memory: the server here sends no parts of files, and without them a browser cannot seek.
            video.src = URL.createObjectURL(await (await fetch(name)).blob());
            await known;
            const [differences, distances] = [[], []];
            const still = (frame) => image(`frames/${String(frame + 1).padStart(4, "0")}.png`);
            // The frame may be presented after the seek, and so may be the one before it.
            const presented = (frame) => new Promise((done) => {
                const look = (_, { mediaTime }) => Math.abs(mediaTime * rate - frame) < 0.25 ? done() : video.requestVideoFrameCallback(look);
                video.requestVideoFrameCallback(look);
            });
            for (const frame of [5, 0, frames - 1, 2]) {
                const sought = Promise.all([happens("seeked"), presented(frame)]);
                video.currentTime = (frame + 0.5) / rate;
                await sought;
                const shown = pixels(video, video.videoWidth, video.videoHeight);
                differences.push(differ(shown, await still(frame)));
                distances.push(differ(shown, await still(0)).mean - differ(shown, await still(frames - 1)).mean);
            }
            const ended = happens("ended");
            video.currentTime = 0;
            await video.play();
            await ended;
            return { differences, distances, duration: video.duration, width: video.videoWidth, height: video.videoHeight };
        }""",
        [name, FRAMES, RATE],
    )
    assert (told["width"], told["height"]) == (64, 64) and abs(told["duration"] - FRAMES / RATE) < 0.002, told
    # The first frame is nearest to the first picture and the last to the last, so a seek does show another frame.
    assert told["distances"][1] < -0.5 and told["distances"][2] > 0.5, told["distances"]
    for difference in told["differences"]:
        assert difference["mean"] <= VIDEOS[name] and difference["shift"] <= SHIFT, told["differences"]
