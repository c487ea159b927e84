"""A household with real parts: the reference hub with cameras, the app in the home, and the native viewer. Media in these tests is real H.264 and Opus."""
import base64
import json
import os
import queue
import random
import subprocess
import threading
import types

from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey, VerifyKey

from .openapi import ROOT, Contract
from .porch import ca_of, program, ws_url
from .rest import Api
from .wait import until

_rand = random.SystemRandom()


def new_serial(prefix):
    return prefix + "".join(_rand.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(10))


def make_devices(porch, *kinds):
    """Devices as a maker makes them: keys, and their rows in the inventory. Returns [(serial, seed in hex)]."""
    made, lines = [], []
    for kind in kinds:
        key, serial = SigningKey.generate(), new_serial({"hub": "PLH", "wireless": "PLW", "mini": "PLM", "doorbell": "PLD"}[kind])
        lines.append({"serial": serial, "kind": kind, "model": f"test-{kind}", "public_key": bytes(key.verify_key).hex()})
        made.append((serial, bytes(key).hex()))
    path = os.path.join(porch.dir, f"inventory-{made[0][0]}.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in lines)
    porch.ctl("inventory", "import", path)
    return made


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


ONBOARDING = Contract(os.path.join(ROOT, "proto", "onboarding.yaml"))


class AtHome(Api):
    """The app beside a device that is being added: every exchange is held against proto/onboarding.yaml."""

    def __init__(self, address):
        super().__init__(types.SimpleNamespace(clock=None, contract=ONBOARDING, log=lambda *unused: None), address)
        self.key, self.device_key = PrivateKey.generate(), None

    def open(self, claim, **changes):
        return self.post("/onboarding/v1/session", {"serial": claim["serial"], "claim_id": claim["id"], "challenge": claim["challenge"], "app_key": b64(bytes(self.key.public_key)), **changes})

    def bring(self, claim):
        """Challenge in, signature out: with the claim's public key the app knows that this is the device."""
        session = self.open(claim).ok(201)
        lines = ["porchlight-onboarding-v1", claim["serial"], claim["id"], claim["challenge"], b64(bytes(self.key.public_key)), session["device_key"]]
        VerifyKey(unb64(claim["public_key"])).verify("\n".join(lines).encode(), unb64(session["signature"]))
        self.token, self.device_key = session["token"], PublicKey(unb64(session["device_key"]))
        return session

    def box(self, text):
        return b64(bytes(Box(self.key, self.device_key).encrypt(text.encode())))

    def join(self, ssid, password=None):
        return self.post("/onboarding/v1/join", {"box": self.box(json.dumps({"ssid": ssid, **({"password": password} if password else {})}))})

    def progress(self):
        return self.get("/onboarding/v1/session").ok(200).body

    def reaches(self, *states):
        """Waits for one of these states; the progress then."""
        return until(lambda: (p := self.progress())["state"] in states and p, f"the device is {' or '.join(states)}", every=0.15)

    def leave(self):
        self.delete("/onboarding/v1/session").ok(204)


class Hub:
    """The reference hub as a process. `within`: what runs it (a lab's namespace)."""

    def __init__(self, porch, serial, seed, cameras, source="test", suite=None, more=(), within=()):
        self.porch, self.serial = porch, serial
        base = os.path.join(porch.dir, serial)
        self.onboarding = None  # where it listens in the home, while it does
        with open(base + ".key", "w", encoding="ascii") as f:
            f.write(seed)
        self.args = [*within, program("porchlight-hub"), "--server", ws_url(porch, "/hub/v1"), "--serial", serial, "--key", base + ".key", "--onboarding", "127.0.0.1:0",
                     "--state", base + ".state", *more]
        for camera in cameras:
            self.args += ["--camera", f"{camera}={source}"]
        self.args += ["--suite", suite] if suite else []
        self.args += ["--ca", ca_of(porch)] if ca_of(porch) else []
        self.log = base + ".log"
        self.process = None

    def start(self, *extra, until="connected"):
        lines = queue.Queue()
        self.onboarding = None
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.args + list(extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        threading.Thread(target=lambda out=self.process.stdout: [lines.put(t) for t in out] + [lines.put("")], daemon=True).start()
        while True:
            line = lines.get(timeout=30)
            assert line, "the hub ended: " + open(self.log, encoding="utf-8").read()[-2000:]
            said = json.loads(line)
            self.onboarding = said.get("onboarding", self.onboarding)
            if until in said:
                return self

    def bring(self, claim):
        """What the app does in the home: hands the claim's challenge to the device, and leaves."""
        app = AtHome(self.onboarding)
        app.bring(claim)
        app.reaches("bound")
        app.leave()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class Household:
    """An account with one system, one hub and `cameras` cameras, all bound by the real way."""

    def __init__(self, porch, account, cameras=1, source="test", suite=None, more=(), within=()):
        self.porch, self.account, self.api = porch, account, account.api
        (hub_serial, seed), *made = make_devices(porch, "hub", *["wireless"] * cameras)
        self.hub = Hub(porch, hub_serial, seed, [serial for serial, _ in made], source, suite, more, within).start()
        self.system_id = self.api.post("/v1/systems", {"name": "Home " + hub_serial}).ok(201)["id"]
        claim = self.api.post(f"/v1/systems/{self.system_id}/hub", {"serial": hub_serial}).ok(202)["claim"]
        self.hub.bring(claim)
        self.hub_id = self.bound(claim)["device_id"]
        self.cameras = []
        for i, (serial, _) in enumerate(made):
            claim = self.api.post(f"/v1/systems/{self.system_id}/cameras", {"serial": serial, "name": f"Camera {i + 1}"}).ok(202)["claim"]
            self.cameras.append(self.bound(claim)["device_id"])

    def bound(self, claim):
        def look():
            now = self.api.get(f"/v1/claims/{claim['id']}").ok(200).body
            assert now["state"] not in ("refused", "expired"), now
            return now["state"] == "bound" and now
        return until(look, f"claim of {claim['serial']} is bound")

    def live(self, camera=0, api=None, **body):
        return (api or self.api).post(f"/v1/devices/{self.cameras[camera]}/live", body)

    def ended(self, live_id, code, deadline=30):
        """Waits until the session has ended, and that it ended with this code."""
        def look():
            now = self.api.get(f"/v1/live/{live_id}").ok(200).body
            return now["state"] == "ended" and now
        now = until(look, f"live session {live_id} ends", deadline)
        assert now["end_code"] == code, now
        return now

    def close(self):
        self.hub.stop()


class Viewer:
    """The native viewer, as a process, on what POST live answered. Without that it waits, ready, for begin()."""

    def __init__(self, porch, srtp, folder, *bounds, within=()):
        os.makedirs(folder, exist_ok=True)
        self.folder = str(folder)
        self.process = subprocess.Popen([*within, program("porchlight-watch"), "--out", self.folder, *map(str, bounds)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if srtp:
            self.begin(srtp)

    def begin(self, srtp):
        with self.process.stdin as stdin:
            json.dump(srtp, stdin)
        self.process.stdin = None

    def summary(self, timeout=90):
        """Waits for its bound; what it saw and heard."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"the viewer did not reach its bound: {out[-500:]} {err[-2000:]}")
        assert self.process.returncode == 0, (out[-500:], err[-2000:])
        return json.loads(out.strip().splitlines()[-1])

    def kill(self):
        self.process.kill()
        self.process.communicate()


def watch(porch, live, folder, frames=100):
    return Viewer(porch, live["srtp"], folder, "--frames", frames).summary()
