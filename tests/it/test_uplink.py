"""The uplink test (product.md: two megabits a second of hub uplink is the product's floor and is tested): by command, with the real hub and relay; and what the answer does to a stream."""
import json

from lib.household import Household, Viewer
from lib.wait import until
from simhub import add_hub, make

FLOOR = 2_000_000


def command(home, name="uplink_test", device=None):
    device = device or home.hub_id
    made = home.api.post(f"/v1/devices/{device}/commands", {"name": name}).ok(202)["command"]

    def over():
        now = home.api.get(f"/v1/devices/{device}/commands/{made['id']}").ok(200).body
        return now["stage"] in ("done", "failed") and now
    return until(over, "the command is over", deadline=30)


def hub_lines(home, event):
    return [d for line in open(home.hub.log, encoding="utf-8") if event in line and (d := json.loads(line))["event"] == event]


def test_the_way_to_the_cloud_is_measured_and_sets_the_streams_rate(porch, account, tmp_path):
    home = Household(porch, account)
    try:
        device = f"/v1/devices/{home.hub_id}"
        assert home.api.get(device).ok(200)["uplink"] is None
        assert home.live().ok(201)  # somebody watches: the household is not disturbed for a measurement
        until(lambda: hub_lines(home, "live.state"), "the hub sends")
        assert not hub_lines(home, "live.bitrate")  # nothing was measured: the camera's own rate stands
        busy = command(home)
        assert (busy["stage"], busy["code"]) == ("failed", "command_refused")
        home.api.delete(f"/v1/live/{hub_lines(home, 'live.state')[0]['live_id']}").ok()
        until(lambda: hub_lines(home, "stream.done"), "the hub has stopped")

        assert until(lambda: (c := command(home))["stage"] == "done" and c, "a test that is done", deadline=60)
        uplink = home.api.get(device).ok(200)["uplink"]
        assert FLOOR < uplink["bps"] < 4_400_000 and uplink["lost_percent"] <= 5 and uplink["rtt_ms"] is not None, uplink
        again = command(home)
        assert (again["stage"], again["code"]) == ("failed", "command_refused")  # at once again: not a way to keep a line busy

        camera = home.api.post(f"/v1/devices/{home.cameras[0]}/commands", {"name": "uplink_test"})
        camera.refused("command_refused")
        assert home.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)["uplink"] is None

        viewer = Viewer(porch, home.live().ok(201)["srtp"], tmp_path / "one", "--frames", 100)
        told = until(lambda: hub_lines(home, "live.bitrate"), "the hub is told its rate")[0]["video_bps"]
        assert told == min(2_000_000, uplink["bps"] // 4 * 3 - 64_000)
        assert viewer.summary()["decode_errors"] == 0
    finally:
        home.close()


def test_a_hub_gets_a_place_to_send_to_only_for_a_test_that_its_household_asked_for(porch, account):
    device, = make(porch, "hub")
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    hub, device_id = add_hub(porch, account.api, system, device)
    with hub:
        wrong = "01a1fd7f-6100-7aaa-8bbb-0ccc0ddd0eee"
        assert hub.expect("error", re=hub.send("uplink.wanted", command_id=wrong))["code"] == "not_found"
        hub.send("uplink", command_id=wrong, bps=10**9, lost_percent=0)  # and nobody believes what was not asked
        assert hub.expect("error", re=hub.send("uplink.wanted", command_id=wrong))["code"] == "not_found"
        assert account.api.get(f"/v1/devices/{device_id}").ok(200)["uplink"] is None
        asked = account.api.post(f"/v1/devices/{device_id}/commands", {"name": "uplink_test"}).ok(202)["command"]
        command = hub.expect("command", name="uplink_test")
        hub.send("ack", re=command["command_id"])
        hub.send("uplink.wanted", command_id=command["command_id"])
        test = hub.expect("uplink_test", command_id=asked["id"])
        assert test["max_bps"] <= 8_000_000 and test["relay"]["port"] and len(test["keys"]["send"]) >= 38
        hub.send("uplink", command_id=asked["id"], bps=900_000, lost_percent=3, rtt_ms=40)
        hub.send("result", command_id=asked["id"], ok=True)
        uplink = until(lambda: account.api.get(f"/v1/devices/{device_id}").ok(200)["uplink"], "the reading")
        assert (uplink["bps"], uplink["lost_percent"], uplink["rtt_ms"]) == (900_000, 3, 40) and uplink["as_of"]
        # It is over: neither a place nor a reading comes of it any more.
        until(lambda: account.api.get(f"/v1/devices/{device_id}/commands/{asked['id']}").ok(200)["stage"] == "done", "the command is done")
        assert hub.expect("error", re=hub.send("uplink.wanted", command_id=asked["id"]))["code"] == "not_found"
