"""Kiln, as `kiln serve`: the times are those of the picture's own record."""

import http.client
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import zlib

from worker import main, onnx_folder


def record(png: bytes) -> dict:
    """What a PNG file of Kiln's says of itself."""
    at = 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"zTXt", b"iTXt") and body.startswith(b"kiln\0"):
            text = body[5:]
            if kind == b"zTXt":
                return json.loads(zlib.decompress(text[1:]))
            if kind == b"iTXt":
                packed, text = text[0], text[2:].split(b"\0", 2)[2]
                return json.loads(zlib.decompress(text) if packed else text)
            return json.loads(text)
        at += 12 + length
    raise SystemExit("the picture says nothing of itself")


def load(work, clock):
    state = tempfile.mkdtemp(prefix="kiln-peers-")
    command = [work["options"]["program"], "serve", "--listen", "127.0.0.1:0", "--model", str(onnx_folder(work)), "--state", state]
    command += ["--threads", str(work["threads"]), "--deadline", "86400"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().strip().rpartition("http://")[2]
    if not address:
        raise SystemExit("kiln serve did not start")

    def stop():
        # Whoever started this process ends it by closing its input.
        threading.main_thread().join()
        process.terminate()
        process.wait()
        shutil.rmtree(state, ignore_errors=True)

    threading.Thread(target=stop).start()

    def ask(method, path, body=None) -> bytes:
        connection = http.client.HTTPConnection(address, timeout=86400)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {found.decode(errors='replace')}")
        return found

    def picture(seed, file):
        wish = {"prompt": work["prompt"], "seed": seed, "steps": work["steps"], "previews": False}
        if work["options"].get("guidance"):
            wish["guidance"] = work["options"]["guidance"]
        job = json.loads(ask("POST", "/jobs", wish))
        # The events end when the job has ended.
        ask("GET", job["events"])
        ended = json.loads(ask("GET", f"/jobs/{job['id']}"))
        if ended["error"]:
            raise SystemExit(f"kiln serve: {ended['error']}")
        told = record(ask("GET", f"/jobs/{job['id']}/pictures/0"))
        components = {part["role"]: part["run_ms"] for part in told["components"]}
        return {"total_ms": told["total_ms"], "components": components, "record": told}

    # Networks are opened by the first picture.
    told = picture(0, None)["record"]
    return picture, {"kiln": told["kiln"], "onnxruntime": told["runtime"]}, process.pid


if __name__ == "__main__":
    main(load)
