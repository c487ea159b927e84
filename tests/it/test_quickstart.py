"""What a newcomer gets from `deploy/quickstart`, on machines of its own: `up --demo` with no other option, the page of docs/app-developers-live.md in a real browser, without any flag
that a person at home would not set."""
import contextlib
import json
import os
import signal
import subprocess
import threading

import pytest
import requests
from lib.browser import WEB, Chromium, chapter_page
from lib.machine import Machine
from lib.porch import program
from lib.wait import until


def a_machine(family=4):
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a network namespace")
    try:
        return Machine(family)
    except subprocess.CalledProcessError as e:
        pytest.skip(f"namespaces are not permitted here: {e.stderr.strip()}")


class Command:
    """A command of porchctl that runs until it is told to end: its ready line, and what it says."""

    def __init__(self, *args):
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.said = []
        threading.Thread(target=lambda: [self.said.append(t) for t in self.process.stderr], daemon=True).start()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(60)
            raise AssertionError("it did not become ready: " + "".join(self.said))
        self.ready = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(60) == 0, "".join(self.said)
        finally:
            self.process.kill()

    def says(self, what):
        return until(lambda: next((line for line in self.said if what in line), None), f"it says {what}")


@contextlib.contextmanager
def quickstart(machine, folder, *options):
    with Command(*machine.command(program("porchctl"), "--dir", str(folder), "up", *options)) as up:
        yield up


def watch(machine, folder, out):
    done = subprocess.run(machine.command(program("porchctl"), "--dir", str(folder), "demo", "watch", "--out", str(out), "--seconds", "2"), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sees_and_hears(browser):
    """The page as it stands has no eyes of ours: they are opened from outside."""
    with open(os.path.join(WEB, "measure.js"), encoding="utf-8") as f:
        browser.protocol("Runtime.evaluate", expression=f.read() + "\nvar seen = new Seen();")
    until(lambda: browser.run("document.getElementById('video').srcObject?.getVideoTracks().length ?? 0"), "the page has a picture: " + browser.run("document.body.innerText"))
    browser.run("void seen.pictures(document.getElementById('video').srcObject.getVideoTracks()[0])")
    browser.run("void seen.sound(document.getElementById('video').srcObject)")
    browser.run("seen.more(50)")
    seen = browser.run("seen.summary()")
    assert seen["frames"] >= 50 and seen["damaged"] == 0 and seen["backwards"] == 0, seen
    until(lambda: abs((heard := browser.run("seen.heard()"))["hz"] - 440) < 10 and heard["level"] > 0.01, "the 440 Hz of the test picture are heard")
    assert browser.run("document.getElementById('state').textContent") == "connected"


@pytest.mark.parametrize("family", [4, 6])
def test_the_quickstart_shows_picture_and_tone_in_a_browser(tmp_path, family):
    """The page is the one of the document, byte for byte; the media go by the machine's own address, REST stays on loopback."""
    with a_machine(family) as machine, quickstart(machine, tmp_path / "d", "--demo") as up:
        host = f"[{machine.address}]" if family == 6 else machine.address
        assert (up.ready["media"], up.ready["http"], up.ready["ws"]) == (f"{host}:50000", "127.0.0.1:8080", "127.0.0.1:8081")
        told = up.says("demo page").split("In a page")[1].strip()
        with Command(*machine.command("bash", "-c", f"exec {told} --json")) as page, Chromium(page.ready["page"], inside=machine.command()) as browser:
            assert page.ready["page"] == "http://localhost:8082/"
            assert (tmp_path / "d" / "page" / "index.html").read_text() == chapter_page()
            sees_and_hears(browser)
        assert not (tmp_path / "d" / "page" / "session.json").exists()
        assert watch(machine, tmp_path / "d", tmp_path / "out")["frames"] > 0


def test_without_a_default_route_the_demo_is_on_loopback_and_says_so(tmp_path):
    with a_machine(None) as machine, quickstart(machine, tmp_path / "d", "--demo") as up:
        assert up.ready["media"] == "127.0.0.1:50000"
        up.says("which browsers hardly use")
        assert watch(machine, tmp_path / "d", tmp_path / "out")["frames"] > 0
        with Command(*machine.command(program("porchctl"), "--dir", str(tmp_path / "d"), "--json", "demo", "page")) as page:
            page.says("which browsers hardly use")


def test_without_the_demo_media_stay_on_loopback(tmp_path):
    with a_machine() as machine, quickstart(machine, tmp_path / "d") as up:
        assert up.ready["media"] == "127.0.0.1:50000" and "demo" not in up.ready


def test_a_page_that_is_changed_stays_as_it_is(tmp_path):
    mine = tmp_path / "mine"
    with a_machine() as machine, quickstart(machine, tmp_path / "d", "--demo", "--page", "3000"):
        args = machine.command(program("porchctl"), "--dir", str(tmp_path / "d"), "--json", "demo", "page", str(mine))
        with Command(*args) as page:
            assert page.ready["page"] == "http://localhost:3000/"
            assert (mine / "index.html").read_text() == chapter_page()
            again = subprocess.run(args, capture_output=True, text=True, timeout=60)
            assert again.returncode == 1 and "in use" in again.stderr, again.stderr
            session = json.loads((mine / "session.json").read_text())  # the second one left it
            assert set(session) == {"api", "token", "camera"} and session["api"] == "http://127.0.0.1:8080"
        (mine / "index.html").write_text("mine")
        with Command(*args):
            assert (mine / "index.html").read_text() == "mine"


def may(porch, origin):
    return requests.get(f"http://{porch.http}/v1/status", headers={"Origin": origin}, timeout=30).headers.get("Access-Control-Allow-Origin") == origin


@pytest.mark.parametrize("where", ["set", "file"])
def test_the_demo_adds_its_page_to_the_origins_that_are_set(own_porch, tmp_path, where):
    name, config = "http.allowed_origins=https://app.example", tmp_path / "conf"
    config.write_text(name.replace("=", " = ") + "  # ours\n")
    porch = own_porch(demo=True, transports=False, extra=["--page", "3000"] + (["--set", name] if where == "set" else ["--config", str(config)]))
    assert may(porch, "https://app.example") and may(porch, "http://localhost:3000") and may(porch, "http://127.0.0.1:3000")
    assert not may(porch, "http://localhost:8082") and not may(porch, "null")


def test_demo_page_wants_a_demo(porch):
    done = subprocess.run([program("porchctl"), "--dir", porch.dir, "demo", "page"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "up --demo" in done.stderr, done.stderr
