"""deploy/haproxy.cfg with Debian's HAProxy in front of the real server."""
import asyncio
import grp
import json
import os
import pwd
import socket
import ssl
import subprocess
from urllib.parse import urljoin

import pytest
import requests
import websockets

import pg
from lib.porch import Porch
from lib.wait import until
from simrelay import SimRelay
from test_whep_control import FINGERPRINT, PUBLISH, SDP, Home, start

HAPROXY = "/usr/sbin/haproxy"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Proxy:
    def __init__(self, porch, folder):
        cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        both = str(folder / "both.pem")
        with open(both, "w", encoding="ascii") as out:
            for path in (cert, key):
                with open(path, encoding="ascii") as f:
                    out.write(f.read())
        self.cert, self.port = cert, free_port()
        env = dict(os.environ, PORCHLIGHT_CERT=both, PORCHLIGHT_BIND=f"127.0.0.1:{self.port}", PORCHLIGHT_REST=porch.http, PORCHLIGHT_WS=porch.ws, PORCHLIGHT_HEAD_TIMEOUT="2s")
        if os.geteuid() != 0:
            env |= {"PORCHLIGHT_PROXY_USER": pwd.getpwuid(os.geteuid()).pw_name, "PORCHLIGHT_PROXY_GROUP": grp.getgrgid(os.getegid()).gr_name}
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", os.path.join(pg.ROOT, "deploy", "haproxy.cfg")], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.session = requests.Session()
        self.session.trust_env = False
        until(self.answers, "HAProxy serves the API")

    def answers(self):
        assert self.process.poll() is None, self.process.stderr.read()
        try:
            return self.get("/v1/status").status_code == 200
        except requests.exceptions.ConnectionError:
            return False

    def get(self, path, **how):
        return self.session.get(f"https://127.0.0.1:{self.port}{path}", verify=self.cert, timeout=30, **how)

    def tls(self):
        return ssl.create_default_context(cafile=self.cert)

    def raw(self, head):
        """What comes back until the stream ends, which it must."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as plain, self.tls().wrap_socket(plain, server_hostname="127.0.0.1") as s:
            s.sendall(head)
            got = b""
            try:
                while part := s.recv(65536):
                    got += part
            except OSError:
                pass  # cut instead of closed: ended all the same
            return got

    def close(self):
        self.session.close()
        self.process.terminate()
        self.process.wait(30)
        self.process.stderr.close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    p = Porch(tmp_path_factory.mktemp("behind") / "data", extra=("--set", "http.trusted_proxies=127.0.0.1", "--set", "http.rate.read.address=20"))
    try:
        proxy = Proxy(p.start(), tmp_path_factory.mktemp("proxy"))
        try:
            yield p, proxy
        finally:
            proxy.close()
    finally:
        p.close()


def test_rest_and_websockets_are_told_apart_by_path(proxied):
    _, proxy = proxied
    assert proxy.get("/v1/account").status_code == 401
    assert proxy.get("/v1/nothing").json()["code"] == "not_found"
    assert proxy.get("/metrics").status_code == proxy.get("/readyz").status_code == 404

    async def hello():
        async with websockets.connect(f"wss://127.0.0.1:{proxy.port}/hub/v1", ssl=proxy.tls(), subprotocols=["porchlight.hub.v1"]) as hub:
            return json.loads(await asyncio.wait_for(hub.recv(), 30))["type"]

    assert asyncio.run(hello()) == "challenge"
    with open(f"/proc/{proxy.process.pid}/status", encoding="ascii") as f:
        assert "\nUid:\t0\t" not in f.read(), "who serves strangers is root"


def test_smuggled_and_dripped_heads_are_refused(proxied):
    _, proxy = proxied
    end = b"Host: x\r\nConnection: close\r\n"
    hidden = b"GET /v1/password-rules HTTP/1.1\r\nHost: x\r\n\r\n"
    heads = [
        b"POST /v1/sessions HTTP/1.1\r\n" + end + b"Content-Length: 4\r\nContent-Length: 60\r\n\r\n0\r\n\r\n" + hidden,
        b"POST /v1/sessions HTTP/1.1\r\n" + end + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        b"POST /v1/sessions HTTP/1.1\r\n" + end + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
        b"POST /v1/sessions HTTP/1.1\r\n" + end + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
        b"POST /v1/sessions HTTP/1.1\r\n" + end + b"Content-Length: +4\r\n\r\n0\r\n\r\n" + hidden,
    ]
    for head in heads:
        got = proxy.raw(head)
        assert got.startswith(b"HTTP/1.") and got.split(b" ")[1][:1] == b"4", (head, got)
        assert got.count(b"HTTP/1.") == 1 and b"min_length" not in got, (head, got)
    # It never ends its head; the proxy ends the connection.
    got = proxy.raw(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n")
    assert not got or got.split(b" ")[1] == b"408"
    assert proxy.get("/v1/status").status_code == 200


def test_s_f7_the_proxys_word_counts_and_not_the_callers(proxied):
    """Whoever writes another X-Forwarded-For each time is the same caller all the same."""
    _, proxy = proxied
    seen = []
    while 429 not in seen:
        assert len(seen) < 80, seen
        seen.append(proxy.get("/v1/regions", headers={"X-Forwarded-For": f"203.0.{len(seen)}.7"}).status_code)


class Outside:
    """The system as hubs and relays see it: by the proxy."""

    def __init__(self, porch, proxy):
        self._porch, self.ws, self.ready = porch, f"127.0.0.1:{proxy.port}", {**porch.ready, "tls": {"ca": proxy.cert}}

    def __getattr__(self, name):
        return getattr(self._porch, name)


def test_a_hub_makes_its_offer_where_it_is_connected(own_porch, tmp_path, monkeypatch):
    """The server does not know what it is called outside: the address that live.start gives is a relative one."""
    monkeypatch.setattr(SimRelay, "fingerprint", FINGERPRINT)
    porch = own_porch(extra=("--set", "http.trusted_proxies=127.0.0.1"))
    proxy = Proxy(porch, tmp_path)
    try:
        home = Home(Outside(porch, proxy), suites=["DTLS-SRTP"])
        home.relay.answers("session.open", "session.close")
        live_id = start(home)
        whip = home.hub.expect("live.start", live_id=live_id)["whip"]
        assert whip["url"] == f"/v1/live/{live_id}/whip"
        url, bearer = urljoin(home.hub.url.replace("wss:", "https:"), whip["url"]), {"Authorization": f"Bearer {whip['token']}"}
        reply = proxy.session.post(url, PUBLISH, headers={**SDP, **bearer}, verify=proxy.cert, timeout=30)
        assert reply.status_code == 201 and reply.text.startswith("v=0"), reply.text
        assert proxy.session.delete(urljoin(url, reply.headers["Location"]), headers=bearer, verify=proxy.cert, timeout=30).status_code == 200
        home.close()
    finally:
        proxy.close()
