"""A simulated hub (or hubless camera) on the real gateway: speaks porchlight.hub.v1 with a factory key, step by step as a test wants it.

    with SimHub(porch, device) as hub:
        hub.hello()                       proves itself; the answer is the welcome
        hub.claim(claim)                  signs the claim's challenge
        hub.expect("bound")["device_id"]

It answers nothing by itself but the WebSocket's pings: what a test does not write does not happen."""
import asyncio
import base64
import json
import threading
import uuid

import nacl.signing
import websockets

from lib import codes
from lib.household import make_devices
from lib.porch import trust, ws_url

DEADLINE = 20.0
SUITES = ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"]


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Device:
    """A made device: serial and factory key."""

    def __init__(self, serial, seed):
        self.serial, self.key = serial, nacl.signing.SigningKey(bytes.fromhex(seed))

    def sign(self, *lines):
        return b64(self.key.sign("\n".join(lines).encode()).signature)


def make(porch, *kinds):
    """Devices that their maker has handed in."""
    return [Device(*made) for made in make_devices(porch, *kinds)]


class SimHub:
    def __init__(self, porch, device, role="hub"):
        self.url, self.trust, self.device, self.role = ws_url(porch, "/hub/v1"), trust(porch), device, role
        self.protocol = "porchlight.hub.v1"
        self.messages = []
        self.close_code, self.close_reason = None, None
        self._came = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._ws = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def open(self):
        self._thread.start()
        self.challenge = self.expect("challenge")
        return self

    def __enter__(self):
        return self if self._ws else self.open()

    def __exit__(self, *unused):
        self.close()

    def close(self):
        if self._ws and self.close_code is None:
            asyncio.run_coroutine_threadsafe(self._ws.close(), self._loop)
        self._thread.join(DEADLINE)

    def drop(self):
        """The cable is pulled: no close frame."""
        self._loop.call_soon_threadsafe(self._ws.transport.abort)
        self._thread.join(DEADLINE)

    def _run(self):
        try:
            self._loop.run_until_complete(self._talk())
        finally:
            self._loop.close()

    async def _talk(self):
        try:
            async with websockets.connect(self.url, subprotocols=[self.protocol], open_timeout=DEADLINE, ping_interval=None, max_size=None, ssl=self.trust) as ws:
                self._ws = ws
                async for text in ws:
                    message = json.loads(text)
                    codes.in_message(self.protocol, message)
                    self.came(message)
                    with self._came:
                        self.messages.append(message)
                        self._came.notify_all()
        except (OSError, asyncio.TimeoutError, websockets.exceptions.WebSocketException):
            pass
        with self._came:
            self.close_code = self._ws.close_code if self._ws else 0
            self.close_reason = self._ws.close_reason if self._ws else ""
            codes.in_close(self.protocol, self.close_code, self.close_reason)
            self._came.notify_all()

    def came(self, message):
        """On the socket's thread, before a test can expect it."""

    def send(self, kind, **members):
        message = {"type": kind, "id": str(uuid.uuid4()), **members}
        asyncio.run_coroutine_threadsafe(self._ws.send(json.dumps(message)), self._loop).result(DEADLINE)
        return message["id"]

    def expect(self, kind, **want):
        """The next message of this kind with these members; it is taken out of the list."""
        def find():
            return next((m for m in self.messages if m["type"] == kind and all(m.get(k) == v for k, v in want.items())), None)
        with self._came:
            if not self._came.wait_for(lambda: find() or self.close_code is not None, DEADLINE) or not find():
                raise AssertionError(f"no {kind} {want} (closed: {self.close_code} {self.close_reason}); came: {self.messages}")
            found = find()
            self.messages.remove(found)
            return found

    def closed(self):
        """Waits for the server's close; its reason."""
        with self._came:
            assert self._came.wait_for(lambda: self.close_code is not None, DEADLINE), "it was not closed"
            return self.close_reason

    def say_hello(self, signer=None, resets=0, reason="power", cameras=(), video="H264", can=("keyframe", "bitrate"), **changes):
        d = self.device
        signature = (signer or d).sign("porchlight-hello-v1", self.role, d.serial, self.challenge["nonce"], self.challenge["server_name"])
        named = [{"serial": c.serial, "model": "sim", "firmware": "1.0", "video": video, "audio": "opus", "talk": "opus", "can": list(can)} for c in cameras]
        self.send("hello", **{"role": self.role, "serial": d.serial, "key_id": "0" * 16, "firmware": "1.0", "model": "sim", "suites": SUITES, "cameras": named,
                              "boot": {"id": str(uuid.uuid4()), "reason": reason, "reset_count": resets}, "running_sessions": [], "signature": signature, **changes})

    def hello(self, **how):
        self.say_hello(**how)
        self.welcome = self.expect("welcome")
        return self.welcome

    def claim(self, claim, signer=None, challenge=None):
        """Proves the claim of this device itself. `challenge`: as it came by the leg in the home."""
        text = challenge or claim["challenge"]
        return self.send("claim", claim_id=claim["id"], challenge=text, signature=(signer or self.device).sign("porchlight-claim-v1", self.device.serial, text))

    def paired(self, pair, signer=None):
        """Vouches for the camera of a `pair`."""
        signature = (signer or self.device).sign("porchlight-claim-v1", pair["serial"], pair["challenge"])
        return self.send("paired", claim_id=pair["claim_id"], camera=pair["serial"], signature=signature)

    def pair(self, camera):
        """Waits for `pair`, acknowledges and proves it; the answer is `bound`."""
        pair = self.expect("pair", serial=camera.serial)
        self.send("ack", re=pair["id"])
        self.paired(pair)
        return self.expect("bound", claim_id=pair["claim_id"])


def add_hub(porch, api, system_id, device, **hello):
    """A bound hub that is connected: (SimHub, device id). The caller closes it."""
    hub = SimHub(porch, device).open()
    hub.hello(**hello)
    hub.claim(api.post(f"/v1/systems/{system_id}/hub", {"serial": device.serial}).ok(202)["claim"])
    return hub, hub.expect("bound")["device_id"]


def add_camera(api, hub, system_id, device, **more):
    api.post(f"/v1/systems/{system_id}/cameras", {"serial": device.serial, **more}).ok(202)
    return hub.pair(device)["device_id"]
