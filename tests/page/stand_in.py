"""A stand-in of `kiln serve` for the page's tests: its addresses and answers, pictures of one circle, and a step that takes as long as is said.

    python3 stand_in.py [--port N] [--step-s SECONDS] [--token TOKEN] [--full TIMES]

It prints its address and serves until it is ended.
"""

import argparse
import base64
import json
import pathlib
import random
import re
import struct
import threading
import time
import tomllib
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "src/server/page"
KINDS = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml"}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'"
MODELS = [
    {"name": "sticker", "default": True, "classes": [], "steps": 4},
    {"name": "gan", "default": False, "classes": ["face", "heart", "food"], "steps": 1},
]


def picture(seed: int, share: float) -> bytes:
    """A PNG of 64 x 64 pixels with transparency: noise that gives way to a circle of the seed's colour."""
    chance = random.Random(seed)
    colour = [chance.randrange(256) for _ in range(3)]
    rows = bytearray()
    for y in range(64):
        rows.append(0)
        for x in range(64):
            inside = (x - 32) ** 2 + (y - 32) ** 2 < 24**2
            mixed = [int(part * share + chance.randrange(256) * (1 - share)) for part in colour]
            rows += bytes([*mixed, 255 if inside else int(255 * (1 - share))])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 64, 64, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")


class Job:
    def __init__(self, wish: dict):
        self.number = time.monotonic_ns()
        self.id = f"{random.getrandbits(64):016x}"
        self.seed = wish["seed"] if wish.get("seed") is not None else random.randrange(2**31)
        self.wish = {"model": "sticker", **wish, "seed": self.seed}
        self.state = "queued"
        self.steps = wish.get("steps") or next((m["steps"] for m in MODELS if m["name"] == wish.get("model")), 4)
        self.created_s = time.time()
        self.began_s = self.ended_s = 0.0
        self.events = []

    def tell(self, place: int = 0) -> dict:
        return {
            "id": self.id, "number": self.number, "state": self.state, "place": place, "wish": self.wish, "model": self.wish["model"], "created_ms": int(self.created_s * 1000),
            "started_ms": int(self.began_s * 1000), "ended_ms": int(self.ended_s * 1000),
            "pictures": [{"n": 0, "url": f"/jobs/{self.id}/pictures/0", "seed": self.seed, "width": 64, "height": 64}] if self.state == "finished" else [], "error": None,
        }


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, options):
        super().__init__(("127.0.0.1", options.port), Handler)
        self.options = options
        self.jobs: dict[str, Job] = {}
        self.changed = threading.Condition()
        threading.Thread(target=self.work, daemon=True).start()

    def waiting(self):
        return [job for job in self.jobs.values() if job.state == "queued"]

    def emit(self, job: Job, event: str, data: dict):
        job.events.append((event, data))
        self.changed.notify_all()

    def work(self):
        while True:
            with self.changed:
                while not self.waiting():
                    self.changed.wait()
                job = self.waiting()[0]
                job.state = "running"
                self.emit(job, "state", job.tell())
            job.began_s = time.time()
            for step in range(1, job.steps + 1):
                time.sleep(self.options.step_s)
                with self.changed:
                    if job.state != "running":
                        break
                    self.emit(job, "step", {"step": step, "steps": job.steps, "left_s": self.options.step_s * (job.steps - step)})
                    png = picture(job.seed, step / (job.steps + 1))
                    self.emit(job, "preview", {"step": step, "png": base64.b64encode(png).decode()})
            with self.changed:
                job.ended_s = time.time()
                job.state = "finished" if job.state == "running" else "cancelled"
                self.emit(job, "end", {"state": job.state, "pictures": job.tell()["pictures"]})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_):
        pass

    def answer(self, status: int, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), "Content-Security-Policy": POLICY, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, code: str, **headers):
        self.answer(status, {"error": {"code": code, "message": code}}, **headers)

    def handle_any(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        file = PAGE / ("index.html" if path == "/" else path.removeprefix("/page/"))
        if self.command == "GET" and (path == "/" or path.startswith("/page/")) and file.is_file():
            return self.answer(200, file.read_bytes(), KINDS[file.suffix[1:]])
        token = self.server.options.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return self.refuse(401, "unauthorized")
        match (self.command, path):
            case ("GET", "/bundles"):
                return self.answer(200, {"bundles": MODELS})
            case ("GET", "/lineage"):
                tree = tomllib.loads((ROOT / "models/lineage.toml").read_text())
                return self.answer(200, {"branches": tree["branch"], "algorithms": tree["algorithm"]})
            case ("GET", "/status"):
                return self.answer(200, {
                    "version": "0.1.0", "draining": False, "not_ready": None,
                    "queue": {"waiting": len(self.server.waiting()), "running": 0, "most": 32},
                    "memory": {"resident_bytes": 181_000_000}, "temperatures": [], "free_disk_bytes": 23_000_000_000,
                })
            case ("POST", "/plan"):
                steps = 1 if (body.get("within_s") or 9) < 1 else 4
                return self.answer(200, {"steps": steps, "forecast_time_s": 0.1 * steps, "measured": True})
            case ("POST", "/jobs"):
                return self.submit(body)
            case ("GET", "/jobs"):
                jobs = [job.tell() for job in reversed(self.server.jobs.values())]
                before = query.get("before", [None])[0]
                start = next((i + 1 for i, job in enumerate(jobs) if str(job["number"]) == before), 0)
                return self.answer(200, {"jobs": jobs[start : start + int(query.get("limit", ["50"])[0])]})
        found = re.fullmatch(r"/jobs/(\w+)(/events|/cancel|/pictures/0)?", path)
        job = found and self.server.jobs.get(found[1])
        if not job:
            return self.refuse(404, "not_found")
        match (self.command, found[2]):
            case ("GET", None):
                self.answer(200, job.tell())
            case ("DELETE", None):
                del self.server.jobs[job.id]
                self.answer(204, b"")
            case ("GET", "/events"):
                self.stream(job)
            case ("GET", _):
                self.answer(200, picture(job.seed, 1.0), "image/png")
            case ("POST", _):
                with self.server.changed:
                    if job.state == "queued":
                        self.server.emit(job, "end", {"state": "cancelled", "pictures": []})
                    if job.state in ("queued", "running"):
                        job.state = "cancelled"
                self.answer(200, job.tell())

    do_GET = do_POST = do_DELETE = handle_any

    def submit(self, wish: dict):
        if self.server.options.full > 0:
            self.server.options.full -= 1
            return self.refuse(429, "queue_full", Retry_After=1)
        if "forbidden" in wish.get("prompt", ""):
            return self.refuse(422, "policy")
        with self.server.changed:
            job = Job(wish)
            self.server.jobs[job.id] = job
            self.server.changed.notify_all()
            place = len(self.server.waiting()) - 1
        return self.answer(202, {"id": job.id, "place": place})

    def stream(self, job: Job):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        sent = 0
        try:
            self.event("state", job.tell())
            while True:
                with self.server.changed:
                    while len(job.events) <= sent:
                        self.server.changed.wait(5)
                    event, data = job.events[sent]
                sent += 1
                self.event(event, data)
                if event == "end":
                    return
        except OSError:
            return

    def event(self, name: str, data: dict):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--step-s", type=float, default=0.25)
    parser.add_argument("--token")
    parser.add_argument("--full", type=int, default=0)
    server = Server(parser.parse_args())
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
