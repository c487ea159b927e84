"""The main job, end to end, on real input: sign-up, system, hub, camera, live; real H.264 and Opus through the relay to a viewer that decodes them."""
import json
import signal

import pytest
from lib.household import Household, Viewer, watch
from lib.wait import until

GCM, SHA1 = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"


@pytest.fixture
def home(porch, account):
    h = Household(porch, account)
    yield h
    h.close()


GOP = 50  # frames between two key frames of the test source


def sees_and_hears(seen, frames, suite, joined=False):
    """The picture and the tone are what was sent: the frame numbers of the strip run on, the tone is 440 Hz and not silence. Who comes after the first key frame,
    be it by half a second, sees the cached one at once and goes on from the fresh one (V-A4): one gap, shorter than a GOP; who joins a session that runs for
    long has less of the sound than of the picture."""
    told = json.dumps(seen)
    assert seen["suite"] == suite
    assert seen["frames"] >= frames and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, told
    assert seen["strip"]["missing"] < GOP and seen["video_lost"] == 0, told
    assert seen["strip"]["last"] - seen["strip"]["first"] + 1 >= frames and seen["strip"]["backwards"] == 0, told
    assert seen["audio_seconds"] > (0.2 if joined else 1) and seen["tone"]["ratio"] > 0.8 and seen["tone"]["level"] > 0.01, told


@pytest.mark.parametrize("hub_suite, viewer_suite", [("gcm", GCM), ("sha1_80", SHA1), ("gcm", SHA1), ("sha1_80", GCM)])
def test_picture_and_tone_arrive(porch, account, tmp_path, hub_suite, viewer_suite):
    home = Household(porch, account, suite=hub_suite)
    try:
        live = home.live(suites=[viewer_suite]).ok(201)
        sees_and_hears(watch(porch, live, tmp_path), 100, viewer_suite)
        stages = [s["name"] for s in home.api.get(f"/v1/live/{live['live_id']}").ok(200)["stages"]]
        for stage in ("requested", "relay_ready", "hub_asked", "hub_sending", "source_connected", "source_media", "source_keyframe", "viewer_connected", "viewer_media"):
            assert stage in stages, stages
    finally:
        home.close()


def test_a_second_viewer_joins_the_same_session(porch, home, tmp_path):
    first = home.live().ok(201)
    one = Viewer(porch, first["srtp"], tmp_path / "one", "--frames", 150)
    until(lambda: home.api.get(f"/v1/live/{first['live_id']}").ok(200)["state"] == "live", "the session is live")
    second = home.live(suites=[SHA1]).ok(201)
    assert second["live_id"] == first["live_id"] and second["viewer_id"] != first["viewer_id"]
    assert second["srtp"]["keys"] != first["srtp"]["keys"]
    sees_and_hears(watch(porch, second, tmp_path / "two", 80), 80, SHA1, joined=True)
    sees_and_hears(one.summary(), 150, GCM)


def test_a_user_ends_a_session(porch, home, tmp_path):
    live = home.live().ok(201)
    watch(porch, live, tmp_path, 10)
    assert home.api.delete(f"/v1/live/{live['live_id']}").status == 204
    home.ended(live["live_id"], "ended_by_user")
    home.api.patch(f"/v1/live/{live['live_id']}", {"extend": True}).refused("live_ended")
    again = home.live().ok(201)
    assert again["live_id"] != live["live_id"]
    sees_and_hears(watch(porch, again, tmp_path / "again", 60), 60, GCM)


def test_the_export_tells_of_past_and_running_sessions(porch, home, tmp_path):
    live = home.live().ok(201)
    watch(porch, live, tmp_path, 10)
    home.api.delete(f"/v1/live/{live['live_id']}").ok(204)
    home.ended(live["live_id"], "ended_by_user")
    again = home.live().ok(201)
    told = home.api.post("/v1/account/export", grant=porch.step_up(home.account, "export_account")).ok(200)["live"]["sessions"]
    assert [(s["live_id"], s["device_id"], s["end_code"], s["client_id"]) for s in told] == [
        (live["live_id"], home.cameras[0], "ended_by_user", home.api.tokens["client_id"]), (again["live_id"], home.cameras[0], None, home.api.tokens["client_id"])]
    assert told[0]["ended_at"] >= told[0]["created_at"] and told[1]["ended_at"] is None and told[0]["serial"] == told[1]["serial"]


def test_a_hub_that_is_away_is_said(porch, home):
    home.hub.stop()
    until(lambda: home.live().code == "hub_offline", "POST live says hub_offline")


def test_somebody_elses_live_is_not_found_S_S10(porch, home, other_account):
    live = home.live().ok(201)
    api = other_account.api
    assert api.post(f"/v1/devices/{home.cameras[0]}/live", {}).refused("not_found").status == 404
    for reply in (api.get(f"/v1/live/{live['live_id']}"), api.patch(f"/v1/live/{live['live_id']}", {"extend": True}), api.delete(f"/v1/live/{live['live_id']}")):
        assert reply.refused("not_found").status == 404


def test_an_unknown_cipher_is_refused_V_C7(home):
    home.live(suites=["AES_CM_128_HMAC_SHA1_32"]).refused("unsupported_media")


def test_a_freed_camera_is_cut_S_D7(porch, home, tmp_path):
    live = home.live().ok(201)
    watch(porch, live, tmp_path, 10)
    home.api.delete(f"/v1/devices/{home.cameras[0]}").ok(204)
    home.ended(live["live_id"], "device_freed")


def test_a_viewer_that_goes_away_is_forgotten_V_F4(porch, home, tmp_path):
    live = home.live().ok(201)
    viewer = Viewer(porch, live["srtp"], tmp_path, "--seconds", 60)
    until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["viewers"] == 1, "the viewer is counted")
    viewer.kill()
    until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["viewers"] == 0, "the viewer is gone")


def test_an_app_sees_each_state(porch, home, tmp_path):
    from lib.events import Events
    with Events(porch, home.api.token) as events:
        live = home.live().ok(201)
        watch(porch, live, tmp_path, 10)
        for state in ("waking_hub", "live"):
            events.wait("live.state", lambda d, s=state: d["live_id"] == live["live_id"] and d["state"] == s)
        home.api.delete(f"/v1/live/{live['live_id']}")
        events.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "ended" and d["end_code"] == "ended_by_user")


# --- When parts go away. Each of these has a system of its own.


@pytest.fixture
def own_home(own_porch):
    porch = own_porch()
    h = Household(porch, porch.sign_up())
    yield h
    h.close()


def test_a_running_view_survives_the_cloud_and_its_database_V_F6(own_home, tmp_path):
    porch = own_home.porch
    live = own_home.live().ok(201)
    viewer = Viewer(porch, live["srtp"], tmp_path, "--frames", 500)
    until(lambda: own_home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the session is live")
    porch.kill("porchlightd")
    porch.kill("postgres", signal.SIGQUIT)  # immediate shutdown: no goodbye to anybody
    porch.wait_ready()
    sees_and_hears(viewer.summary(), 500, GCM)
    assert own_home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live"
    joined = own_home.live().ok(201)  # the relay and the hub said what they run: further viewers join it
    assert joined["live_id"] == live["live_id"]
    sees_and_hears(watch(porch, joined, tmp_path / "after", 60), 60, GCM, joined=True)


def test_a_killed_relay_ends_in_its_code_V_F5(own_home, tmp_path):
    porch = own_home.porch
    live = own_home.live().ok(201)
    watch(porch, live, tmp_path / "before", 10)
    porch.kill("porchlight-relay")
    own_home.ended(live["live_id"], "relay_restarted")
    again = until(lambda: (r := own_home.live()).status == 201 and r, "the next live works")
    assert again["srtp"]["keys"] != live["srtp"]["keys"]
    sees_and_hears(watch(porch, again, tmp_path / "after", 60), 60, GCM)


def test_a_killed_hub_ends_in_its_code(own_home, tmp_path):
    porch = own_home.porch
    live = own_home.live().ok(201)
    watch(porch, live, tmp_path / "before", 10)
    own_home.hub.kill()
    own_home.ended(live["live_id"], "hub_lost")
    own_home.hub.start()
    again = until(lambda: (r := own_home.live()).status == 201 and r, "the next live works")
    sees_and_hears(watch(porch, again, tmp_path / "after", 60), 60, GCM)


def test_a_session_ends_at_its_time_and_can_be_extended(own_home, tmp_path):
    """Battery power: five minutes, thirty at most; the app is warned 30 s before."""
    from lib.events import Events
    porch = own_home.porch
    live = own_home.live().ok(201)
    watch(porch, live, tmp_path, 10)
    longer = own_home.api.patch(f"/v1/live/{live['live_id']}", {"extend": True}).ok(200)
    assert longer["expires_at"] > live["expires_at"]
    with Events(porch, own_home.api.token) as events:
        porch.clock.advance(275)
        events.wait("live.expiring", lambda d: d["live_id"] == live["live_id"])
    porch.clock.advance(60)
    own_home.ended(live["live_id"], "expired")


def test_any_file_becomes_a_camera(porch, account, tmp_path):
    """The reference hub turns a file into a Porchlight camera: what ffmpeg made is what the viewer decodes."""
    import subprocess
    clip = tmp_path / "clip.mp4"
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4", "-f", "lavfi", "-i",
                    "sine=frequency=440:duration=4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-y", str(clip)], check=True, timeout=60)
    home = Household(porch, account, source=str(clip))
    try:
        live = home.live().ok(201)
        seen = watch(porch, live, tmp_path / "out", 100)
        assert seen["frames"] >= 100 and seen["decode_errors"] == 0 and seen["tone"]["ratio"] > 0.8 and seen["tone"]["level"] > 0.01, seen
    finally:
        home.close()


def test_a_strangers_hub_is_refused_S_D4(home, other_account):
    system = other_account.api.post("/v1/systems", {"name": "Elsewhere"}).ok(201)["id"]
    other_account.api.post(f"/v1/systems/{system}/hub", {"serial": home.hub.serial}).refused("already_registered")
    home.hub.stop()
    home.hub.start("--reset")  # a factory reset never unbinds
    other_account.api.post(f"/v1/systems/{system}/hub", {"serial": home.hub.serial}).refused("already_registered")
    until(lambda: home.live().status == 201, "the owner's live works after the reset")
