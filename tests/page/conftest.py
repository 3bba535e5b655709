"""Servers and browsers for the page's tests; see README.md."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright.sync_api import sync_playwright

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


def pytest_report_header():
    return f"page: kiln serve from {os.environ.get('KILN', 'nowhere: only the stand-in')}"


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def process(command, **options):
    running = subprocess.Popen(command, text=True, **options)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()


@contextlib.contextmanager
def stand_in(*arguments):
    with process([sys.executable, str(HERE / "stand_in.py"), *arguments], stdout=subprocess.PIPE) as running:
        yield running.stdout.readline().strip()


@pytest.fixture(scope="session")
def slow():
    """A stand-in whose steps take long enough to be watched, stopped and reloaded."""
    with stand_in("--step-s", "1") as address:
        yield address


@pytest.fixture(scope="session")
def kiln(tmp_path_factory):
    """The real server with the models of this repository."""
    binary = os.environ.get("KILN")
    if not binary:
        pytest.skip("skipped: KILN does not name a binary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path_factory.mktemp("kiln")
    log = (data / "log").open("w")
    command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--state", str(data / "jobs")]
    with process(command, cwd=ROOT, stderr=log, stdout=log) as running:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
                break
            assert running.poll() is None, (data / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def server(request):
    """The real server where `KILN` names one, else the stand-in."""
    return request.getfixturevalue("kiln" if os.environ.get("KILN") else "slow")


def until(page, expression, value=None, timeout=30_000):
    """Waits until `expression` holds. Playwright's own way evaluates text within the page, which its policy forbids."""
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(expression, value):
        assert time.monotonic() < end, f"{expression}; the status says {page.inner_text('#status')!r}"
        page.wait_for_timeout(40)


def settled(page):
    """Waits until nothing is on its way to another place or colour; what moves for ever may."""
    until(page, "document.getAnimations().every((one) => one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity)")


class Visitor:
    """A browser of one's own at `address`, and all that it asked for and complained of."""

    def __init__(self, browser, address, at="/", admitted=True, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1024, "height": 600}, "locale": "en-GB", **options})
        self.address, self.asked, self.complaints, self.slow = address, [], [], False
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda line: line.type in ("error", "warning") and self.complaints.append(line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address + at)
        if admitted:
            self.ready()

    def ready(self):
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=15_000)

    def make(self, prompt="a smiling sun"):
        self.page.fill("#prompt", prompt)
        self.page.click("#go")

    def wish_more(self, **more):
        """Adds to whatever the page asks for from now on, so that a model takes long enough to be watched."""

        def add(route):
            wish = {**json.loads(route.request.post_data), **more}
            wish.pop("within_s", None)
            route.continue_(post_data=json.dumps(wish))

        self.page.route("**/jobs", add)

    def wish_slowly(self):
        """What is asked for from now on lasts until it is stopped, at the end of the test at the latest."""
        self.slow = True
        if "ddpm" in self.page.evaluate("[...document.querySelectorAll('#model option')].map((one) => one.value)"):
            self.wish_more(model="ddpm", prompt="face", steps=1000, count=4)
        else:
            self.wish_more(steps=60)

    def job(self):
        """The job that was sent last, by anyone."""
        return self.page.evaluate("fetch('/jobs?limit=1').then((answer) => answer.json())")["jobs"][0]

    def finished(self, timeout=20_000):
        self.page.wait_for_selector("#polaroid.done", timeout=timeout)
        self.page.wait_for_selector("#actions:not([hidden])", timeout=timeout)

    def status(self):
        return self.page.inner_text("#status")


STOP_ALL = """async () => {
  const { jobs } = await (await fetch("/jobs?limit=50")).json();
  await Promise.all(jobs.filter((job) => ["queued", "running"].includes(job.state)).map((job) => fetch(`/jobs/${job.id}/cancel`, { method: "POST" })));
}"""


@pytest.fixture
def visit(browser):
    """Opens visitors; after the test no one may have asked elsewhere or complained."""
    visitors = []

    def come(address, at="/", **options):
        visitors.append(Visitor(browser, address, at, **options))
        return visitors[-1]

    come.expect_complaints = False
    yield come
    for visitor in visitors:
        asked = [url for url in visitor.asked if not url.startswith((visitor.address + "/", "blob:", "data:"))]
        if visitor.slow:
            visitor.page.evaluate(STOP_ALL)
        visitor.context.close()
        assert visitor.asked and not asked, f"asked elsewhere: {asked}"
        assert come.expect_complaints or not visitor.complaints, visitor.complaints
