"""A server of its own for each test, with a tiny Stable Diffusion and the sticker model."""

import os
import subprocess

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
TINY = os.path.join(ROOT, "tests/bundles/sd_turbo")
PLAIN = os.path.join(ROOT, "tests/bundles/sd")
MORE = os.path.join(ROOT, "models/sticker")


class Server:
    def __init__(self, folder, *more):
        command = [os.environ.get("KILN", os.path.join(ROOT, "target/debug/kiln")), "serve", "--listen", "127.0.0.1:0", "--state", str(folder)]
        environment = {name: value for name, value in os.environ.items() if name != "KILN_TOKEN"}
        self.folder = folder
        self.process = subprocess.Popen(
            [*command, "--model", TINY, "--model", PLAIN, "--model", MORE, *more], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        self.url = self.process.stdout.readline().strip().rsplit(" ", 1)[-1]
        assert self.url.startswith("http://"), self.url

    def end(self):
        assert self.process.poll() is None, "the server has ended by itself"
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """Starts a server with more arguments."""
    servers = []

    def begin(*more):
        servers.append(Server(tmp_path / str(len(servers)), *more))
        return servers[-1]

    yield begin
    for server in servers:
        server.end()


@pytest.fixture
def server(start):
    return start()
