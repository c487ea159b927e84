"""A simulated relay on the real control socket: it answers what a test lets it answer, when the test says so.

    with SimRelay(porch) as relay:          enrolled, let in, and the only one that new sessions may go to
        relay.answers("session.open", "viewer.add")
        live = home.live().ok(201)"""
import json
import uuid
from datetime import datetime, timezone

import nacl.signing
from lib.porch import ws_url
from simhub import SimHub, b64


class SimRelay(SimHub):
    fingerprint = None  # of its certificate: 32 bytes; None: no WebRTC
    port = 9            # where it says that its media are taken
    max_sessions = 20000

    def __init__(self, porch, name="sim", copy_of=None, beside=()):
        """`beside`: other simulated relays that new sessions may go to, too."""
        self.name, self.key = name, copy_of.key if copy_of else nacl.signing.SigningKey.generate()
        self.name = name
        self.id = copy_of.id if copy_of else porch.ctl("relay", "enroll", name, bytes(self.key.verify_key).hex())["id"]
        stay = {self.id, *(other.id for other in beside)}
        for other in porch.ctl("relays")["relays"]:
            if other["id"] not in stay and not other["revoked_at"]:
                porch.ctl("relay", "revoke", other["id"])
        self.automatic, self.refused, self.removes = set(), {}, False
        super().__init__(porch, None, "relay")
        self.url, self.protocol = ws_url(porch, "/relay/v1"), "porchlight.relay.v1"

    def dial(self):
        """Connected, without a hello."""
        return super().open()

    def open(self, running=()):
        self.dial()
        self.hello(running=running)
        return self

    def say_hello(self, running=(), **changes):
        text = "\n".join(["porchlight-hello-v1", "relay", self.id, self.challenge["nonce"], self.challenge["server_name"]])
        media = {"host": "127.0.0.1", "port": self.port, **({"fingerprint": b64(self.fingerprint)} if self.fingerprint else {})}
        self.send("hello", **{"relay_id": self.id, "boot_id": str(uuid.uuid4()), "media": media, "max_sessions": self.max_sessions,
                              "running": [{"live_id": i, "generation": 1} for i in running], "signature": b64(self.key.sign(text.encode()).signature), **changes})

    def answers(self, *kinds):
        """From now on `ok` is said to these at once."""
        self.automatic = set(kinds)

    def lets_go(self, removes):
        """Whether from now on a viewer that it is to remove is reported as gone, at once and by the socket's own thread: the cloud waits 1.2 s for that."""
        self.removes = removes

    def refuses(self, **codes):
        """From now on session_open=CODE and the like is said at once."""
        self.refused = {kind.replace("_", "."): code for kind, code in codes.items()}

    def came(self, message):
        answer = {"type": "error", "code": self.refused[message["type"]]} if message["type"] in self.refused else {"type": "ok"} if message["type"] in self.automatic else None
        if answer:
            self._say(**answer, re=message["id"])
        if message["type"] == "viewer.remove" and self.removes:
            self._say(type="ok", re=message["id"])
            self._say(**self._event(message["live_id"], "viewer_gone", viewer_id=message["viewer_id"], code="removed"))

    def _say(self, **message):
        """On the socket's thread."""
        self._loop.create_task(self._ws.send(json.dumps({**message, "id": str(uuid.uuid4())})))

    def ok(self, message):
        self.send("ok", re=message["id"])

    def event(self, live_id, event, **more):
        message = self._event(live_id, event, **more)
        self.send(message.pop("type"), **message)

    def _event(self, live_id, event, **more):
        return {"type": "session.event", "live_id": live_id, "generation": 1, "event": event, "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **more}
