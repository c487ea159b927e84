"""A live view behind a bad network (bench/netsim): what is lost is asked for and comes (V-E1), another address goes on with the same session (V-F3). How long things take is
measured by bench/net, not here."""
import socket

import pytest
from lib.household import Household, Viewer
from lib.netsim import Netsim, through
from lib.porch import Porch
from lib.wait import until


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A system whose hubs reach the relay through a network that a test makes bad, and viewers through one of their own."""
    media = f"127.0.0.1:{free_port()}"
    with Netsim("none", to=media) as hub_net:
        porch = Porch(tmp_path_factory.mktemp("net"), extra=["--media", media, "--advertise", f"127.0.0.1:{hub_net.port}"])
        try:
            home = Household(porch.start(), porch.sign_up())
            home.media, home.hub_net = media, hub_net
            yield home
            home.close()
        finally:
            porch.close()


@pytest.mark.parametrize("side", ["hub", "viewer"])
def test_what_the_network_loses_comes_all_the_same(field, tmp_path, side):
    """V-E1: 5 % lost at 100 ms, between hub and relay or between relay and viewer; what is lost is asked for and comes."""
    hub_side, viewer_side = ("L100", "none") if side == "hub" else ("none", "L100")
    field.hub_net.change(hub_side)
    try:
        with Netsim(viewer_side, to=field.media, seed=5) as net:
            live = field.live().ok(201)
            seen = Viewer(field.porch, through(net, live["srtp"]), tmp_path, "--frames", 200).summary()
            lost = field.hub_net.stats()["up"]["lost"] if side == "hub" else net.stats()["down"]["lost"]
    finally:
        field.hub_net.change("none")
        field.api.delete(f"/v1/live/{live['live_id']}").ok(204)
    assert lost > 5, "the network lost nothing"
    assert seen["video_lost"] + seen["audio_lost"] <= 0.001 * seen["packets"] + 1, seen
    assert seen["decode_errors"] == 0 and seen["tone"]["ratio"] > 0.8, seen


def test_a_viewer_goes_on_at_another_address(field, tmp_path):
    """V-F3: the same session, keys and numbers; nothing is negotiated again."""
    with Netsim("none", to=field.media) as net:
        live = field.live().ok(201)
        viewer = Viewer(field.porch, through(net, live["srtp"]), tmp_path, "--seconds", 12)
        until(lambda: field.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
        for _ in range(2):
            before = net.stats()["down"]["passed"]
            net.move()
            until(lambda before=before: net.stats()["down"]["passed"] > before + 50, "packets come to the new address")
        assert field.api.get(f"/v1/live/{live['live_id']}").ok(200)["viewers"] == 1
        seen = viewer.summary()
    assert seen["end"] == "seconds" and seen["decode_errors"] == 0 and seen["packets_refused"] == 0, seen
    field.api.delete(f"/v1/live/{live['live_id']}").ok(204)
