"""Real WebRTC clients watch the reference hub: Chromium and Firefox, aiortc; each names the cipher that it must have, and reads frame numbers off what it decoded."""
import json

import pytest
from lib.aiortc_viewer import AiortcViewer
from lib.browser import Chromium, Firefox, Page
from lib.household import Household, Viewer
from lib.porch import Porch, own_address
from lib.wait import until
from lib.whep import GOP, PAGE, SOUND, Watcher
from test_live import SHA1, sees_and_hears
from test_whep_control import OFFER, SDP

GCM = "AEAD_AES_128_GCM"


@pytest.fixture(scope="module")
def page():
    with Page(PAGE) as p:
        yield p


@pytest.fixture(scope="module")
def porch(page, tmp_path_factory):
    """A system whose API the page's origin may call."""
    p = Porch(tmp_path_factory.mktemp("whep") / "data", extra=["--set", f"http.allowed_origins={page.origin}", "--media", f"{own_address()}:0"])
    try:
        yield p.start()
        p.stop()
    finally:
        p.close()


@pytest.fixture
def home(porch):
    h = Household(porch, porch.sign_up())
    yield h
    h.close()


@pytest.fixture
def chromium(page):
    with Chromium(page.url) as browser:
        yield browser


def whole(seen, frames):
    """Every picture from the first to the last, in order, each with its number."""
    assert seen["frames"] >= frames and seen["damaged"] == 0 and seen["missing"] == 0 and seen["backwards"] == 0, seen


def hears_the_tone(watcher):
    until(lambda: abs((heard := watcher.heard())["hz"] - 440) < 10 and heard["level"] > 0.01, "the 440 Hz of the test picture are heard")


def test_chromium_sees_and_hears_by_gcm(porch, home, chromium):
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    watcher.joined()
    whole(watcher.more(100), 100)
    hears_the_tone(watcher)
    got = watcher.negotiated()
    assert got["cipher"] == GCM and got["dtls"] == "connected", got
    assert got["video"]["codec"] == "video/H264" and got["audio"]["codec"] == "audio/opus" and got["video"]["lost"] == 0, got
    def counted():
        told = home.api.get(f"/v1/live/{watcher.live_id}").ok(200).body.get("statistics")
        return told and told["viewers"] and told["viewers"][0]["packets"] > 100 and told["source"]["packets"] > 100 and told["viewers"][0]["bitrate"] > 0 and \
            told["viewers"][0]["arrived_bitrate"] > 0 and 0 < told["source"]["rtt_ms"] < 5000 and all(x["freezes"] >= 0 and x["frozen_ms"] >= 0 for x in (told["source"], told["viewers"][0]))
    until(counted, "the relay's figures stand in the live resource")
    stages = [s["name"] for s in home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["stages"]]
    for stage in ("source_connected", "viewer_connected", "viewer_media", "viewer_keyframe"):
        assert stage in stages, stages


def test_chromium_joins_a_session_that_runs_V_A4(porch, home, chromium, tmp_path):
    """Another viewer's picture is not touched by it."""
    live = home.live().ok(201)
    native = Viewer(porch, live["srtp"], tmp_path, "--frames", 250)
    until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    assert watcher.live_id == live["live_id"]
    watcher.joined()
    whole(watcher.more(50), 50)
    sees_and_hears(native.summary(), 250, GCM)


def test_an_ice_restart_keeps_the_picture(porch, home, chromium):
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    watcher.joined()
    before = watcher.ufrag()
    chromium.run("shown.restart()")
    assert watcher.ufrag() != before
    until(lambda: chromium.run("shown.peer.iceConnectionState") in ("connected", "completed"), "ICE is connected again")
    whole(watcher.more(100), 100)
    assert watcher.negotiated()["dtls"] == "connected"


def test_the_page_extends_its_view_and_says_why_it_ended(porch, home, chromium):
    chromium.run("(() => { const wait = window.setTimeout; window.setTimeout = (f, ms) => (ms < 10000 ? wait(f, ms) : ((window.later = f), (window.after = ms), 0)); })()")
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    watcher.more(25)
    before = home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["expires_at"]
    assert 200_000 < chromium.run("after") <= 270_000  # a camera on battery: 300 s, and 30 s before that
    chromium.run("later()")
    assert home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["expires_at"] > before
    home.api.delete(f"/v1/live/{watcher.live_id}").ok(204)
    until(lambda: chromium.run("said") == "ended_by_user", "the page says why nothing comes any more", 90)


def test_who_leaves_is_sent_nothing_more(porch, home, chromium):
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    watcher.more(50)
    assert home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["viewers"] == 1
    assert home.api.delete(chromium.run("shown.viewer")).status == 200
    chromium.run("seen.silence(1000)")
    until(lambda: home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["viewers"] == 0, "the viewer is gone")
    home.api.delete(chromium.run("shown.viewer")).refused("not_found")


def test_a_revoked_client_sees_nothing_more_S_S5_S_M3(porch, home, chromium):
    phone = porch.log_in(home.account)
    watcher = Watcher(chromium, porch, phone.token, home.cameras[0])
    watcher.more(50)
    phone.delete("/v1/sessions/current").ok(204)
    chromium.run("seen.silence(1000)")
    home.ended(watcher.live_id, "revoked")


def test_the_picture_goes_on_over_a_kill_of_the_cloud_V_F6(porch, home, chromium):
    watcher = Watcher(chromium, porch, home.api.token, home.cameras[0])
    watcher.joined()
    porch.kill("porchlightd")
    whole(watcher.more(100), 100)
    porch.wait_ready()
    assert home.api.get(f"/v1/live/{watcher.live_id}").ok(200)["state"] == "live"
    assert home.api.delete(chromium.run("shown.viewer")).status == 200  # its address is good at a node that never saw it


def test_aiortc_sees_and_hears_by_sha1(home):
    live = home.live(transport="webrtc").ok(201)
    with AiortcViewer(home.api, live["whep_url"]) as viewer:
        seen = viewer.watch(75)
    assert seen["cipher"] == SHA1, seen
    assert seen["frames"] >= 75 and seen["damaged"] == 0 and seen["missing"] < GOP and seen["backwards"] == 0, seen  # V-A4: it may join a stream that runs
    assert abs(seen["hz"] - 440) < 10 and seen["level"] > 0.01, seen


def test_firefox_hears(porch, home):
    """Firefox ESR has no H.264 without a download: sound alone. Its statistics do not tell the cipher."""
    with Page(SOUND) as page, Firefox(page.url) as firefox:
        offer = firefox.run("offer()")
        live = home.live(transport="webrtc").ok(201)
        answer = home.api.call("POST", live["whep_url"], offer, headers=SDP).ok(201).body
        firefox.run(f"take({json.dumps(answer)})")
        until(lambda: abs((heard := firefox.run("seen.heard()"))["hz"] - 440) < 10 and heard["level"] > 0.01, "Firefox hears the 440 Hz")


def test_the_eleventh_viewer_is_refused_viewers_full(home):
    live = home.live(transport="webrtc").ok(201)

    def watch():
        return home.api.call("POST", live["whep_url"], OFFER, headers=SDP)
    for _ in range(10):
        watch().ok(201)
    assert watch().refused("viewers_full").status == 409
