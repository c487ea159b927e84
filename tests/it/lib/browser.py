"""Real browsers on a page of the test's own: Debian's Chromium, driven by playwright-core (tests/web), and Firefox ESR, driven by WebDriver BiDi.

    with Page(html) as page, Chromium(page.url) as browser:
        browser.run("1 + 1")            a JavaScript expression; a promise is waited for"""
import asyncio
import functools
import http.server
import itertools
import json
import os
import queue
import re
import subprocess
import tempfile
import threading

import websockets

from .openapi import ROOT

WEB = os.path.join(ROOT, "tests", "web")
DEADLINE = 60.0


def chapter_page():
    """The page that docs/app-developers-live.md shows: what app developers copy is what the tests run."""
    with open(os.path.join(ROOT, "docs", "app-developers-live.md"), encoding="utf-8") as f:
        return re.search(r"^```html\n(.*?)^```$", f.read(), re.M | re.S)[1]


class Page:
    """Serves one page, with tests/web/measure.js beside it. It is told its port before, because the API lets only named origins read its answers."""

    def __init__(self, html):
        handler = type("Handler", (self._Handler,), {"html": html.encode()})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = self.origin + "/"

    class _Handler(http.server.BaseHTTPRequestHandler):
        html = b""

        def do_GET(self):
            found = {"/": ("text/html; charset=utf-8", lambda: self.html), "/measure.js": ("text/javascript", self.measure)}.get(self.path)
            kind, body = (found[0], found[1]()) if found else ("text/plain", b"")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @staticmethod
        def measure():
            with open(os.path.join(WEB, "measure.js"), "rb") as f:
                return f.read()

        def log_message(self, *_):
            pass

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@functools.lru_cache(maxsize=1)
def driver():
    """The locked version of playwright-core; brought by npm once."""
    if any(not os.path.exists(os.path.join(WEB, "node_modules", p, "package.json")) for p in ("playwright-core", "openid-client", "oidc-provider")):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=WEB, check=True, capture_output=True, timeout=300)
    return os.path.join(WEB, "browser.mjs")


class Chromium:
    """`inside`: what a command line begins with that runs in another network namespace (machine.py). `loopback`: WebRTC may use 127.0.0.1, which no browser does at home."""

    def __init__(self, url, executable="/usr/bin/chromium", inside=(), loopback=False):
        command = [*inside, "node", driver(), executable, url] + (["--allow-loopback-in-peer-connection"] if loopback else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.console, self._ids = queue.Queue(), [], itertools.count(1)
        threading.Thread(target=lambda: [self.lines.put(t) for t in self.process.stdout] + [self.lines.put("")], daemon=True).start()
        threading.Thread(target=lambda: self.console.extend(self.process.stderr), daemon=True).start()

    def __enter__(self):
        self.version = self._answer(0)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self, number):
        line = self.lines.get(timeout=DEADLINE)
        assert line, "the browser ended: " + "".join(self.console)
        answer = json.loads(line)
        assert answer["id"] == number and "error" not in answer, (answer, "".join(self.console)[-2000:])
        return answer["value"]

    def _ask(self, **what):
        number = next(self._ids)
        self.process.stdin.write(json.dumps({"id": number, **what}) + "\n")
        self.process.stdin.flush()
        return self._answer(number)

    def run(self, js):
        return self._ask(js=js)

    def go(self, url):
        """Opens it anew, and waits for it."""
        self._ask(url=url)

    def protocol(self, method, **params):
        """A command of Chromium's own protocol (CDP)."""
        return self._ask(method=method, params=params)


class Firefox:
    # The last one: sound goes to a device that is none, which a machine without a sound card needs, or nothing pulls it.
    PREFS = {"media.peerconnection.ice.obfuscate_host_addresses": False, "media.autoplay.default": 0, "media.autoplay.block-webaudio": False, "media.gmp-manager.updateEnabled": False,
             "app.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False, "media.cubeb.force_mock_context": True}

    def __init__(self, url, executable="/usr/bin/firefox-esr"):
        self.url, self._ids = url, itertools.count(1)
        self.profile = tempfile.TemporaryDirectory(prefix="firefox-")
        with open(os.path.join(self.profile.name, "user.js"), "w", encoding="utf-8") as f:
            f.writelines(f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in self.PREFS.items())
        self.process = subprocess.Popen([executable, "--headless", "--no-remote", "--profile", self.profile.name, "--remote-debugging-port", "0"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ, HOME=self.profile.name))
        self.console, address = [], queue.Queue()

        def read():
            for line in self.process.stderr:
                self.console.append(line)
                if m := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                    address.put(m[1])
        threading.Thread(target=read, daemon=True).start()
        self.address = address

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        address = self.address.get(timeout=DEADLINE) + "/session"

        async def dial():
            return await websockets.connect(address, max_size=None, ping_interval=None)
        self.socket = self._wait(dial())
        self.version = self._ask("session.new", capabilities={})["capabilities"]["browserVersion"]
        self.tab = self._ask("browsingContext.getTree")["contexts"][0]["context"]
        self._ask("browsingContext.navigate", context=self.tab, url=self.url, wait="complete")
        return self

    def __exit__(self, *_):
        self._wait(self.socket.close())
        self.loop.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    def _wait(self, what):
        async def with_deadline():
            return await asyncio.wait_for(what, DEADLINE)
        return self.loop.run_until_complete(with_deadline())

    def _ask(self, method, **params):
        number = next(self._ids)
        self._wait(self.socket.send(json.dumps({"id": number, "method": method, "params": params})))
        while (answer := json.loads(self._wait(self.socket.recv()))).get("id") != number:
            pass
        assert answer["type"] == "success", answer
        return answer["result"]

    def run(self, js):
        wrapped = f"(async () => JSON.stringify((await ({js})) ?? null))()"
        got = self._ask("script.evaluate", expression=wrapped, target={"context": self.tab}, awaitPromise=True)
        assert got["type"] == "success", got
        return json.loads(got["result"]["value"])
