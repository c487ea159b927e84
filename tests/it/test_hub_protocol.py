"""The reference hub against proto/hub.asyncapi.yaml, without a server: a cloud of a few lines sends the document's own examples, and every message of the hub must
be of the documented form. The JSON in docs/hub-makers.md is checked against the same document."""
import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import struct
import subprocess
import zlib

import pylibsrtp
import pytest

from lib.household import b64
from lib.hubcloud import CLAIM, DEADLINE, DOC, check, example, verify, with_hub
from lib.openapi import ROOT


def test_every_example_is_of_its_schema():
    messages = DOC["components"]["messages"]
    assert set(messages) == set(DOC["channels"]["hub"]["messages"])
    named = [m["$ref"].rsplit("/", 1)[1] for o in DOC["operations"].values() for m in o["messages"]]
    assert sorted(named) == sorted(messages)
    for name, message in messages.items():
        assert message["examples"], name
        for e in message["examples"]:
            assert e["payload"]["type"] == name
            check(e["payload"])


def test_the_guide_for_hub_makers_shows_real_messages():
    with open(os.path.join(ROOT, "docs", "hub-makers.md"), encoding="utf-8") as f:
        blocks = re.findall(r"```json\n(.*?)```", f.read(), re.S)
    shown = [json.loads(b) for b in blocks]
    for message in shown:
        check(message)
    assert {m["type"] for m in shown} == set(DOC["components"]["messages"])


def test_hello_says_what_the_hub_has_been_through(tmp_path):
    async def story(hub):
        seen = []
        for more, end in (((), hub.stop), ((), hub.kill), ((), hub.stop), (("--reset",), hub.stop), ((), hub.stop)):
            hub.start(*more)
            cloud = await (await hub.connection()).welcome()
            seen.append((cloud.hello["boot"]["reason"], cloud.hello["boot"]["reset_count"]))
            await cloud.get("status")
            end()
        assert seen == [("power", 0), ("power", 0), ("crash", 0), ("factory_reset", 1), ("power", 1)]

    with_hub(tmp_path, story)


def test_s_d2_claims_are_proved_by_the_factory_key_and_again_after_a_lost_connection(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome(binding="free")
        await cloud.get("status")
        line = {"claim_id": CLAIM["id"], "challenge": CLAIM["challenge"]}
        app = hub.app()
        await asyncio.to_thread(app.bring, CLAIM)
        claim = await cloud.get("claim", **line)
        verify(claim["signature"], "porchlight-claim-v1", "HUB00001", line["challenge"])
        await cloud.ws.close()  # the answer is lost
        cloud = await (await hub.connection()).welcome(binding="free")
        claim = await cloud.get("claim", claim_id=line["claim_id"])
        await cloud.send({**example("bound"), "re": claim["id"], "claim_id": line["claim_id"]})
        pair = example("pair")
        await cloud.send(pair)
        await cloud.get("ack", re=pair["id"])
        paired = await cloud.get("paired", claim_id=pair["claim_id"], camera="CAM00001")
        verify(paired["signature"], "porchlight-claim-v1", "CAM00001", pair["challenge"])
        await cloud.send({**example("bound"), "re": paired["id"], "claim_id": pair["claim_id"]})
        # A camera out of reach is not vouched for: the command after it is answered first.
        await cloud.send({**pair, "id": "p2", "claim_id": "c2", "serial": "CAM99999"})
        await cloud.send({**example("command"), "command_id": "k0"})
        while (m := json.loads(await cloud.ws.recv()))["type"] != "result":
            assert m["type"] != "paired"
        hub.stop()
        assert json.loads((hub.dir / "state").read_text()) == {"bound": True, "clean": True, "reset_count": 0, "cameras": ["CAM00001"]}

    with_hub(tmp_path, story)


def test_commands_are_carried_out_once(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        await cloud.get("status")
        refresh = {**example("command"), "command_id": "k1"}
        for _ in range(2):
            await cloud.send(refresh)
            await cloud.get("ack", re="k1")
            assert (await cloud.get("result", command_id="k1"))["ok"] is True
        await cloud.send({**refresh, "command_id": "k2", "name": "make_coffee"})
        assert (await cloud.get("result", command_id="k2"))["code"] == "command_refused"
        await cloud.send({**refresh, "command_id": "k3", "deadline": "2020-01-01T00:00:00Z"})
        assert (await cloud.get("result", command_id="k3"))["code"] == "command_expired"
        first = cloud.hello["boot"]["id"]
        await cloud.send({**refresh, "command_id": "k4", "name": "reboot"})
        assert (await cloud.get("result", command_id="k4"))["ok"] is True
        cloud = await (await hub.connection()).welcome()
        assert cloud.hello["boot"]["reason"] == "reboot" and cloud.hello["boot"]["id"] != first

    with_hub(tmp_path, story)


def test_what_is_unknown_or_malformed_is_survived(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        for text in ("{}", "[]", "no json", '{"type":"frobnicate","id":"1"}', '{"type":"live.start","id":"1"}', '{"type":"pair","id":7}', '{"type":"challenge","nonce":"x"}'):
            await cloud.ws.send(text)
        await cloud.send({**example("command"), "command_id": "k9", "new_member": {"of": "tomorrow"}})
        assert (await cloud.get("result", command_id="k9"))["ok"] is True

    with_hub(tmp_path, story)


def relay_socket():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    s.settimeout(DEADLINE)
    return s


def test_live_sessions_start_survive_the_cloud_and_stop(tmp_path):
    async def story(hub):
        hub.start()
        relay = relay_socket()
        cloud = await (await hub.connection()).welcome()
        start = {**example("live.start"), "relay": {"host": "127.0.0.1", "port": relay.getsockname()[1]}}
        which = {"live_id": start["live_id"], "generation": start["generation"]}
        await cloud.send(start)
        await cloud.get("ack", re=start["id"])
        check_packet, _ = await asyncio.to_thread(relay.recvfrom, 2000)
        assert check_packet[:2] == b"\x00\x01" and f"{start['ice']['ufrag']}:{start['ice']['peer_ufrag']}".encode() in check_packet
        await cloud.ws.close()
        cloud = await (await hub.connection()).welcome()
        assert cloud.hello["running_sessions"] == [which]
        await cloud.send({"type": "live.sync", "sessions": [which]})
        await cloud.send({**start, "id": "again"})  # said twice: still one
        await cloud.get("ack", re="again")
        await cloud.send({**example("live.stop"), **which, "code": "ended_by_user"})
        assert (await cloud.get("live.state", **which))["state"] == "ended"
        await cloud.send({**example("live.stop"), **which})  # and again
        assert (await cloud.get("live.state", **which))["state"] == "ended"
        relay.close()

    with_hub(tmp_path, story)


def test_s_m6_the_keys_of_a_session_that_is_over_are_never_used_again(tmp_path):
    """Messages come at least once. The same keys under a new sender would be the same nonces again."""
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        relay, start = await stream_of(hub, cloud, generation=2)
        ended = {"live_id": start["live_id"], "state": "ended", "code": "ended_by_user"}
        await packets(relay, start["video"]["payload_type"], 5)
        await cloud.send({**example("live.stop"), "live_id": start["live_id"], "generation": 2, "code": "ended_by_user"})
        await cloud.get("live.state", **ended)
        silent = relay_socket()
        silent.setblocking(False)
        for generation in (2, 1):
            await cloud.send({**start, "generation": generation, "relay": {"host": "127.0.0.1", "port": silent.getsockname()[1]}})
            await cloud.get("live.state", **ended, generation=generation)
        await cloud.send({**example("command"), "command_id": "k"})
        await cloud.get("result", command_id="k")
        with pytest.raises(BlockingIOError):
            silent.recv(2000)
        # A new generation has new keys.
        await cloud.send({**start, "generation": 3})
        await cloud.get("live.state", live_id=start["live_id"], generation=3, state="sending")
        silent.close()
        relay.transport.close()

    with_hub(tmp_path, story)


def test_a_session_that_the_cloud_does_not_want_is_stopped(tmp_path):
    async def story(hub):
        hub.start("--suite", "sha1_80")
        relay = relay_socket()
        cloud = await (await hub.connection()).welcome()
        assert cloud.hello["suites"] == ["AES_CM_128_HMAC_SHA1_80"]
        to = {"host": "127.0.0.1", "port": relay.getsockname()[1]}
        await cloud.send({**example("live.start"), "relay": to})
        assert (await cloud.get("live.state"))["code"] == "unsupported_media"
        keys = {k: base64.urlsafe_b64encode(bytes(30)).decode() for k in ("send", "receive")}
        good = {**example("live.start"), "relay": to, "suite": "AES_CM_128_HMAC_SHA1_80", "keys": keys, "generation": 2}
        await cloud.send({**good, "camera": "CAM99999"})
        assert (await cloud.get("live.state"))["code"] == "not_found"
        await cloud.send(good)
        await asyncio.to_thread(relay.recvfrom, 2000)
        await cloud.send({"type": "live.sync", "sessions": [{"live_id": good["live_id"], "generation": 1}]})
        m = await cloud.get("live.state", generation=2)
        assert (m["state"], m["code"]) == ("ended", "not_wanted")
        # Nobody answers its checks: five seconds later it gives up by itself.
        await cloud.send({**good, "generation": 3})
        m = await cloud.get("live.state", generation=3)
        assert (m["state"], m["code"]) == ("ended", "relay_lost")
        relay.close()

    with_hub(tmp_path, story)


def test_s_d11_a_hub_signs_for_its_own_server_only(tmp_path):
    async def story(hub):
        hub.start("--server-name", "cloud.example")
        cloud = await hub.connection()
        await cloud.send(example("challenge"))
        await cloud.send({**example("challenge"), "server_name": "cloud.example"})
        hello = await cloud.get("hello")
        verify(hello["signature"], "porchlight-hello-v1", "hub", "HUB00001", example("challenge")["nonce"], "cloud.example")

    with_hub(tmp_path, story)


class Relay(asyncio.DatagramProtocol):
    """As much of a relay as a hub needs: answers its checks, and counts the packets of each kind."""

    def __init__(self, pwd):
        self.pwd, self.checks, self.media = pwd.encode(), 0, asyncio.Queue()

    @classmethod
    async def open(cls, pwd):
        transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(pwd), ("127.0.0.1", 0))
        relay.transport, relay.port = transport, transport.get_extra_info("sockname")[1]
        return relay

    def datagram_received(self, data, addr):
        if data[0] < 4:
            self.checks += 1
            self.transport.sendto(self.answer(data[8:20], addr), addr)
        elif not 192 <= data[1] <= 223:
            self.media.put_nowait((data[1] & 127, struct.unpack("!HII", data[2:12]) + (len(data),)))

    def answer(self, tid, addr):
        """A Binding success response: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT (RFC 8489)."""
        ip = struct.unpack("!I", socket.inet_aton(addr[0]))[0] ^ 0x2112A442
        body = struct.pack("!HHBBHI", 0x20, 8, 0, 1, addr[1] ^ 0x2112, ip)

        def head(more):
            return struct.pack("!HHI", 0x0101, len(body) + more, 0x2112A442) + tid

        body += struct.pack("!HH", 0x08, 20) + hmac.new(self.pwd, head(24) + body, hashlib.sha1).digest()
        return head(8) + body + struct.pack("!HHI", 0x8028, 4, zlib.crc32(head(8) + body) ^ 0x5354554E)


async def stream_of(hub, cloud, result=None, **changes):
    """Starts a session at a relay of this test; returns both when media flows. `result`: of a command that ends by it."""
    relay = await Relay.open(example("live.start")["ice"]["pwd"])
    start = {**example("live.start"), "relay": {"host": "127.0.0.1", "port": relay.port}, **changes}
    await cloud.send(start)
    await cloud.get("ack", re=start["id"])
    if result:
        await cloud.get("result", **result)
    m = await cloud.get("live.state", live_id=start["live_id"], generation=start["generation"])
    assert m["state"] == "sending", m
    return relay, start


async def packets(relay, payload_type, n):
    """The next n packets of one stream: (sequence number, timestamp, SSRC, bytes)."""
    got = []
    while len(got) < n:
        pt, header = await asyncio.wait_for(relay.media.get(), DEADLINE)
        if pt == payload_type:
            got.append(header)
    return got


def test_media_flows_in_order_and_ends_by_the_hubs_own_clock(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        relay, start = await stream_of(hub, cloud, hard_end_s=3)
        for track in (start["video"], start["audio"]):
            got = await packets(relay, track["payload_type"], 30)
            assert {g[2] for g in got} == {track["ssrc"]}
            assert [(g[0] - got[0][0]) & 0xFFFF for g in got] == list(range(30))
        m = await cloud.get("live.state", live_id=start["live_id"])
        assert (m["state"], m["code"]) == ("ended", "expired")
        assert relay.checks >= 2  # the first, and one to keep it up
        relay.transport.close()

    with_hub(tmp_path, story)


async def video_rate(relay, seconds):
    """Bits a second of the next pictures, by the clock of the stream."""
    first, bits = None, 0
    while True:
        (_, ts, _, n), = await packets(relay, 96, 1)
        first = ts if first is None else first
        if (ts - first) & 0xFFFFFFFF >= seconds * 90000:
            return bits / seconds
        bits += 8 * n


def test_the_bitrate_changes_within_the_stream(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        relay, start = await stream_of(hub, cloud)
        was = await video_rate(relay, 4)
        assert 300_000 < was < 750_000, was
        await cloud.send({**example("bitrate"), "live_id": start["live_id"], "video_bps": 150_000})
        await video_rate(relay, 2)  # it settles
        now = await video_rate(relay, 4)
        assert 90_000 < now < 200_000, now
        header, = await packets(relay, 96, 1)
        assert header[2] == start["video"]["ssrc"] and relay.media.qsize() < 200  # the same stream, the same session
        await cloud.send({**example("bitrate"), "live_id": start["live_id"], "video_bps": 1_500_000})
        await video_rate(relay, 2)
        now = await video_rate(relay, 4)
        assert 1_000_000 < now < 1_900_000, now
        # Of a session that does not run, or of nonsense, nothing comes.
        await cloud.send({**example("bitrate"), "live_id": start["id"]})
        await cloud.ws.send(json.dumps({"type": "bitrate", "live_id": start["live_id"], "video_bps": -1}))
        await packets(relay, 96, 30)
        relay.transport.close()

    with_hub(tmp_path, story)


class NarrowRelay(Relay):
    """A relay behind a line that carries `bps`: what is more is lost. It reports twice a second, as RFC 3550 says; `answers` False: it does not even answer checks."""

    def __init__(self, pwd, key, bps, answers=True):
        super().__init__(pwd)
        self.bps, self.answers = bps, answers
        self.seen = self.room = 0
        self.first = self.highest = self.received = None
        self.at = self.reported = 0.0
        self.out = pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND))

    @classmethod
    async def open(cls, *how):
        transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(*how), ("127.0.0.1", 0))
        relay.transport, relay.port = transport, transport.get_extra_info("sockname")[1]
        return relay

    def datagram_received(self, data, addr):
        if data[0] < 4:
            if self.answers:
                super().datagram_received(data, addr)
            return
        if 192 <= data[1] <= 223:
            return
        now, (seq, _, ssrc) = asyncio.get_running_loop().time(), struct.unpack("!HII", data[2:12])
        self.seen += 1
        self.room = min(self.room + (now - self.at) * self.bps / 8, 6000)
        self.at = now
        if self.first is None:
            self.first, self.highest, self.received = seq, seq, 0
        self.highest += (seq - self.highest) & 0xFFFF if (seq - self.highest) & 0xFFFF < 0x8000 else 0
        if self.room >= len(data):
            self.room -= len(data)
            self.received += 1
        if now - self.reported >= 0.5:
            self.reported = now
            lost = self.highest - self.first + 1 - self.received
            report = struct.pack("!BBHII", 0x81, 201, 7, 1, ssrc) + struct.pack("!IIIII", lost & 0xFFFFFF, self.highest, 0, 0, 0)
            self.transport.sendto(self.out.protect_rtcp(report), addr)


async def uplink_test(hub, cloud, bps, command_id, answers=True, **changes):
    """The whole of a test at a line of `bps`; returns the relay, and the message that ends it."""
    keys = {k: bytes([i]) * 30 for i, k in enumerate(("send", "receive"))}
    relay = await NarrowRelay.open(example("uplink_test")["ice"]["pwd"], keys["receive"], bps, answers)
    await cloud.send({**example("command"), "command_id": command_id, "name": "uplink_test"})
    await cloud.get("ack", re=command_id)
    wanted = await cloud.get("uplink.wanted")
    assert wanted["command_id"] == command_id
    await cloud.send({**example("uplink_test"), "command_id": command_id, "relay": {"host": "127.0.0.1", "port": relay.port}, "suite": "AES_CM_128_HMAC_SHA1_80",
                      "keys": {k: b64(v) for k, v in keys.items()}, **changes})
    said = None
    while (m := json.loads(await asyncio.wait_for(cloud.ws.recv(), DEADLINE)))["type"] != "result":
        check(m, "fromHub")
        said = m if m["type"] == "uplink" else said
    check(m, "fromHub")
    assert m["command_id"] == command_id
    relay.transport.close()
    return relay, said, m


def test_an_uplink_test_measures_what_arrives(tmp_path):
    async def story(hub):
        hub.start("--suite", "sha1_80")
        cloud = await (await hub.connection()).welcome()
        relay, said, result = await uplink_test(hub, cloud, 1_000_000, "k1")
        assert result["ok"] is True and 700_000 < said["bps"] < 1_200_000 and 60 < said["lost_percent"] < 90, said
        assert relay.checks >= 1
        # The same command again is answered again, and not carried out again; a new one is too soon.
        await cloud.send({**example("command"), "command_id": "k1", "name": "uplink_test"})
        assert (await cloud.get("result", command_id="k1"))["ok"] is True
        await cloud.send({**example("command"), "command_id": "k2", "name": "uplink_test"})
        assert (await cloud.get("result", command_id="k2"))["code"] == "command_refused"

    with_hub(tmp_path, story)


def test_an_uplink_test_sends_nothing_to_who_does_not_answer_its_checks_S_M1(tmp_path):
    async def story(hub):
        hub.start("--suite", "sha1_80")
        cloud = await (await hub.connection()).welcome()
        relay, said, result = await uplink_test(hub, cloud, 0, "k1", answers=False)
        assert relay.seen == 0 and said is None and (result["ok"], result["code"]) == (False, "relay_timeout")
        # Nor to an address that no test of its own wanted.
        bystander = relay_socket()
        bystander.setblocking(False)
        await cloud.send({**example("uplink_test"), "relay": {"host": "127.0.0.1", "port": bystander.getsockname()[1]}})
        await cloud.send({**example("command"), "command_id": "k3"})
        await cloud.get("result", command_id="k3")
        with pytest.raises(BlockingIOError):
            bystander.recv(2000)
        bystander.close()

    with_hub(tmp_path, story)


def test_an_uplink_test_is_bounded_by_the_hub_itself_and_gives_way_to_who_watches(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        relay = await Relay.open(example("uplink_test")["ice"]["pwd"])
        await cloud.send({**example("command"), "command_id": "k1", "name": "uplink_test"})
        await cloud.get("uplink.wanted")
        await cloud.send({**example("uplink_test"), "command_id": "k1", "relay": {"host": "127.0.0.1", "port": relay.port}, "max_bps": 2_000_000_000, "duration_ms": 60_000})
        rate = await video_rate(relay, 1)
        assert rate < 9_500_000, rate  # eight million bits of payload, and the packets' own heads
        live = await Relay.open(example("live.start")["ice"]["pwd"])
        await cloud.send({**example("live.start"), "relay": {"host": "127.0.0.1", "port": live.port}})
        assert (await cloud.get("result", command_id="k1"))["ok"] is False
        await packets(live, 96, 30)
        for r in (relay, live):
            r.transport.close()

    with_hub(tmp_path, story)


def test_an_uplink_test_that_still_waits_gives_way_too(tmp_path):
    async def story(hub):
        hub.start()
        cloud = await (await hub.connection()).welcome()
        await cloud.send({**example("command"), "command_id": "k1", "name": "uplink_test"})
        await cloud.get("uplink.wanted")
        live, start = await stream_of(hub, cloud, result={"command_id": "k1", "code": "command_refused"})
        filler = relay_socket()
        filler.setblocking(False)
        await cloud.send({**example("uplink_test"), "command_id": "k1", "relay": {"host": "127.0.0.1", "port": filler.getsockname()[1]}})
        await packets(live, start["video"]["payload_type"], 10)
        with pytest.raises(BlockingIOError):
            filler.recv(2000)
        filler.close()
        live.transport.close()

    with_hub(tmp_path, story)


def test_a_copied_stream_says_that_nobody_can_ask_it(tmp_path):
    film = tmp_path / "film.mp4"
    subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25",
                    str(film)], check=True, timeout=60)

    async def story(hub):
        hub.start("--camera", f"CAM00002=copy:{film}")
        cloud = await (await hub.connection()).welcome()
        assert [c["can"] for c in cloud.hello["cameras"]] == [["keyframe", "bitrate"], []]
        relay = await Relay.open(example("live.start")["ice"]["pwd"])
        await cloud.send({**example("live.start"), "relay": {"host": "127.0.0.1", "port": relay.port}, "camera": "CAM00002"})
        first = await cloud.get("live.state")
        assert first["state"] == "sending" and first["can"] == [] and "gop_ms" not in first
        then = await cloud.get("live.state")
        assert then["state"] == "sending" and then["can"] == [] and then["gop_ms"] == 1000
        relay.transport.close()

    with_hub(tmp_path, story)


class RtspCamera:
    """A camera of somebody else's make: RTSP with RTP inside the same TCP connection, H.264 in a loop, no sound. The first `old` pictures come at once."""

    def __init__(self, old=0):
        self.old, self.pictures = old, 0
        made = subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "1", "-c:v", "libx264", "-preset", "ultrafast",
                               "-tune", "zerolatency", "-x264-params", "slices=1:sliced-threads=0", "-f", "h264", "-"], stdout=subprocess.PIPE, check=True, timeout=60).stdout
        self.nals = [n.rstrip(b"\0") for n in made.split(b"\0\0\1")[1:]]

    async def open(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"rtsp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/stream"
        return self

    async def serve(self, reader, writer):
        player = None
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                # The client's receiver reports stand between its requests.
                method = re.search(rb"(OPTIONS|DESCRIBE|SETUP|PLAY|TEARDOWN|GET_PARAMETER) ", request).group(1).decode()
                seq = re.search(rb"(?i)cseq: *(\d+)", request).group(1).decode()
                sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:v\r\n"
                more = {"OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n",
                        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"}.get(method, "Session: 1\r\n")
                writer.write(f"RTSP/1.0 200 OK\r\nCSeq: {seq}\r\n{more}\r\n{sdp if method == 'DESCRIBE' else ''}".encode())
                if method == "PLAY":
                    player = asyncio.create_task(self.play(writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if player:
                player.cancel()
            writer.close()

    def tick(self, pace):
        """25 pictures a second, as the camera's own clock gives them."""
        pace.put_nowait(None)
        if self.server.is_serving():
            asyncio.get_running_loop().call_later(0.04, self.tick, pace)

    async def play(self, writer):
        seq = time = 0
        pace = asyncio.Queue()
        self.pictures, old = 0, b""
        asyncio.get_running_loop().call_soon(self.tick, pace)
        while True:
            for nal in self.nals:
                picture = nal[0] & 31 in (1, 5)
                packet = struct.pack("!BBHII", 0x80, 96 | (0x80 if picture else 0), seq & 0xFFFF, time, 99) + nal
                old += struct.pack("!cBH", b"$", 0, len(packet)) + packet
                seq += 1
                if picture:
                    time += 3600
                    self.pictures += 1
                    if self.pictures >= self.old:
                        writer.write(old)
                        old = b""
                        await writer.drain()
                        await pace.get()


def test_an_rtsp_camera_becomes_a_porchlight_camera(tmp_path):
    async def story(hub):
        camera = await RtspCamera().open()
        hub.start("--camera", f"CAM00002={camera.url}")
        cloud = await (await hub.connection()).welcome()
        relay, start = await stream_of(hub, cloud, camera="CAM00002")
        got = await packets(relay, start["video"]["payload_type"], 60)
        times = sorted({(g[1] - got[0][1]) & 0xFFFFFFFF for g in got})
        assert len(times) >= 10 and times[-1] < 90000 * 60
        camera.server.close()
        await cloud.send({**example("live.stop"), "live_id": start["live_id"], "generation": start["generation"]})
        assert (await cloud.get("live.state"))["state"] == "ended"
        relay.transport.close()

    with_hub(tmp_path, story)


def test_what_an_rtsp_camera_sent_before_is_passed_over(tmp_path):
    """The first picture that leaves is of now, and a burst of old ones neither fills the uplink nor puts the time wrong."""
    async def story(hub):
        camera = await RtspCamera(old=50).open()
        hub.start("--camera", f"CAM00002={camera.url}")
        cloud = await (await hub.connection()).welcome()
        relay, start = await stream_of(hub, cloud, camera="CAM00002")
        times = set()
        while len(times) < 40:
            times |= {g[1] for g in await packets(relay, start["video"]["payload_type"], 1)}
        assert camera.pictures >= 50 + 40 - 5
        camera.server.close()
        relay.transport.close()

    with_hub(tmp_path, story)


def test_a_camera_whose_source_fails_is_said_to_be_away(tmp_path):
    async def story(hub):
        hub.start("--camera", f"CAM00002={tmp_path / 'film.ts'}")
        cloud = await (await hub.connection()).welcome()
        assert [c["online"] for c in (await cloud.get("status"))["cameras"]] == [True, True]
        await cloud.send({**example("live.start"), "camera": "CAM00002"})
        assert (await cloud.get("live.state"))["code"] == "io_error"
        while [c["online"] for c in (await cloud.get("status"))["cameras"]] != [True, False]:
            pass

    with_hub(tmp_path, story)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q"]))
