"""Senders that know nothing of Porchlight as the source of a session: found by SSRC, believed by the tag. Each test names its cipher, and the other one is refused."""
import base64
import contextlib
import socket
import subprocess
import threading

import pytest
from lib.household import Household, watch
from lib.wait import until

GCM, SHA1 = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"


@pytest.fixture(scope="module")
def home(porch):
    h = Household(porch, porch.sign_up())
    h.hub.stop()  # no hub has a part in this
    yield h


@contextlib.contextmanager
def running(*args):
    process = subprocess.Popen(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        said = process.communicate()[1]
        if said:
            print(said[-2000:])


@contextlib.contextmanager
def plain(home, suite):
    """A session that no hub sends; ended afterwards, so that the next test can open its own."""
    live = home.live(source="plain", suites=[suite]).ok(201)
    try:
        assert live["source"]["suite"] == suite and not {"srtp", "viewer_id"} & set(live.body)
        yield live
    finally:
        assert home.api.delete(f"/v1/live/{live['live_id']}").status == 204


def ffmpeg(source, suite=SHA1, audio=True):
    """Video and sound as two outputs of one unmodified ffmpeg, from two ports of its own."""
    to = f"srtp://{source['host']}:{source['port']}?pkt_size={source['mtu']}&rtcpport={source['port']}"

    def out(track, *coding):
        keys = ("-srtp_out_suite", suite, "-srtp_out_params", source["key"])
        return (*coding, "-ssrc", source[track]["ssrc"], "-payload_type", source[track]["payload_type"], "-f", "rtp", *keys, to)
    args = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"]
    args += ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"] if audio else []
    args += out("video", "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "50", "-bsf:v", "dump_extra")
    args += out("audio", "-map", "1:a", "-c:a", "libopus", "-b:a", "32k") if audio else []
    return args


def gstreamer(source, cipher="aes-128-gcm", auth="null"):
    key = base64.b64decode(source["key"], validate=True).hex()
    return ["gst-launch-1.0", "-q", "videotestsrc", "is-live=true", "!", "video/x-raw,width=640,height=360,framerate=25/1", "!", "x264enc", "tune=zerolatency",
            "speed-preset=ultrafast", "key-int-max=50", "!", "video/x-h264,profile=baseline", "!", "rtph264pay", "config-interval=-1", "mtu=1150",
            f"pt={source['video']['payload_type']}", f"ssrc={source['video']['ssrc']}", "!", "srtpenc", f"key={key}", f"rtp-cipher={cipher}", f"rtp-auth={auth}",
            f"rtcp-cipher={cipher}", f"rtcp-auth={auth}", "!", "udpsink", f"host={source['host']}", f"port={source['port']}"]


class Tap:
    """Stands between sender and relay and counts what it hands on."""

    def __init__(self, source):
        self.to, self.passed = (source["host"], source["port"]), 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while data := self.socket.recv(2048):
            self.socket.sendto(data, self.to)
            self.passed += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()


def test_ffmpeg_is_a_source_AES_CM_128_HMAC_SHA1_80(porch, home, tmp_path):
    with plain(home, SHA1) as live, running(*ffmpeg(live["source"])):
        until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the relay has a key frame of ffmpeg's")
        seen = watch(porch, home.live(suites=[SHA1]).ok(201), tmp_path, 100)
        assert seen["suite"] == SHA1 and seen["frames"] >= 100 and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, seen
        assert seen["audio_seconds"] > 1 and seen["tone"]["ratio"] > 0.8 and seen["tone"]["level"] > 0.01, seen


def test_gstreamer_is_a_source_AEAD_AES_128_GCM(porch, home, tmp_path):
    with plain(home, GCM) as live, running(*gstreamer(live["source"])):
        until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live", "the relay has a key frame of GStreamer's")
        seen = watch(porch, home.live(suites=[GCM]).ok(201), tmp_path, 100)
        assert seen["suite"] == GCM and seen["frames"] >= 100 and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, seen


@pytest.mark.parametrize("agreed, sender", [
    (SHA1, lambda s: gstreamer({**s, "key": base64.b64encode(base64.b64decode(s["key"])[:28]).decode()})),
    (GCM, lambda s: ffmpeg({**s, "key": base64.b64encode(base64.b64decode(s["key"]) + b"\0\0").decode()}, audio=False)),
    (SHA1, lambda s: ffmpeg({**s, "key": base64.b64encode(bytes(30)).decode()}, audio=False)),
], ids=["GCM-instead-of-SHA1_80", "SHA1_80-instead-of-GCM", "another-key"])
def test_another_cipher_or_key_is_not_believed_S_M2(porch, home, agreed, sender):
    with plain(home, agreed) as live, Tap(live["source"]) as tap, running(*sender({**live["source"], "port": tap.port})):
        until(lambda: tap.passed > 50, "the sender's packets have reached the relay")
        # This asks the relay, which answers after what came before; had it believed one packet, it would have said so first.
        now = home.live().ok(201)
        assert now["live_id"] == live["live_id"] and now["state"] == "waking_hub", now
        assert not {"source_connected", "source_media"} & {s["name"] for s in now["stages"]}, now


def test_a_plain_source_stands_aside_for_a_running_session(porch, home, other_account):
    with plain(home, GCM):
        home.live(source="plain").refused("version_conflict")
    home.live(source="plain", suites=["NULL"]).refused("unsupported_media")
    other_account.api.post(f"/v1/devices/{home.cameras[0]}/live", {"source": "plain"}).refused("not_found")
    home.live().refused("hub_offline")
