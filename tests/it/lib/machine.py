"""Another machine, as far as its network goes: a namespace whose one interface has an address and a default route, or none. Needs root and leave to make namespaces.

    with Machine() as machine:
        subprocess.run(machine.command("ip", "address"))"""
import contextlib
import itertools
import os
import subprocess

_NUMBERS = itertools.count()


class Machine:
    """`family` 4 or 6: of its one address; None: nothing but loopback."""

    def __init__(self, family=4):
        number = next(_NUMBERS)
        self.name = f"pm{os.getpid()}n{number}"
        net = {4: f"198.18.{os.getpid() % 250}.", 6: "2001:db8:18::"}.get(family)  # ranges for measurements and documents (RFC 2544, RFC 3849)
        self.address = net and net + "2"
        self.undo = contextlib.ExitStack()
        try:
            self._make(family, net, number)
        except BaseException:
            self.undo.close()
            raise

    def _ip(self, *args):
        subprocess.run(["ip", *args], check=True, capture_output=True, text=True)

    def _make(self, family, net, number):
        self._ip("netns", "add", self.name)
        self.undo.callback(self._ip, "netns", "del", self.name)
        self._ip("-n", self.name, "link", "set", "lo", "up")
        if not family:
            return
        outer, inner = f"v{os.getpid()}o{number}", f"v{os.getpid()}i{number}"
        self._ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        self.undo.callback(subprocess.run, ["ip", "link", "del", outer], capture_output=True)
        self._ip("link", "set", outer, "up")
        self._ip("-n", self.name, "link", "set", inner, "up")
        self._ip("-n", self.name, "address", "add", f"{net}2/{24 if family == 4 else 64}", "dev", inner, *(["nodad"] if family == 6 else []))
        self._ip("-n", self.name, "route", "add", "default", "via", f"{net}1")

    def command(self, *args):
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.name, *args]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.undo.close()
