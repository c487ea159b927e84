"""The leg in the home: an app, a device and strangers at proto/onboarding.yaml; each exchange of an app is held against that document (lib/household.py, AtHome)."""
import json
import os
import socket
import subprocess

import nacl.exceptions
import pytest

from lib.household import ONBOARDING, AtHome, Household, Hub, b64, make_devices
from lib.porch import program
from lib.wait import until

SEED = bytes(range(32)).hex()
CLAIM = {"id": "01a1fd7f-2100-7aaa-8bbb-0ccc0ddd0eee", "serial": "HUB00001", "challenge": "BOr3kFWdmqDzgLHsBWtfZQ",
         "public_key": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}
PASSWORD = "correct horse battery"
AIR = {"networks": [{"ssid": "Home", "password": PASSWORD, "rssi": -48, "security": "wpa2", "bands": ["2.4", "5"]},
                    {"ssid": "Upstairs", "password": PASSWORD, "rssi": -71, "security": "wpa3", "bands": ["5"]},
                    {"ssid": "Full", "password": PASSWORD, "rssi": -60, "security": "wpa2", "bands": ["2.4"], "fault": "no_dhcp"},
                    {"ssid": "Hotel", "rssi": -80, "security": "open", "bands": ["2.4"], "fault": "no_internet"}]}


class Device:
    """A reference hub that dials a cloud which is not there; what it does in the home is all that is looked at."""

    def __init__(self, folder, *more, air=AIR, cloud="ws://127.0.0.1:9/hub/v1"):
        self.log = folder / "hub.log"
        (folder / "key").write_text(SEED)
        self.air = folder / "air.json"
        self.air.write_text(json.dumps(air))
        args = [program("porchlight-hub"), "--server", cloud, "--serial", "HUB00001", "--key", str(folder / "key"), "--camera", "CAM00001=test",
                "--state", str(folder / "state"), "--onboarding", "127.0.0.1:0", "--verbose", *(("--wifi", str(self.air)) if air else ()), *more]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        self.address = json.loads(self.process.stdout.readline()).get("onboarding")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(20) == 0

    def app(self):
        return AtHome(self.address)

    def raw(self, text):
        """Bytes as they are; what comes back until the device closes."""
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), 20) as s:
            s.settimeout(20)
            s.sendall(text.encode())
            got = b""
            try:
                while more := s.recv(4096):
                    got += more
            except ConnectionResetError:
                pass
            return got.decode()


@pytest.fixture
def device(tmp_path):
    with Device(tmp_path) as d:
        yield d


def scanned(app):
    return until(lambda: not (n := app.get("/onboarding/v1/networks").ok(200).body)["scanning"] and n["age_s"] is not None and n, "the networks are there", every=0.15)


def test_an_app_finds_the_device_and_knows_it_by_its_signature(device):
    app = device.app()
    about = app.get("/onboarding/v1/device").ok(200)
    assert about["name"] == "PORCH-0001" and about["network"] == "wifi" and about["busy"] is False and 0 < about["closes_in"] <= 900
    app.bring(CLAIM)
    assert app.get("/onboarding/v1/device", token=None).ok(200)["busy"] is True
    assert app.progress() == {"state": "waiting", "wifi_error": None, "code": None, "expires_in": 60}
    # Somebody else's device of that name cannot sign for the claim's key.
    app.leave()
    stranger = {**CLAIM, "public_key": b64(bytes(32))}
    with pytest.raises((nacl.exceptions.BadSignatureError, ValueError)):
        device.app().bring(stranger)


def test_the_list_of_networks_has_no_password_and_is_refreshed(device):
    app = device.app()
    app.bring(CLAIM)
    found = scanned(app)
    assert [(n["ssid"], n["bands"], n["security"]) for n in found["networks"]] == [
        ("Home", ["2.4", "5"], "wpa2"), ("Full", ["2.4"], "wpa2"), ("Upstairs", ["5"], "wpa3"), ("Hotel", ["2.4"], "open")]
    assert "horse" not in json.dumps(found)
    device.air.write_text(json.dumps({"networks": [{"ssid": "New", "rssi": -50, "security": "open", "bands": ["2.4"]}]}))
    assert int(app.post("/onboarding/v1/networks/scan").refused("rate_limited").headers["Retry-After"]) > 0
    until(lambda: app.post("/onboarding/v1/networks/scan").status == 202, "it may look around again", every=0.5)
    found = until(lambda: (n := scanned(app))["age_s"] == 0 and n, "the new list", every=0.15)
    assert [n["ssid"] for n in found["networks"]] == ["New"]


@pytest.mark.parametrize("ssid, password, error", [("Home", "wrong horse battery", "wrong_password"), ("Nowhere", PASSWORD, "not_found"), ("Upstairs", PASSWORD, "not_2_4ghz"),
                                                   ("Full", PASSWORD, "no_dhcp"), ("Hotel", None, "no_internet")])
def test_each_wifi_error_is_told_and_the_next_try_may_succeed(device, ssid, password, error):
    app = device.app()
    app.bring(CLAIM)
    scanned(app)
    assert app.join(ssid, password).ok(202)["state"] == "joining"
    assert app.reaches("wifi_failed")["wifi_error"] == error
    app.join("Home", PASSWORD).ok(202)
    assert app.reaches("connecting")["wifi_error"] is None  # on the network; this cloud is not there
    # No secret stays: not in an answer, not in a log, not in what the device keeps.
    for name in os.listdir(device.log.parent):
        if name != "air.json":
            text = (device.log.parent / name).read_text()
            assert PASSWORD not in text and "wrong horse" not in text, name


def test_only_the_app_of_the_session_chooses_the_network(device):
    app, stranger = device.app(), device.app()
    app.bring(CLAIM)
    scanned(app)
    stranger.open(CLAIM).refused("onboarding_busy")
    for token in (None, "plob_" + "A" * 43, app.token + "x"):
        for method, path in (("GET", "session"), ("DELETE", "session"), ("GET", "networks"), ("POST", "networks/scan"), ("POST", "join")):
            stranger.call(method, f"/onboarding/v1/{path}", {"box": "A" * 80} if path == "join" else None, token=token).refused("unauthenticated")
    # A listener has the token and the device's key, but not the app's secret one.
    stranger.token, stranger.device_key = app.token, app.device_key
    stranger.join("Hotel").refused("auth_failed")
    box = app.box(json.dumps({"ssid": "Home", "password": PASSWORD}))
    for at in (0, 40, len(box) - 2):
        app.post("/onboarding/v1/join", {"box": box[:at] + ("B" if box[at] == "A" else "A") + box[at + 1:]}).refused("auth_failed")
    app.post("/onboarding/v1/join", {"box": app.box("no json")}).refused("invalid_request")
    app.post("/onboarding/v1/join", {"box": app.box(json.dumps({"ssid": "Home", "password": "short"}))}).refused("invalid_request")
    assert app.progress()["state"] == "waiting"
    # A box is good for its session only.
    app.leave()
    second = device.app()
    second.bring(CLAIM)
    second.post("/onboarding/v1/join", {"box": box}).refused("auth_failed")


def test_a_wrong_serial_opens_nothing_and_five_cost_a_minute(device):
    app = device.app()
    for _ in range(5):
        app.open(CLAIM, serial="HUB0000A").refused("serial_mismatch")
    wait = app.open(CLAIM).refused("rate_limited")
    assert 50 < int(wait.headers["Retry-After"]) <= 60
    assert app.get("/onboarding/v1/device").ok(200)["busy"] is False


def test_web_pages_are_refused_whatever_name_they_came_by(device):
    app = device.app()
    get = "/onboarding/v1/device"
    app.get(get, headers={"Origin": "http://evil.example"}).refused("forbidden")
    app.get(get, headers={"Origin": f"http://{device.address}"}).refused("forbidden")
    app.get(get, headers={"Host": "evil.example"}).refused("forbidden")  # a name that was bent to this address
    app.get(get, headers={"Host": "127.0.0.1"}).refused("forbidden")
    # What a page can send without asking first is no JSON.
    app.call("POST", "/onboarding/v1/session", json.dumps({"serial": "HUB00001"}), headers={"Content-Type": "text/plain"}).refused("unsupported_type")
    assert not any(h.lower().startswith("access-control") for h in app.get(get).ok(200).headers)


def test_requests_are_bounded_and_malformed_ones_refused(device):
    app = device.app()
    app.post("/onboarding/v1/session", {"serial": "HUB00001"}).refused("invalid_request")
    app.open(CLAIM, colour="red").refused("invalid_request")
    app.open(CLAIM, app_key="A" * 42 + "!").refused("invalid_request")
    app.call("POST", "/onboarding/v1/session", "{" + " " * 4000 + "}").refused("body_too_large")
    app.get("/onboarding/v1/coffee").refused("not_found")
    app.call("PUT", "/onboarding/v1/session", check=False).refused("method_not_allowed")
    assert "431" in device.raw(f"GET /onboarding/v1/device HTTP/1.1\r\nHost: {device.address}\r\nX: {'x' * 20000}\r\n\r\n").split("\r\n")[0]
    device.raw("\x16\x03\x01\x00\r\n\r\n")  # whatever it says to nonsense, it lives on
    statuses = [app.get("/onboarding/v1/device").status for _ in range(60)]
    assert statuses[0] == 200 and 429 in statuses
    until(lambda: app.get("/onboarding/v1/device").status == 200, "it answers again", every=0.3)


def test_who_drips_is_cut_and_keeps_nobody_out_for_long(device):
    """Four connections an address, ten seconds each: an app that waits gets through."""
    host, port = device.address.split(":")
    held = [socket.create_connection((host, int(port)), 20) for _ in range(4)]
    for s in held:
        s.sendall(b"GET /onboarding/v1/device HTTP/1.1\r\n")

    def dripped():
        for s in held:
            try:
                s.sendall(b"X")
            except OSError:
                pass
        try:
            return device.app().get("/onboarding/v1/device").status == 200
        except OSError:
            return False
    until(dripped, "the device answers an app", deadline=30, every=0.5)
    for s in held:
        s.close()


def test_it_listens_only_while_it_is_being_added(tmp_path):
    for state, more, listens in (({"bound": True, "clean": True, "reset_count": 0, "cameras": []}, (), False),
                                 ({"bound": True, "clean": True, "reset_count": 0, "cameras": []}, ("--onboard",), True),
                                 ({"bound": True, "clean": True, "reset_count": 0, "cameras": []}, ("--reset",), True)):
        (tmp_path / "state").write_text(json.dumps(state))
        with Device(tmp_path, *more) as d:
            assert bool(d.address) is listens, more
    refused = subprocess.run([program("porchlight-hub"), "--server", "ws://127.0.0.1:9/", "--serial", "HUB00001", "--key", str(tmp_path / "key"), "--onboarding", "0.0.0.0:0"],
                             capture_output=True, text=True, timeout=20)
    assert refused.returncode == 69 and "temporary Wi-Fi" in refused.stderr


def test_on_a_cable_there_is_nothing_to_join(tmp_path):
    with Device(tmp_path, air=None) as d:
        app = d.app()
        assert app.get("/onboarding/v1/device").ok(200)["network"] == "wired"
        app.bring(CLAIM)
        assert app.progress()["state"] == "connecting"
        app.join("Home", PASSWORD).refused("command_refused")
        app.post("/onboarding/v1/networks/scan").refused("command_refused")


def test_a_household_is_added_from_the_box_to_the_picture(porch, tmp_path):
    """product.md, "Adding starts a claim": a hub out of its box and a camera behind it, by the app's eyes: a wrong password first."""
    account = porch.sign_up()
    api = account.api
    (serial, seed), (camera_serial, _) = make_devices(porch, "hub", "wireless")
    air = tmp_path / "air.json"
    air.write_text(json.dumps(AIR))
    hub = Hub(porch, serial, seed, [camera_serial], more=("--wifi", str(air))).start(until="ready")
    try:
        system = api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
        claim = api.post(f"/v1/systems/{system}/hub", {"serial": serial}).ok(202)["claim"]
        app = AtHome(hub.onboarding)
        assert app.get("/onboarding/v1/device").ok(200)["name"] == f"PORCH-{serial[-4:]}"
        app.bring(claim)
        api.post(f"/v1/claims/{claim['id']}/progress", {"step": "pairing"}).ok()
        scanned(app)
        app.join("Home", "wrong horse battery").ok(202)
        error = app.reaches("wifi_failed")["wifi_error"]
        api.post(f"/v1/claims/{claim['id']}/progress", {"step": "wifi_failed", "wifi_error": error}).ok()
        assert api.get(f"/v1/claims/{claim['id']}").ok(200)["wifi_error"] == "wrong_password"
        app.join("Home", PASSWORD).ok(202)
        assert app.reaches("bound")["wifi_error"] is None
        assert api.get(f"/v1/claims/{claim['id']}").ok(200)["state"] == "bound"
        app.leave()
        until(lambda: not listening(hub.onboarding), "the leg in the home is closed")
        camera = api.post(f"/v1/systems/{system}/cameras", {"serial": camera_serial, "name": "Porch"}).ok(202)["claim"]
        until(lambda: api.get(f"/v1/claims/{camera['id']}").ok(200)["state"] == "bound", "the camera is bound")
        # After a power cut it is back on its network by itself, and closed to the home.
        hub.kill()
        hub.start()
        assert hub.onboarding is None
    finally:
        hub.stop()


def test_a_claim_that_the_cloud_refuses_is_told_in_the_home(porch):
    account = porch.sign_up()
    home = Household(porch, account, cameras=0)
    try:
        claim = account.api.post(f"/v1/systems/{home.system_id}/hub", {"serial": home.hub.serial}).ok(202)["claim"]
        account.api.delete(f"/v1/claims/{claim['id']}").ok()
        home.hub.stop()
        home.hub.start("--onboard")
        app = AtHome(home.hub.onboarding)
        app.bring(claim)
        assert app.reaches("refused")["code"] == "claim_refused"
    finally:
        home.close()


def listening(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        return True
    except ConnectionRefusedError:
        return False


def test_the_documents_operations_were_all_tried():
    """Runs last in this file: each operation of onboarding.yaml was seen in its success, and its refusals by code."""
    tried = {(m, t) for m, t, status in ONBOARDING.seen if status < 300}
    if len(tried) > 3:  # a single test was asked for otherwise
        assert {(m, t) for m, t, _ in ONBOARDING.operations()} == tried
