"""Several porchlightd on one database, NATS between them: any node serves any request, and what is connected to one is reached from the other.

Node 0 is where the first relay is connected, and it is the first relay that an idle system chooses."""
import os
import signal

import pytest
from lib import rest
from lib.events import Events
from lib.household import Household, Viewer, watch
from lib.wait import until
from simhub import SimHub, add_camera, add_hub, make
from simrelay import SimRelay
from test_live import GCM, sees_and_hears


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    from lib.porch import Porch
    p = Porch(tmp_path_factory.mktemp("nodes") / "data", extra=["--nodes", "2"])
    try:
        yield p.start()
        assert p.stop() == 0
    finally:
        p.close()


def sign_up(node):
    return rest.sign_up(node)


def bus_is(node, up):
    until(lambda: node.metric("porchlight_bus_up") == up, f"the bus of {node.http} is {'there' if up else 'away'}")


def test_ready_line_lists_all_nodes(nodes):
    listed = nodes.ready["nodes"]
    assert len(listed) == 2 and (listed[0]["http"], listed[0]["ws"]) == (nodes.http, nodes.ws)
    assert len({n[k] for n in listed for k in ("http", "ws", "media", "admin")}) == 8
    assert sorted(os.path.basename(words[0]) for _, words in nodes.children()) == ["nats-server", "porchlight-relay", "porchlight-relay", "porchlightd", "porchlightd", "postgres"]
    assert [r["connected"] for r in nodes.ctl("relays")["relays"]] == [True, True]
    for i in range(2):
        bus_is(nodes.node(i), 1)


@pytest.mark.parametrize("hub_at, app_at", [(0, 1), (1, 0)])
def test_live_between_nodes(nodes, tmp_path, hub_at, app_at):
    """The relay is connected to node 0: once it is the hub that stands elsewhere, once the relay and the hub do."""
    account = sign_up(nodes.node(app_at))
    home = Household(nodes.node(hub_at), account)
    try:
        live = home.live().ok(201)
        sees_and_hears(watch(nodes, live, tmp_path, 100), 100, GCM)
        stages = [s["name"] for s in home.api.get(f"/v1/live/{live['live_id']}").ok(200)["stages"]]
        for stage in ("relay_ready", "hub_asked", "hub_sending", "source_keyframe", "viewer_media"):
            assert stage in stages, stages
        home.api.delete(f"/v1/live/{live['live_id']}").ok(204)
        home.ended(live["live_id"], "ended_by_user")
    finally:
        home.close()


@pytest.fixture
def home_on_two(nodes):
    """A simulated hub at node 0, its app at node 1: (hub, its device id, account, the made device, system)."""
    account = sign_up(nodes.node(1))
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    device, = make(nodes, "hub")
    hub, device_id = add_hub(nodes.node(0), account.api, system, device)
    yield hub, device_id, account, device, system
    hub.close()


def command(account, device_id, name="refresh"):
    made = account.api.post(f"/v1/devices/{device_id}/commands", {"name": name}).ok(202)["command"]
    return made["id"], f"/v1/devices/{device_id}/commands/{made['id']}"


def carry_out(hub, command_id):
    asked = hub.expect("command", command_id=command_id)
    hub.send("ack", re=asked["id"])
    hub.send("result", command_id=command_id, ok=True)



def test_commands_and_events_cross(nodes, home_on_two):
    hub, device_id, account, _, system = home_on_two
    with Events(nodes.node(1), account.api.token) as at_1, Events(nodes.node(0), account.api.token) as at_0:
        command_id, _ = command(account, device_id)
        carry_out(hub, command_id)
        for events in (at_0, at_1):  # the hub's words were written by node 0
            events.wait("command.stage", lambda d: d["command_id"] == command_id and d["stage"] == "done")
        account.api.patch(f"/v1/systems/{system}", {"name": "Holiday home"}).ok(200)  # written by node 1
        for events in (at_0, at_1):
            events.wait("system.renamed", lambda d: d["system_id"] == system)


def test_a_revoked_session_is_cut_on_every_node_S_S5(nodes):
    account = sign_up(nodes.node(1))
    with Events(nodes.node(0), account.api.token) as events:
        account.api.delete("/v1/sessions/current").ok(204)
        assert events.closed() == 4401


def test_waits_and_tries_are_one_on_all_nodes_S_P3_S_P4_S_P5_S_P6(nodes):
    account = sign_up(nodes.node(0))

    def log_in(code=None):
        reply = nodes.node(0).api().post("/v1/sessions", {"email": account.email, "password": account.password, "client": rest.CLIENT, "channel": "email"})
        return reply.refused(code) if code else reply.ok(202)["challenge"]

    def ask(node, challenge, what, body):
        return nodes.node(node).api().post(f"/v1/challenges/{challenge['id']}/{what}", body, key=challenge["key"])

    mails = nodes.mail.count(account.email)
    challenge = log_in()
    old = nodes.mail.pin(account.email, mails)
    wrong = f"{(int(old) + 1) % 1000000:06d}"
    assert int(ask(1, challenge, "resend", {}).refused("resend_too_soon").headers["Retry-After"]) <= 90
    nodes.clock.advance(90)
    ask(1, challenge, "resend", {}).ok(202)
    ask(0, challenge, "resend", {}).refused("resend_too_soon")
    new = nodes.mail.pin(account.email, mails + 1)
    assert ask(0, challenge, "verify", {"pin": old}).refused("pin_wrong")["attempts_left"] == 4
    assert [ask(n % 2, challenge, "verify", {"pin": wrong}).code for n in range(1, 6)] == ["pin_wrong"] * 4 + ["pin_exhausted"]
    for node in (0, 1):
        ask(node, challenge, "verify", {"pin": new}).refused("pin_exhausted")
    mails = nodes.mail.count(account.email)
    challenge = log_in()
    wrong = f"{(int(nodes.mail.pin(account.email, mails)) + 1) % 1000000:06d}"
    assert [ask(n % 2, challenge, "verify", {"pin": wrong}).code for n in range(5)] == ["pin_wrong"] * 5
    log_in("challenge_budget")


def test_the_newest_connection_fences_across_nodes_S_D11(nodes, home_on_two):
    older, device_id, account, device, _ = home_on_two
    with SimHub(nodes.node(1), device) as newer:
        newer.hello()
        assert older.closed() == "fenced"
        command_id, _ = command(account, device_id)
        carry_out(newer, command_id)
        with SimHub(nodes.node(0), device) as newest:
            newest.hello()
            assert newer.closed() == "fenced"
            command_id, path = command(account, device_id)
            carry_out(newest, command_id)
            until(lambda: account.api.get(path).ok(200)["stage"] == "done", "the command is done")


def test_a_killed_node_takes_nothing_with_it(own_porch, tmp_path):
    """Media goes on without the node that hub and relay are connected to; its hub comes to the other one and is reached there, by the relay of either."""
    porch = own_porch(extra=["--nodes", "2"])
    account = sign_up(porch.node(1))
    home = Household(porch.node(0), account)
    try:
        live = home.live().ok(201)
        viewer = Viewer(porch, live["srtp"], tmp_path / "one", "--frames", 250)
        until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
        killed = porch.node(0).pid()
        os.kill(killed, signal.SIGKILL)
        assert home.api.get("/v1/account").ok(200)["email"] == account.email  # any node serves any request
        sees_and_hears(viewer.summary(), 250, GCM)
        home.api.delete(f"/v1/live/{live['live_id']}").ok(204)
        home.hub.stop()
        home.hub.args[home.hub.args.index("--server") + 1] = f"ws://{porch.node(1).ws}/hub/v1"
        home.hub.start()
        again = until(lambda: (r := home.live()).status == 201 and r, "the next live works")
        sees_and_hears(watch(porch, again, tmp_path / "two", 60), 60, GCM)
        until(lambda: porch.node(0).pid() not in (None, killed), "node 0 was started again")
        for i in range(2):
            bus_is(porch.node(i), 1)
    finally:
        home.close()


def test_a_revoked_relay_is_cut_on_every_node_S_D12(own_porch):
    """Over the bus, and without it: the admin API that is called is that of node 0, the relays are connected to node 1."""
    porch = own_porch(extra=["--nodes", "2"])
    with SimRelay(porch.node(1), "first") as relay:
        porch.ctl("relay", "revoke", relay.id)
        assert relay.closed() == "unauthenticated"
    with SimRelay(porch.node(1), "second") as relay:
        os.kill(porch.pids()["nats-server"], signal.SIGSTOP)
        for i in range(2):
            bus_is(porch.node(i), 0)
        porch.ctl("relay", "revoke", relay.id)
        assert relay.closed() == "unauthenticated"


def test_nats_away_loses_nothing_that_was_acknowledged(own_porch, tmp_path):
    """First it hangs, as behind a cut cable; then it is killed, and comes back without memory."""
    porch = own_porch(extra=["--nodes", "2"])
    at_0, at_1 = porch.node(0), porch.node(1)
    account = sign_up(at_1)
    home = Household(at_0, account)
    other = sign_up(at_1)
    device, camera = make(porch, "hub", "wireless")
    system_id = other.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    hub, device_id = add_hub(at_0, other.api, system_id, device)
    try:
        live = home.live().ok(201)
        viewer = Viewer(porch, live["srtp"], tmp_path / "one", "--frames", 400)
        until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
        os.kill(porch.pids()["nats-server"], signal.SIGSTOP)
        for node in (at_0, at_1):
            bus_is(node, 0)
        waiting = [command(other, device_id) for _ in range(3)]
        near = add_hub(at_1, other.api, other.api.post("/v1/systems", {"name": "Cabin"}).ok(201)["id"], make(porch, "hub")[0])
        carry_out(near[0], command(other, near[1])[0])  # what is on one node goes on
        near[0].close()
        for command_id, _ in waiting:  # nobody could tell the hub's node: it has looked by itself
            carry_out(hub, command_id)
        add_camera(other.api, hub, system_id, camera)  # nor of a camera to pair with
        porch.kill("nats-server")
        waiting += [command(other, device_id)]  # told or not, as NATS comes back just now
        carry_out(hub, waiting[-1][0])
        for _, path in waiting:
            until(lambda p=path: other.api.get(p).ok(200)["stage"] == "done", "the command is done")
        for node in (at_0, at_1):
            bus_is(node, 1)
        assert not [m for m in hub.messages if m["type"] == "command"]  # and nothing came twice
        sees_and_hears(viewer.summary(), 400, GCM)
        joined = until(lambda: (r := home.live()).status == 201 and r, "a viewer joins")
        assert joined["live_id"] == live["live_id"]
        sees_and_hears(watch(porch, joined, tmp_path / "two", 60), 60, GCM, joined=True)
    finally:
        hub.close()
        home.close()
