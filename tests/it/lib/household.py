"""A household with real parts: the reference hub with cameras, and the native viewer. Media in these tests is real H.264 and Opus."""
import json
import os
import queue
import random
import socket
import subprocess
import threading

from nacl.signing import SigningKey

from .porch import program
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


class Hub:
    """The reference hub as a process."""

    def __init__(self, porch, serial, seed, cameras, source="test", suite=None):
        self.porch, self.serial = porch, serial
        base = os.path.join(porch.dir, serial)
        self.socket = base + ".sock"
        with open(base + ".key", "w", encoding="ascii") as f:
            f.write(seed)
        self.args = [program("porchlight-hub"), "--server", f"ws://{porch.ws}/hub/v1", "--serial", serial, "--key", base + ".key", "--local", self.socket, "--state", base + ".state"]
        for camera in cameras:
            self.args += ["--camera", f"{camera}={source}"]
        self.args += ["--suite", suite] if suite else []
        self.log = base + ".log"
        self.process = None

    def start(self, *extra):
        lines = queue.Queue()
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.args + list(extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        threading.Thread(target=lambda out=self.process.stdout: [lines.put(t) for t in out] + [lines.put("")], daemon=True).start()
        while '"connected"' not in (line := lines.get(timeout=30)):
            assert line, "the hub ended: " + open(self.log, encoding="utf-8").read()[-2000:]
        return self

    def bring(self, claim):
        """What the app does in the home: hands the claim's challenge to the device."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.socket)
            s.sendall(json.dumps({"claim_id": claim["id"], "challenge": claim["challenge"]}).encode() + b"\n")
            assert json.loads(s.makefile().readline())["ok"] is True

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

    def __init__(self, porch, account, cameras=1, source="test", suite=None):
        self.porch, self.account, self.api = porch, account, account.api
        (hub_serial, seed), *made = make_devices(porch, "hub", *["wireless"] * cameras)
        self.hub = Hub(porch, hub_serial, seed, [serial for serial, _ in made], source, suite).start()
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

    def live(self, camera=0, **body):
        return self.api.post(f"/v1/devices/{self.cameras[camera]}/live", body)

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
    """The native viewer, as a process, on what POST live answered."""

    def __init__(self, porch, srtp, folder, *bounds):
        os.makedirs(folder, exist_ok=True)
        session = os.path.join(folder, "session.json")
        with open(session, "w", encoding="utf-8") as f:
            json.dump(srtp, f)
        self.folder = str(folder)
        self.process = subprocess.Popen([program("porchlight-watch"), "--session", session, "--out", self.folder, *map(str, bounds)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

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
