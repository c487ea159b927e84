"""Peers that do the work of a relay: rtpengine and Janus of Debian, started in a folder, wired leg by leg for bench-relay-load (bench/relay_wire.h), CPU and all.

Each is as good as it gets here: rtpengine in user space on one thread, AES-128-GCM on both sides, from the hub by SDES, to viewers by DTLS; the streaming plugin of
Janus, which takes AES_CM_128_HMAC_SHA1_80 from a hub and sends AES-128-GCM to viewers by DTLS. Both are checked every 2 s where they do ICE, as our relay is. Ports and
addresses are of this machine alone."""
import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

from bench_common import cpu_s, now, pause

GCM, SHA1_80 = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"
KEY = {GCM: 28, SHA1_80: 30}
PT = 96


def here():
    """The machine's own address: Janus leaves loopback out of its candidates. Nothing is sent: connecting a datagram socket asks the routing table."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("192.0.2.1", 9))
        return s.getsockname()[0]


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, seconds=10):
    end = now() + seconds
    while True:
        try:
            return what()
        except OSError:
            if now() > end:
                raise
            pause(0.05)


class Peer:
    """A process on core 1. wire(ends) is given, session by session, (port of the source, [port of each viewer]) of the load tool, and answers with its lines."""

    window = 128  # packets under way

    def __init__(self, folder, pin):
        self.folder = Path(folder)
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([*pin, *self.command()], stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait()

    def cpu_us(self):
        return cpu_s(self.process.pid) * 1e6


# --- rtpengine, by its ng protocol: a cookie, then one dictionary in bencode. ---------------------------------------------------------------------


def bencode(v):
    if isinstance(v, dict):
        return b"d" + b"".join(bencode(k) + bencode(v[k]) for k in sorted(v)) + b"e"
    if isinstance(v, list):
        return b"l" + b"".join(map(bencode, v)) + b"e"
    return b"%d:%s" % (len(v.encode()), v.encode())


def bdecode(b, i=0):
    """(value, where it ends)"""
    if b[i:i + 1] == b"i":
        end = b.index(b"e", i)
        return int(b[i + 1:end]), end + 1
    if b[i:i + 1] in (b"d", b"l"):
        items, at = [], i + 1
        while b[at:at + 1] != b"e":
            v, at = bdecode(b, at)
            items.append(v)
        return (dict(zip(items[::2], items[1::2])) if b[i:i + 1] == b"d" else items), at + 1
    colon = b.index(b":", i)
    end = colon + 1 + int(b[i:colon])
    return b[colon + 1:end].decode(), end


def sdp(port, profile, direction, *attributes):
    return "".join(f"{line}\r\n" for line in ("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", f"m=video {port} {profile} {PT}", f"a=rtpmap:{PT} H264/90000",
                                              f"a={direction}", "a=rtcp-mux", *attributes))


def colons(fingerprint):
    return ":".join(fingerprint[i:i + 2].upper() for i in range(0, len(fingerprint), 2))


def of(text, what):
    return re.search(rf"a={what}:(?:(?:sha|SHA)-256 )?(\S+)", text).group(1)


def media_port(text):
    return int(re.search(r"m=video (\d+) ", text).group(1))


class Rtpengine(Peer):
    name = "rtpengine, SDES GCM → DTLS GCM"
    program = "rtpengine"
    window = 24  # one frame: it takes more than 50 queued packets for an attack, and the stream ends

    def command(self):
        self.ng = free_port()
        return ["rtpengine", "--table=-1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{self.ng}", "--foreground", "--log-stderr", "--log-level=4", "--num-threads=1", f"--priority={os.nice(0)}",
                "--port-min=30000", "--port-max=39999"]

    def ask(self, **what):
        """A datagram may be lost while it starts: said again under the same cookie, which it answers only once."""
        cookie = secrets.token_hex(4).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", self.ng))
            s.settimeout(1)

            def once():
                s.send(cookie + b" " + bencode({k.replace("_", "-").replace("request-", "request "): v for k, v in what.items()}))
                return s.recv(65536)
            answer = bdecode(until(once).split(b" ", 1)[1])[0]
        if answer["result"] != "ok":
            raise SystemExit(f"bench: rtpengine refused {what['command']}: {answer}")
        return answer

    def wire(self, fingerprint, ends):
        """A call to the first viewer, subscriptions for the others. To viewers by DTLS: with SDES on both sides it would pass packets on under the hub's own key, which is
        another kind of work."""
        lines = []
        ours = ("a=setup:active", f"a=fingerprint:sha-256 {colons(fingerprint)}")
        for n, (source, viewers) in enumerate(ends):
            call, key, ssrc = f"call-{n}", secrets.token_bytes(KEY[GCM]), 0x1000 + n
            hub = sdp(source, "RTP/SAVP", "sendonly", f"a=crypto:1 {GCM} inline:{base64.b64encode(key).decode()}")
            common = {"call_id": call, "ICE": "remove", "rtcp_mux": ["accept"]}
            to_viewer = {**common, "transport_protocol": "UDP/TLS/RTP/SAVPF", "SDES": ["off"]}
            offers = [self.ask(command="offer", from_tag="hub", sdp=hub, **to_viewer)["sdp"]]
            to_hub = self.ask(command="answer", from_tag="hub", to_tag="viewer", sdp=sdp(viewers[0], "UDP/TLS/RTP/SAVPF", "recvonly", *ours), **common)["sdp"]
            for port in viewers[1:]:
                asked = self.ask(command="subscribe request", from_tag="hub", **to_viewer)
                self.ask(command="subscribe answer", to_tag=asked["to-tag"], sdp=sdp(port, "UDP/TLS/RTP/SAVPF", "recvonly", *ours), **common)
                offers.append(asked["sdp"])
            lines.append(f"srtp 127.0.0.1 {media_port(to_hub)} {GCM} {key.hex()} {ssrc}")
            lines += [f"webrtc 127.0.0.1 {media_port(o)} - - {of(o, 'fingerprint').replace(':', '').lower()} {ssrc}" for o in offers]
        return lines


# --- Janus, by its HTTP interface. ------------------------------------------------------------------------------------------------------------------


class Janus(Peer):
    name = "Janus streaming, SHA1_80 → WebRTC GCM"
    program = "janus"

    def command(self):
        self.port, self.address = free_port(socket.SOCK_STREAM), here()
        folder = "/usr/lib/x86_64-linux-gnu/janus"
        (self.folder / "janus.jcfg").write_text(f'''general: {{
    configs_folder = "{self.folder}"
    plugins_folder = "{folder}/plugins"
    transports_folder = "{folder}/transports"
    events_folder = "{folder}/events"
    loggers_folder = "{folder}/loggers"
    session_timeout = 0
    debug_level = 3
}}
nat: {{ ice_lite = true
    ice_enforce_list = "{self.address}" }}
media: {{ rtp_port_range = "40000-49999" }}
plugins: {{ disable = "{','.join(p.name for p in Path(folder, "plugins").glob("*.so") if "streaming" not in p.name)}" }}
transports: {{ disable = "{','.join(p.name for p in Path(folder, "transports").glob("*.so") if "http" not in p.name)}" }}
''')
        (self.folder / "janus.transport.http.jcfg").write_text(f'general: {{ json = "compact"\n http = true\n ip = "127.0.0.1"\n port = {self.port} }}\n')
        (self.folder / "janus.plugin.streaming.jcfg").write_text("general: { }\n")
        return ["janus", "-F", str(self.folder), "-C", str(self.folder / "janus.jcfg")]

    def ask(self, path, janus, **what):
        body = json.dumps({"janus": janus, "transaction": secrets.token_hex(6), **what}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/janus{path}", body, {"Content-Type": "application/json"}), timeout=10) as r:
            answer = json.load(r)
        if answer["janus"] not in ("success", "ack") or "error" in answer.get("plugindata", {}).get("data", {}):
            raise SystemExit(f"bench: Janus refused {janus}: {answer}")
        return answer

    def handle(self, session):
        return f"{session}/{self.ask(session, 'attach', plugin='janus.plugin.streaming')['data']['id']}"

    def event_with(self, session, member):
        """The next event of a session that has this member; one of its end is the end of this too."""
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/janus{session}?maxev=1", timeout=40) as r:
                event = json.load(r)
            if "error" in event.get("plugindata", {}).get("data", {}):
                raise SystemExit(f"bench: Janus refused: {event}")
            if member(event):
                return event

    def watch(self, session, mountpoint, fingerprint):
        """A viewer's line for the load tool."""
        at = self.handle(session)
        self.ask(at, "message", body={"request": "watch", "id": mountpoint})
        offer = self.event_with(session, lambda e: "jsep" in e)["jsep"]["sdp"]

        answer = "".join(f"{line}\r\n" for line in (
            "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {of(offer, 'mid')}", f"m=video 9 UDP/TLS/RTP/SAVPF {PT}", "c=IN IP4 0.0.0.0", "a=recvonly",
            f"a=mid:{of(offer, 'mid')}", "a=rtcp-mux", "a=ice-ufrag:benchload", "a=ice-pwd:0123456789abcdefghijklmn", f"a=fingerprint:sha-256 {colons(fingerprint)}", "a=setup:active",
            f"a=rtpmap:{PT} H264/90000"))
        self.ask(at, "message", body={"request": "start"}, jsep={"type": "answer", "sdp": answer})
        self.event_with(session, lambda e: e.get("plugindata", {}).get("data", {}).get("result", {}).get("status") in ("starting", "started"))
        host, port = re.search(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", offer, re.IGNORECASE).groups()
        return f"webrtc {host} {port} {of(offer, 'ice-ufrag')} {of(offer, 'ice-pwd')} {of(offer, 'fingerprint').replace(':', '').lower()} {of(offer, 'ssrc')}"

    def wire(self, fingerprint, ends):
        lines = []
        session = f"/{until(lambda: self.ask('', 'create'))['data']['id']}"
        admin = self.handle(session)
        for n, (_, viewers) in enumerate(ends):
            key = secrets.token_bytes(KEY[SHA1_80])
            made = self.ask(admin, "message", body={"request": "create", "type": "rtp", "id": n + 1, "video": True, "videoport": 0, "videopt": PT, "videocodec": "h264",
                                                    "videortpmap": "H264/90000", "srtpsuite": 80, "srtpcrypto": base64.b64encode(key).decode()})
            port = made["plugindata"]["data"]["stream"]["video_port"]
            lines.append(f"srtp 127.0.0.1 {port} {SHA1_80} {key.hex()} {0x1000 + n}")
            lines += [self.watch(session, n + 1, fingerprint) for _ in viewers]
        return lines


def installed():
    return [p for p in (Rtpengine, Janus) if shutil.which(p.program)]
