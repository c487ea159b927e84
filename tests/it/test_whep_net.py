"""Real WebRTC clients behind a bad network (bench/netsim): pictures go on, what is lost is asked for and comes as RTX (V-E1), another address goes on with the same session (V-F3).
Outcomes alone: how long things take is measured by bench/net."""
import socket

import pytest
from lib.aiortc_viewer import AiortcViewer
from lib.browser import Chromium, Page
from lib.household import Household
from lib.netsim import Netsim
from lib.porch import Porch, own_address
from lib.wait import until
from lib.whep import GOP, PAGE, Watcher

GCM, SHA1 = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"


def free_port(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((host, 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A system whose API a page may call, and how its media port is reached."""
    host = own_address()
    media = f"{host}:{free_port(host)}"
    with Page(PAGE) as page:
        porch = Porch(tmp_path_factory.mktemp("whepnet") / "data", extra=["--set", f"http.allowed_origins={page.origin}", "--media", media])
        try:
            home = Household(porch.start(), porch.sign_up())
            home.page, home.media, home.host = page, media, host
            yield home
            home.close()
            porch.stop()
        finally:
            porch.close()


def figures(home, live_id):
    """The relay's of the one viewer; {} until they are there."""
    told = home.api.get(f"/v1/live/{live_id}").ok(200).body.get("statistics")
    return told["viewers"][0] if told and told["viewers"] else {}


def test_chromium_goes_on_over_loss_jitter_and_another_address(field):
    """V-E1, V-F3: one session through N50, M80 and 5 % loss at 100 ms, then from another address; at the end the picture is whole again."""
    with Netsim("none", to=field.media, host=field.host) as net, Chromium(field.page.url) as browser:
        browser.run(f"through('{net.host}', {net.port})")
        watcher = Watcher(browser, field.porch, field.api.token, field.cameras[0])
        watcher.more(25)
        ufrag = watcher.ufrag()
        for which in ("N50", "M80", "L100"):
            net.change(which)
            watcher.more(50)
        until(lambda: (got := watcher.negotiated()["video"])["nacks"] > 0 and got["rtx"] > 0, "what was lost was asked for, and came as RTX")
        assert net.stats()["down"]["lost"] > 0
        until(lambda: figures(field, watcher.live_id).get("resent", 0) > 0, "the relay counts what it sent again")
        net.move()
        watcher.more(50)
        net.change("none")
        watcher.more(GOP + 10)
        browser.run("seen.again()")
        seen, got = watcher.more(50), watcher.negotiated()
        assert seen["damaged"] == 0 and seen["backwards"] == 0, seen
        assert got["cipher"] == GCM and got["dtls"] == "connected" and watcher.ufrag() == ufrag, got
        assert field.api.get(f"/v1/live/{watcher.live_id}").ok(200)["viewers"] == 1
    field.api.delete(f"/v1/live/{watcher.live_id}").ok(204)


def test_aiortc_asks_for_what_is_lost(field):
    """V-E1. It checks without nominating once it is connected, so its path moves by a restart alone: another address is no case for it."""
    live = field.live(transport="webrtc").ok(201)
    with Netsim("L100", to=field.media, host=field.host, seed=3) as net, AiortcViewer(field.api, live["whep_url"], net) as viewer:
        seen = viewer.watch(100)
        until(lambda: figures(field, live["live_id"]).get("resent", 0) > 0, "it asks, and the relay sends again")
        assert net.stats()["down"]["lost"] > 0
        viewer.watch(viewer.frames + 25)
    assert seen["cipher"] == SHA1 and seen["level"] > 0.01, seen
    field.api.delete(f"/v1/live/{live['live_id']}").ok(204)
