"""A node that ends sends hubs, apps and relays to the others first: readiness goes, the door is shut, `reconnect` is said, and no home looks offline for it."""
import os
import signal
import socket
import subprocess

import pytest
from lib.events import Events
from lib.household import Household, Viewer
from lib.wait import until
from simhub import add_hub, make
from test_haproxy import HAPROXY, free_port
from test_live import GCM, sees_and_hears
from test_nodes import bus_is, carry_out, command, sign_up

BALANCER = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    option redispatch 1
    retries 3
listen websockets
    bind 127.0.0.1:{port}
    balance first
    server a {a}
    server b {b}
"""


class Balancer:
    """In front of the WebSockets of two nodes: the first, unless it takes no connection. Stands for a Node where only `ws` matters."""

    def __init__(self, porch, folder):
        self._porch, port = porch, free_port()
        self.ws = f"127.0.0.1:{port}"
        (folder / "balancer.cfg").write_text(BALANCER.format(port=port, a=porch.node(0).ws, b=porch.node(1).ws))
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(folder / "balancer.cfg")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.listens, "the balancer listens")

    def __getattr__(self, name):
        return getattr(self._porch, name)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", int(self.ws.rsplit(":", 1)[1]))) == 0

    def close(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def two(own_porch, tmp_path):
    porch = own_porch(extra=["--nodes", "2", "--set", "drain_clients=10m"])
    for i in range(2):
        bus_is(porch.node(i), 1)
    balancer = Balancer(porch, tmp_path)
    yield porch, balancer
    balancer.close()


def node_of(porch, serial):
    with porch.db() as db:
        return db.execute("SELECT node_id FROM device_link WHERE serial = %s", (serial,)).fetchone()[0]


def seen_by_operators(porch, node_id):
    """(state, hubs) of a node in `porchctl nodes`, and how many drain by `porchctl status`."""
    node = next(n for n in porch.ctl("nodes")["nodes"] if n["node_id"] == str(node_id))
    assert (node["draining_since"] is not None) == (node["state"] == "draining") or node["state"] == "ended", node
    return node["state"], node["hubs"], porch.ctl("status")["nodes_draining"]


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_hubs_go_to_another_node_without_an_alarm(two, tmp_path):
    porch, balancer = two
    account = sign_up(porch.node(1))
    home = Household(balancer, account)
    stays, stays_id = add_hub(porch.node(0), account.api, account.api.post("/v1/systems", {"name": "Stays"}).ok(201)["id"], make(porch, "hub")[0])
    try:
        with Events(porch.node(1), account.api.token) as events, Events(porch.node(0), account.api.token) as told:
            live = home.live().ok(201)
            viewer = Viewer(porch, live["srtp"], tmp_path / "view", "--frames", 250)
            until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
            before, ends = node_of(porch, home.hub.serial), porch.node(0).pid()
            assert seen_by_operators(porch, before) == ("up", 2, 0)
            os.kill(ends, signal.SIGTERM)
            # Everybody is told, with a window.
            for window in (stays.expect("reconnect"), until(lambda: next((m for m in told.events if m["type"] == "reconnect"), None), "the app is told")):
                assert 0 <= window["min_s"] <= window["max_s"] <= 60
            # While one stays, the node is no longer ready and lets nobody in, but answers who is still sent to it.
            assert porch.node(0).api().get("/readyz").refused("unavailable").status == 503
            assert porch.node(0).api().get("/healthz").status == 200
            with socket.socket() as s, pytest.raises(ConnectionRefusedError):
                host, port = porch.node(0).ws.rsplit(":", 1)
                s.connect((host, int(port)))
            # The reference hub has gone to the other node: its view goes on, it can be reached, and no app was alarmed.
            until(lambda: node_of(porch, home.hub.serial) != before, "the hub is at the other node")
            sees_and_hears(viewer.summary(), 250, GCM)
            done, path = command(account, home.hub_id)
            until(lambda: account.api.get(path).ok(200)["stage"] == "done", "a command reaches it")
            events.wait("command.stage", lambda d: d["command_id"] == done and d["stage"] == "done")
            came = [e for e in events.events if e.get("event") == "device.connectivity" and e["data"]["device_id"] == home.hub_id]
            assert "offline" not in [e["data"]["connectivity"] for e in came], came
            assert not is_gone(ends)
            until(lambda: seen_by_operators(porch, before) == ("draining", 1, 1), "operators see that it drains, and that one hub is left")
            # The one that stays is served to the last, until the time is over; what it looks like then is the cloud's fault.
            carry_out(stays, command(account, stays_id)[0])
            porch.clock.advance(600)
            assert stays.closed() == "cloud_restart"
            until(lambda: is_gone(ends), "the node ends")
            events.wait("device.connectivity", lambda d: d["device_id"] == stays_id and d["connectivity"] == "offline" and d["cause"] == "cloud_restart")
    finally:
        stays.close()
        home.close()


def test_a_second_signal_ends_it_at_once(two):
    porch, _ = two
    account = sign_up(porch.node(1))
    stays, _ = add_hub(porch.node(0), account.api, account.api.post("/v1/systems", {"name": "Stays"}).ok(201)["id"], make(porch, "hub")[0])
    ends = porch.node(0).pid()
    os.kill(ends, signal.SIGTERM)
    stays.expect("reconnect")
    assert not is_gone(ends)
    os.kill(ends, signal.SIGTERM)
    until(lambda: is_gone(ends), "the node ends")
    assert stays.closed() in ("cloud_restart", "")  # at once: the close frame goes out when it can
    stays.close()
