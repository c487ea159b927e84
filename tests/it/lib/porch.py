"""The system under test: `porchctl up` with the real daemons, a real PostgreSQL, real sinks and a clock that the test moves."""
import collections
import hashlib
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import threading

import psycopg

from . import openapi, rest, sinks
from .clock import Clock
from .wait import until

ROOT = openapi.ROOT
BUILD = os.environ.get("PORCH_BUILD", os.path.join(ROOT, "build-test"))
START = 120.0
SEND_LIMITS = ("number_day", "account_day", "email_day", "address_hour", "block_hour", "country_hour", "money_day", "new_money_day",
               "invites_account_day", "invites_address_day", "wrong_of_pair", "wrong_of_prefix")
RATE_CLASSES = ("read", "write", "live", "auth", "send", "claim")
STOP = 60.0

Exchange = collections.namedtuple("Exchange", "method path request status reply")


def program(name):
    """Path of a program of the build under test."""
    for folder in ("server", "hub", "viewer"):
        path = os.path.join(BUILD, folder, name)
        if os.path.exists(path):
            return path
    raise AssertionError(f"{name} is not built in {BUILD}")


def ca_of(porch):
    """Path of the authority that vouches for it; None: it speaks no TLS."""
    return (porch.ready.get("tls") or {}).get("ca")


def ws_url(porch, path):
    return f"{'wss' if ca_of(porch) else 'ws'}://{porch.ws}{path}"


def trust(porch):
    """For websockets.connect(ssl=)."""
    return ssl.create_default_context(cafile=ca_of(porch)) if ca_of(porch) else None


def own_address():
    """Of this machine, as its network sees it: Firefox and GStreamer send nothing to a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("198.51.100.1", 9))  # sends nothing; which address would it go from?
        return s.getsockname()[0]


class Node:
    """One porchlightd of several as tests address it: stands for the Porch wherever only `http` and `ws` matter."""

    def __init__(self, porch, number):
        self._porch = porch
        me = porch.ready["nodes"][number]
        self.http, self.ws, self.admin = me["http"], me["ws"], me["admin"]

    def __getattr__(self, name):
        return getattr(self._porch, name)

    def pid(self):
        """Of its porchlightd now; None while it is not running."""
        return next((pid for pid, words in self._porch.children() if os.path.basename(words[0]) == "porchlightd" and self.admin in words), None)

    def metric(self, name):
        text = rest.Api(self).call("GET", "/metrics", check=False).body
        return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " "))))

    def api(self):
        return rest.Api(self)


class Porch:
    """clock: test builds only. transports: messages go to the sinks; without, they stay in the outbox."""

    contract = None

    def __init__(self, folder, *, demo=False, transports=True, clock=True, extra=()):
        if Porch.contract is None:
            Porch.contract = openapi.Contract()
        self.dir = str(folder)
        self.exchanges = collections.deque(maxlen=5000)
        self.mail, self.sms = sinks.MailSink(), sinks.SmsSink()
        os.makedirs(self.dir, exist_ok=True)
        self.clock = Clock(os.path.join(os.path.dirname(self.dir.rstrip("/")), os.path.basename(self.dir) + ".clock")) if clock else None
        self.args = [program("porchctl"), "--dir", self.dir, "up", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--media", "127.0.0.1:0"]
        self.args += ["--demo"] if demo else []
        self.args += ["--smtp", self.mail.url, "--sms-webhook", self.sms.url] if transports else []
        self.args += ["--test-clock", self.clock.path] if clock else []
        # All tests come from one address, and look again and again for what they wait for. A test about rates says its own in `extra`: the last one counts.
        self.args += [a for c in RATE_CLASSES for who in ("account", "address") for a in ("--set", f"http.rate.{c}.{who}=10000000")]
        self.args += [a for name in SEND_LIMITS for a in ("--set", f"limit.{name}=100000")]
        self.args += list(extra)
        self.process = None
        self.ready = None

    # --- life

    def start(self):
        """Starts it; returns when it is ready."""
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.console, lines = [], queue.Queue()
        threading.Thread(target=lambda: [self.console.append(t) for t in self.process.stderr], daemon=True).start()
        threading.Thread(target=lambda: [lines.put(t) for t in self.process.stdout] + [lines.put("")], daemon=True).start()
        try:
            line = lines.get(timeout=START)
        except queue.Empty:
            line = ""
        if not line:
            self.stop(check=False)
            raise AssertionError("porchctl up did not become ready: " + "".join(self.console) + self.logs())
        self.ready = json.loads(line)
        assert self.ready["ready"] is True
        self.http, self.ws, self.media = self.ready["http"], self.ready["ws"], self.ready["media"]
        return self

    def stop(self, check=True):
        """Ctrl-C; returns the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("porchctl up did not end within a minute of Ctrl-C: " + "".join(self.console))
        self.process = None
        assert not check or code == 0, f"porchctl up ended with {code}: {''.join(self.console)}"
        return code

    def close(self):
        try:
            self.stop(check=False)
        finally:
            self.mail.close()
            self.sms.close()

    def logs(self, most=3000):
        """The ends of all log files."""
        text, folder = [], os.path.join(self.dir, "log")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                text.append(f"--- {name}\n" + f.read()[-most:])
        return "\n".join(text)

    # --- its processes

    def node(self, number):
        """With --nodes N: the one with this number, from 0."""
        return Node(self, number)

    def children(self):
        """(pid, command line) of what porchctl runs now."""
        found = []
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            for pid in map(int, f.read().split()):
                try:
                    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as cmd:
                        found.append((pid, cmd.read().split("\0")))
                except OSError:
                    pass  # it ended meanwhile
        return found

    def pids(self):
        """Name to pid: postgres, porchlightd, porchlight-relay, porchlight-hub, nats-server."""
        return {os.path.basename(words[0]): pid for pid, words in self.children()}

    def kill(self, name, how=signal.SIGKILL, wait=True):
        """Ends a process; returns when porchctl has started it again (not: when that is ready)."""
        old = self.pids()[name]
        os.kill(old, how)
        return until(lambda: self.pids().get(name) not in (None, old) and self.pids()[name], f"{name} was not started again") if wait else old

    def restart_server(self, how=signal.SIGTERM):
        """Restarts porchlightd; returns when it answers readiness."""
        self.kill("porchlightd", how)
        self.wait_ready()

    def wait_ready(self):
        def asks():
            try:
                return rest.Api(self).call("GET", "/readyz", check=False).status == 200
            except OSError:
                return False
        return until(asks, "GET /readyz answers 200")

    # --- ways in

    def webhook_key(self):
        """What the webhook and its callbacks are signed with, as bytes: derived from the master key."""
        with open(os.path.join(self.dir, "master.key"), encoding="ascii") as f:
            master = bytes.fromhex(f.read().strip())
        return hashlib.blake2b(b"porchlight webhook signature v1", key=master, digest_size=32).digest()

    def ctl(self, *args, code=0):
        """porchctl --json ARGS; its stdout, parsed when it is JSON."""
        done = subprocess.run([program("porchctl"), "--dir", self.dir, "--json", *args], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"porchctl {' '.join(args)}: {done.returncode} {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip().startswith("{") else done.stdout

    def db(self):
        """A connection as the daemons' role: for what no API shows."""
        return psycopg.connect(self.ready["db"], autocommit=True)

    def api(self):
        return rest.Api(self)

    def sign_up(self, **how):
        return rest.sign_up(self, **how)

    def log_in(self, account, **how):
        return rest.log_in(self, account, **how)

    def step_up(self, account, purpose, **how):
        return rest.step_up(self, account, purpose, **how)

    def log(self, method, path, request, status, reply):
        self.exchanges.append(Exchange(method, path, request, status, reply))
