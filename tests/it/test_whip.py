"""A hub that publishes by WebRTC: GStreamer's webrtcbin, by WHIP, watched by the native viewer."""
import itertools

import pytest
from lib.household import Viewer
from lib.porch import Porch, own_address
from lib.wait import until
from lib.whip_publisher import WhipPublisher
from simhub import add_camera, add_hub, make

GCM = "AEAD_AES_128_GCM"
_n = itertools.count(1)


@pytest.fixture(scope="module")
def porch(tmp_path_factory):
    p = Porch(tmp_path_factory.mktemp("whip") / "data", extra=["--media", f"{own_address()}:0"])
    try:
        yield p.start()
        p.stop()
    finally:
        p.close()


@pytest.fixture
def whip_home(porch):
    """A household whose hub says DTLS-SRTP: api, hub, camera."""
    class Home:
        api = porch.sign_up().api
    home, (device, camera) = Home(), make(porch, "hub", "wireless")
    system_id = home.api.post("/v1/systems", {"name": f"Whip {next(_n)}"}).ok(201)["id"]
    home.hub, _ = add_hub(porch, home.api, system_id, device, suites=["DTLS-SRTP"])
    home.camera = add_camera(home.api, home.hub, system_id, camera)
    yield home
    home.hub.close()


def test_webrtcbin_publishes(porch, whip_home, tmp_path):
    live = whip_home.api.post(f"/v1/devices/{whip_home.camera}/live", {}).ok(201)
    viewer = Viewer(porch, live["srtp"], tmp_path, "--frames", 100)
    told = whip_home.hub.expect("live.start", live_id=live["live_id"])
    whip_home.hub.send("ack", re=told["id"])
    assert told["whip"]["url"] == f"http://{porch.http}/v1/live/{live['live_id']}/whip"  # whole: WebSockets are on another port
    with WhipPublisher(told["whip"]["url"], told["whip"]["token"]) as publisher:
        seen = viewer.summary()
        assert seen["frames"] >= 100 and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, seen
        assert seen["tone"]["ratio"] > 0.8 and seen["tone"]["level"] > 0.01 and seen["suite"] == GCM, seen
        assert publisher.cipher() == ["aes-128-icm/hmac-sha1-80"]  # all that GStreamer 1.22 knows for DTLS
        until(lambda: whip_home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
        assert whip_home.api.delete(publisher.location, token=told["whip"]["token"]).status == 200
    until(lambda: whip_home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "ended", "the session has ended")


def test_a_hub_that_never_makes_its_offer_keeps_no_camera_V_C7(porch, whip_home):
    """The relay's own clock ends what waits for it; the next POST begins anew."""
    waits = whip_home.api.post(f"/v1/devices/{whip_home.camera}/live", {}).ok(201)["live_id"]
    whip_home.hub.expect("live.start", live_id=waits)
    porch.clock.advance(30)
    assert whip_home.api.post(f"/v1/devices/{whip_home.camera}/live", {}).ok(201)["live_id"] == waits
    porch.clock.advance(10)
    until(lambda: whip_home.api.get(f"/v1/live/{waits}").ok(200).body.get("end_code") == "start_timeout", "it ends with a verdict")
    whip_home.hub.expect("live.stop", live_id=waits)
    again = whip_home.api.post(f"/v1/devices/{whip_home.camera}/live", {}).ok(201)["live_id"]
    assert again != waits
    whip_home.hub.expect("live.start", live_id=again)
