"""A bad network between two ends (bench/netsim), as a process that a test or a measurement commands; and a lab: a network namespace behind it."""
import contextlib
import json
import os
import subprocess

from . import openapi
from .porch import BUILD

PROFILES = os.path.join(openapi.ROOT, "bench", "netsim")


def profile(name):
    """A file of bench/netsim, or any path."""
    return name if os.path.sep in name else os.path.join(PROFILES, name)


class Netsim:
    """Between UDP ports: what is sent to `port` goes to `to` (HOST:PORT), each sender from a port of its own. With `bridge`: between two interfaces."""

    def __init__(self, which, to=None, bridge=None, seed=1, host="127.0.0.1"):
        args = [os.path.join(BUILD, "bench", "bench-netsim"), "--profile", profile(which), "--seed", str(seed)]
        args += ["--bridge", *bridge] if bridge else ["--listen", f"{host}:0", "--to", to]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        assert words and words[0] == ("ready" if bridge else "port"), "bench-netsim did not start"
        self.host, self.port = host, None if bridge else int(words[1])

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer.startswith(("ok", "{")), f"{command}: {answer}"
        return answer

    def stats(self):
        return json.loads(self.say("stats"))

    def cut(self, way="both"):
        self.say(f"cut {way}")

    def heal(self):
        self.say("heal")

    def move(self):
        """All senders come from new addresses from now on, as a phone does that leaves its Wi-Fi."""
        self.say("move")

    def change(self, which):
        self.say(f"profile {profile(which)}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def through(netsim, srtp):
    """The `srtp` object of a live answer, for a viewer behind this network."""
    return {**srtp, "host": netsim.host, "port": netsim.port}


class Lab:
    """A namespace `inside` whose only way out is the bad network: `outer` is this side's address on it, `address` the other's. Needs root and leave to make namespaces."""

    def __init__(self, which, seed=1):
        self.name = f"pl{os.getpid()}"
        self.net = f"198.18.{os.getpid() % 250}"  # a range that is kept for measurements (RFC 2544)
        self.outer, self.address = self.net + ".1", self.net + ".2"
        self.undo = contextlib.ExitStack()
        try:
            self._make(which, seed)
        except BaseException:
            self.undo.close()
            raise

    def _ip(self, *args):
        subprocess.run(["ip", *args], check=True, capture_output=True, text=True)

    def _make(self, which, seed):
        n = self.name
        self._ip("netns", "add", n)
        self.undo.callback(self._ip, "netns", "del", n)
        outer, outer_peer, inner, inner_peer = (n + suffix for suffix in ("a", "b", "c", "d"))
        for one, other in ((outer, outer_peer), (inner, inner_peer)):
            self._ip("link", "add", one, "type", "veth", "peer", "name", other)
            self.undo.callback(subprocess.run, ["ip", "link", "del", one if one == outer else other], capture_output=True)
            for device in (one, other):
                self._ip("link", "set", device, "gso_max_segs", "1")  # a link loses packets, not bundles of segments
        self._ip("addr", "add", f"{self.outer}/24", "dev", outer)
        self._ip("link", "set", inner, "netns", n)
        for device in (outer, outer_peer, inner_peer):
            self._ip("link", "set", device, "up")
        self._ip("-n", n, "addr", "add", f"{self.address}/24", "dev", inner)
        self._ip("-n", n, "link", "set", inner, "up")
        self._ip("-n", n, "link", "set", "lo", "up")
        self._ip("-n", n, "route", "add", "default", "via", self.outer)
        self.inner = inner
        self.netsim = Netsim(which, bridge=(inner_peer, outer_peer), seed=seed)
        self.undo.callback(self.netsim.close)

    def command(self, *args):
        """A command line that runs in the namespace."""
        return ["ip", "netns", "exec", self.name, *args]

    def readdress(self):
        """The namespace has another address from now on."""
        self.address = f"{self.net}.{int(self.address.rsplit('.', 1)[1]) + 1}"
        self._ip("-n", self.name, "addr", "flush", "dev", self.inner)
        self._ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", self.inner)
        self._ip("-n", self.name, "route", "replace", "default", "via", self.outer)

    def close(self):
        self.undo.close()
