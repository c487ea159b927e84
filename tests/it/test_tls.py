"""The whole way over TLS with an authority of our own: sign-up by https, hub, relay and app by wss, a live picture; and who is not believed."""
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess

import pytest

from lib.certs import Authority
from lib.events import Events
from lib.household import Household, watch
from lib.porch import program
from lib.wait import until
from simhub import SimHub, make
from test_demo import watch as watch_demo
from test_relay_lock import Relay, status
from test_up import UP, refused


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority):
    cert, key = authority.issue("here", "IP:127.0.0.1")
    return ("--tls-cert", cert, "--tls-key", key, "--tls-ca", authority.cert)


def test_from_sign_up_to_live(own_porch, tls, tmp_path):
    porch = own_porch(extra=tls)
    home = Household(porch, porch.sign_up())
    try:
        with Events(porch, home.api.token) as events:
            live = home.live().ok(201)
            seen = watch(porch, live, tmp_path / "first", 100)
            assert seen["frames"] >= 100 and seen["decode_errors"] == 0
            events.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "live")
            # The relay is locked in, and finds the cloud again: certificates are not read anew.
            relay = porch.pids()["porchlight-relay"]
            assert status(relay, "Seccomp") == "2"
            porch.restart_server()
            until(lambda: any(r["connected"] for r in porch.ctl("relays")["relays"]), "the relay is back")
        seen = watch(porch, until(lambda: (r := home.live()).status == 201 and r, "live works again"), tmp_path / "second", 30)
        assert seen["frames"] >= 30 and seen["decode_errors"] == 0
        assert porch.pids()["porchlight-relay"] == relay
    finally:
        home.close()


def test_demo_over_tls_by_a_name(own_porch, authority, tmp_path):
    """The certificate does not bear the address that is listened on: this machine's own programs dial by the name that it bears."""
    cert, key = authority.issue("named", "DNS:localhost")
    porch = own_porch(demo=True, transports=False, start=False, extra=("--tls-cert", cert, "--tls-key", key, "--tls-ca", authority.cert, "--tls-name", "localhost"))
    porch.start()
    assert porch.ready["tls"] == {"ca": authority.cert, "name": "localhost"}
    assert watch_demo(porch, tmp_path / "out")["frames"] > 0
    assert any("https://" in line for line in porch.console) and any("wss://" in line for line in porch.console)


@pytest.mark.parametrize("what", ["authority", "name", "time"])
def test_nobody_is_believed_without_proof(own_porch, authority, tls, tmp_path, what):
    """Hub and relay say which certificate they refuse and why, and send not a word to its owner."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Another authority")
    cert, key = {"authority": tls[1:4:2], "name": authority.issue("elsewhere", "DNS:elsewhere.example"),
                 "time": authority.issue("expired", "IP:127.0.0.1", expired=True)}[what]
    why = {"authority": "unable to get local issuer certificate", "name": "IP address mismatch", "time": "certificate has expired"}[what]
    ca = other.cert if what == "authority" else authority.cert
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"wss://127.0.0.1:{door.getsockname()[1]}"
        door.settimeout(20)
        (tmp_path / "hub.key").write_text("11" * 32)
        hub = subprocess.Popen([program("porchlight-hub"), "--server", url + "/hub/v1", "--serial", "PLH0000000001", "--key", str(tmp_path / "hub.key"), "--ca", ca],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            refuses(door, context)
            said = next(m for m in map(json.loads, hub.stderr) if m["event"] == "link.server-not-trusted")
            assert said["why"] == why
        finally:
            hub.terminate()
            hub.communicate(timeout=20)
        relay = Relay(tmp_path, url + "/relay/v1", extra=("--ca", ca))
        try:
            refuses(door, context)
            until(lambda: relay.said("link.server-not-trusted"), "the relay says so")
            assert relay.said("link.server-not-trusted")[0]["why"] == why
            assert status(relay.process.pid, "Seccomp") == "2" and not relay.said("relay.system-call-refused")
        finally:
            relay.end()


def refuses(door, context):
    """Plays the server: the client must go before it has said anything."""
    plain, _ = door.accept()
    plain.settimeout(20)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with context.wrap_socket(plain, server_side=True) as s:
            assert s.recv(1) == b"", "it spoke to somebody who has proved nothing"
            raise ConnectionError


def test_without_tls_only_loopback_is_listened_on(tmp_path, tls):
    """Both listeners refuse alike; with TLS, or a proxy in front, they take any address."""
    said = refused("--dir", str(tmp_path / "d"), "up", "--http", "127.0.0.1:0", "--ws", "0.0.0.0:0", "--media", "127.0.0.1:0")
    assert "0.0.0.0:0 is not loopback" in said and "--tls-cert" in said
    assert "needs both" in refused("--dir", str(tmp_path / "e"), *UP, "--tls-cert", tls[1])
    for extra in (tls, ("--set", "http.insecure_behind_proxy=true")):
        process = subprocess.Popen([program("porchctl"), "--dir", str(tmp_path / f"f{len(extra)}"), "up", "--http", "0.0.0.0:0", "--ws", "0.0.0.0:0", "--media", "127.0.0.1:0", *extra],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert line and json.loads(line)["ready"] is True, said
        assert process.returncode == 0


def test_a_hub_that_floods_handshakes_has_its_share(own_porch, tls):
    """S-D13: an address has its share of connections, those that have not shaken hands included; who is connected notices nothing."""
    from simhub import SimHub
    porch = own_porch(extra=(*tls, "--set", "ws.max_per_address=20"))
    device, = make(porch, "hub")
    with SimHub(porch, device) as hub:
        hub.hello()
        host, port = porch.ws.rsplit(":", 1)
        held = [socket.create_connection((host, int(port)), 20) for _ in range(40)]
        ended = [s for s in held[25:] if s.recv(1) == b""]  # over the share: closed at once, without a handshake
        assert len(ended) == 15
        hub.send("status", wifi_rssi=-50, cameras=[])
        for s in held:
            s.close()
        until(lambda: porch.api().get("/readyz").status == 200, "all is well")
        assert hub.close_code is None


def test_a_renewed_certificate_is_taken_and_nobody_is_dropped(own_porch, authority, tmp_path):
    """SIGHUP: both listeners show the new one; a WebSocket of before goes on under the old, a kept connection has one more answer; a pair that is none changes nothing."""
    pairs = [authority.issue(name, "IP:127.0.0.1") for name in ("renewed-0", "renewed-1")]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    trusts = ssl.create_default_context(cafile=authority.cert)

    def install(pair):
        shutil.copy(pair[0], cert)
        shutil.copy(pair[1], key)

    def shown(address):
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as plain, trusts.wrap_socket(plain, server_hostname=host) as s:
            return s.getpeercert()["subject"][0][0][1]

    install(pairs[0])
    porch = own_porch(extra=("--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", authority.cert))
    assert shown(porch.http) == shown(porch.ws) == "renewed-0"
    (device,) = make(porch, "hub")
    kept = http.client.HTTPSConnection(porch.http, context=trusts, timeout=20)
    kept.connect()
    socket_of_before = kept.sock

    def ask():
        kept.request("GET", "/healthz")
        reply = kept.getresponse()
        assert reply.read() and reply.status == 200
        return reply

    with SimHub(porch, device) as hub:
        hub.hello()
        install(pairs[1])
        os.kill(porch.pids()["porchlightd"], signal.SIGHUP)
        until(lambda: shown(porch.http) == shown(porch.ws) == "renewed-1", "both listeners show the new certificate")
        assert kept.sock is socket_of_before and ask().getheader("Connection") == "close"
        assert ask().getheader("Connection") != "close" and kept.sock.getpeercert()["subject"][0][0][1] == "renewed-1"
        key.write_text("no key\n")
        os.kill(porch.pids()["porchlightd"], signal.SIGHUP)
        until(lambda: ask() and "node.certificate-refused" in porch.logs(100000), "it says that this is no key")
        assert shown(porch.http) == shown(porch.ws) == "renewed-1"
        for number in (0, 1, 0):  # nobody who keeps asking holds up the next
            install(pairs[number])
            os.kill(porch.pids()["porchlightd"], signal.SIGHUP)
            until(lambda: ask() and shown(porch.http) == shown(porch.ws) == f"renewed-{number}", "and another is taken")
        kept.close()
        assert hub.expect("error", re=hub.send("uplink.wanted", command_id="01a1fd7f-6100-7aaa-8bbb-0ccc0ddd0eee"))["code"] == "not_found"
