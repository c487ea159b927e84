"""The system under faults: `porchctl up` with the real daemons, providers that misbehave by the seed, one real household, simulated hubs that come back."""
import asyncio
import collections
import email
import email.policy
import http.server
import json
import os
import random
import re
import threading
import time
import uuid
import warnings

import psycopg
from aiosmtpd.controller import Controller

from cable import Cable
from lib import rest, sinks
from lib.household import Household
from lib.porch import Porch
from lib.wait import until
from simhub import SimHub

warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # what a simulated hub wanted to say when its socket died
BACK = 60.0  # seconds in which everything must have come back by itself
MOST = 3     # how often a provider fails with one message: the fourth try comes 5 + 10 + 20 s after the first


class Mail(sinks.Sink):
    """SMTP that by the seed refuses for now, answers too late, or takes a message and drops the connection before it says so. Keeps each message by its id."""

    def __init__(self):
        super().__init__()
        self.rand, self.by_id, self.times, self.faults = random.Random(0), {}, {}, 0
        self.failed = collections.Counter()
        self.calm = True
        self.port = sinks.free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        self.url = f"smtp://127.0.0.1:{self.port}"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        id_ = str(mail["Message-ID"]).strip("<>").split("@")[0]
        body = mail.get_body(preferencelist=("plain",)).get_content()
        pin = re.search(r"(?<!\d)\d{6}(?!\d)", body)
        draw = 1.0 if self.calm or self.failed[id_] >= MOST else self.rand.random()
        self.failed[id_] += draw < 0.18
        if draw < 0.08:
            self.faults += 1
            return "451 later, please"
        self.times[id_] = self.times.get(id_, 0) + 1
        self.by_id[id_] = pin and pin.group()
        for to in envelope.rcpt_tos:
            self.put({"to": to, "pin": pin and pin.group(), "subject": str(mail["subject"])})
        if draw < 0.14:
            self.faults += 1
            server.transport.abort()
        elif draw < 0.18:
            self.faults += 1
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 1.5)  # later than notify.timeout
            except asyncio.TimeoutError:
                pass
        return "250 taken"

    def close(self):
        self._controller.stop()


class Sms(sinks.Sink):
    """A webhook that by the seed refuses for now, drops the connection after it took the message, or answers twice."""

    def __init__(self):
        super().__init__()
        self.rand, self.by_id, self.times, self.faults = random.Random(0), {}, {}, 0
        self.failed = collections.Counter()
        self.calm = True
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self):
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                draw = 1.0 if sink.calm or sink.failed[message["id"]] >= MOST else sink.rand.random()
                sink.failed[message["id"]] += draw < 0.14
                sink.faults += draw < 0.24
                if draw < 0.08:
                    return self.reply(503)
                sink.times[message["id"]] = sink.times.get(message["id"], 0) + 1
                sink.by_id[message["id"]] = message["pin"]
                sink.put(message)
                if draw < 0.14:
                    self.close_connection = True
                    return self.connection.close()
                self.reply(200)
                if draw < 0.24:
                    self.reply(200)

            def log_message(self, *unused):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *unused: None  # a sender that was killed
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/sms"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class World(Porch):
    """With several nodes each request and each dial goes to one of them, as behind a balancer that knows nothing."""

    def __init__(self, folder, nodes=1):
        self.nodes, self._order, self.cable = nodes, random.Random(0), None
        super().__init__(folder, transports=False)
        self.mail.close()
        self.sms.close()
        self.mail, self.sms = Mail(), Sms()
        self.args += ["--smtp", self.mail.url, "--sms-webhook", self.sms.url, "--set", "notify.timeout=1s"]
        if nodes > 1:
            self.cable = Cable(self.nats_port)
            self.args += ["--nodes", str(nodes), "--set", f"bus.nats_url=nats://127.0.0.1:{self.cable.port}"]
        self._rows = threading.local()

    def nats_port(self):
        with open(os.path.join(self.dir, "keys", "nats.conf"), encoding="ascii") as f:
            return int(re.search(r"listen: 127\.0\.0\.1:(\d+)", f.read())[1])

    def close(self):
        super().close()
        if self.cable:
            self.cable.close()

    def _one(self, name):
        return self._order.choice(self.ready["nodes"])[name] if self.nodes > 1 else self.ready[name]

    http = property(lambda self: self._one("http"), lambda self, _: None)
    ws = property(lambda self: self._one("ws"), lambda self, _: None)

    def calm(self, calm, seed=0):
        for i, sink in enumerate((self.mail, self.sms)):
            sink.calm = calm
            sink.rand = random.Random(f"{seed}/{i}")

    def query(self, sql, *values):
        """Rows, or None while the database is away: for what no API shows."""
        try:
            if getattr(self._rows, "db", None) is None:
                self._rows.db = psycopg.connect(self.ready["db"], autocommit=True, connect_timeout=5)
            return self._rows.db.execute(sql, values).fetchall()
        except psycopg.OperationalError:
            self._rows.db = None
            return None

    def asked(self, sql, *values):
        """Rows; waits until the database is back."""
        got = []
        until(lambda: got.append(self.query(sql, *values)) or got[-1] is not None, "the database answers", BACK)
        return got[-1]

    def is_ready(self):
        """Somebody answers."""
        try:
            return rest.Api(self).call("GET", "/readyz", check=False, timeout=5).status == 200
        except OSError:
            return False

    def all_ready(self):
        try:
            return all(rest.Api(self, n["http"]).call("GET", "/readyz", check=False, timeout=5).status == 200 for n in self.ready["nodes"])
        except OSError:
            return False

    def all_on_the_bus(self):
        """What the nodes say of their NATS."""
        try:
            texts = [rest.Api(self, n["http"]).call("GET", "/metrics", check=False, timeout=5).body for n in self.ready["nodes"]]
        except OSError:
            return False
        return all("porchlight_bus_up 1" in text for text in texts)

    def all_back(self, agents):
        """Everything is back by itself: API, relay, hubs."""
        until(self.all_ready, "GET /readyz answers 200 on each node", BACK)
        if self.nodes > 1:
            until(self.all_on_the_bus, "each node is on the bus", BACK)

        def relays():
            try:
                return [r["connected"] for r in self.ctl("relays")["relays"]] == [True] * self.nodes
            except AssertionError:
                return False
        until(relays, "the relays are connected", BACK)
        until(lambda: all(a.connected for a in agents), "the hubs are connected", BACK)


class Agent(threading.Thread):
    """A simulated hub that comes back after every loss, remembers what it did, and says it again: carries out commands, pairs cameras, proves claims."""

    def __init__(self, world, device, seed):
        super().__init__(daemon=True)
        self.world, self.device, self.rand = world, device, random.Random(seed)
        self.done = {}          # command id -> how often it came
        self.results = {}
        self.claims = []        # claims of the hub itself, as the app brought them
        self.refusals = []      # what the server answered with an error, and why a connection ended: for who reads a finding
        self.connected, self.ending, self.wild = False, False, True
        self.hub = None
        self.start()

    def run(self):
        pause = threading.Event()
        while not self.ending:
            self.hub = SimHub(self.world, self.device)
            try:
                self.hub.open()
                self.hub.hello()
                for id_ in self.results:
                    self.hub.send("result", command_id=id_, ok=True)
                sent = set()
                self.connected = True
                while self.hub.close_code is None and not self.ending:
                    for claim in [c for c in self.claims if c["id"] not in sent]:
                        sent.add(claim["id"])
                        self.hub.claim(claim)
                    self.step()
            except Exception as e:  # any loss, at any point: it comes again
                self.refusals.append(f"{type(e).__name__}: {e}"[:200])
            self.connected = False
            try:
                self.hub.close()
            except Exception:
                pass
            pause.wait(0.1)

    def step(self):
        hub = self.hub
        with hub._came:
            hub._came.wait_for(lambda: hub.messages or hub.close_code is not None or self.ending, 0.2)
            messages, hub.messages = hub.messages, []
        for m in messages:
            if m["type"] == "command":
                self.command(m)
            elif m["type"] == "error":
                self.refusals.append(m)
            elif m["type"] == "pair":
                hub.send("ack", re=m["id"])
                hub.paired(m)

    def command(self, m):
        id_ = m["command_id"]
        self.done[id_] = self.done.get(id_, 0) + 1
        draw = self.rand.random() if self.wild else 1.0
        if draw < 0.05:
            return self.hub.drop()  # it dies with the command in hand
        self.hub.send("ack", re=id_)
        self.results[id_] = True    # it is remembered before it is said
        if draw < 0.10:
            return self.hub.drop()
        self.hub.send("result", command_id=id_, ok=True)

    def stop(self):
        self.ending = True
        self.join(30)


class Home(Household):
    """The real household: the reference hub as a process, which its household's power brings back."""

    def lose_power(self):
        self.hub.kill()
        self.hub.start()

    def shows(self):
        """A new live view can begin."""
        live = self.live()
        self.said = live.status, live.code
        if live.status not in (200, 201):
            return False
        now = self.api.get(f"/v1/live/{live['live_id']}")
        end = time.monotonic() + 10
        while now["state"] not in ("live", "ended") and time.monotonic() < end:
            threading.Event().wait(0.1)
            now = self.api.get(f"/v1/live/{live['live_id']}")
        self.said = now.status, now.body.get("state"), now.body.get("end_code")
        return now["state"] == "live" and live["live_id"]


def new_key():
    return str(uuid.uuid4())
