"""A hub's media by WebRTC: GStreamer's webrtcbin offers a test picture (H.264) and 440 Hz (Opus) by WHIP, and takes the answer. Run as a program it is the process.

    with WhipPublisher(url, token) as publisher:
        publisher.location, publisher.cipher()"""
import json
import os
import subprocess
import sys

PIPELINE = """webrtcbin name=peer bundle-policy=max-bundle
  videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=25/1 ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=50 bframes=0
  ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency mtu=1150
  ! application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000 ! peer.
  audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000 ! peer."""


class WhipPublisher:
    def __init__(self, url, token):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), url, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        told = self._line()
        assert told.get("status") == 201, (told, self.process.stderr.read() if self.process.poll() is not None else "")
        self.location, self.answer = told["location"], told["answer"]
        return self

    def _line(self):
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1][-2000:]
        return json.loads(line)

    def cipher(self):
        """The SRTP cipher that its DTLS elements were told to use."""
        self.process.stdin.write("cipher\n")
        self.process.stdin.flush()
        return self._line()["cipher"]

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def post(url, token, sdp):
    import urllib.error
    import urllib.request
    request = urllib.request.Request(url, sdp.encode(), {"Content-Type": "application/sdp", "Authorization": f"Bearer {token}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as reply:
            return {"status": reply.status, "location": reply.headers["Location"], "answer": reply.read().decode()}
    except urllib.error.HTTPError as refused:
        return {"status": refused.code, "answer": refused.read().decode()}


def main(url, token):
    import threading

    import gi
    gi.require_version("Gst", "1.0")
    gi.require_version("GstWebRTC", "1.0")
    gi.require_version("GstSdp", "1.0")
    from gi.repository import GLib, Gst, GstSdp, GstWebRTC
    Gst.init(None)
    pipeline = Gst.parse_launch(PIPELINE)
    peer, loop = pipeline.get_by_name("peer"), GLib.MainLoop()

    def offered(promise, *_):
        made = promise.get_reply()  # the offer lives in it
        offer = made.get_value("offer")
        peer.emit("set-local-description", offer, Gst.Promise.new())
        reply = post(url, token, offer.sdp.as_text())
        if reply["status"] == 201:
            _, sdp = GstSdp.SDPMessage.new_from_text(reply["answer"])
            peer.emit("set-remote-description", GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp), Gst.Promise.new())
        print(json.dumps(reply), flush=True)

    def ciphers():
        found = set()
        it = pipeline.iterate_recurse()
        while (step := it.next())[0] == Gst.IteratorResult.OK:
            element = step[1]
            if element.get_factory() and element.get_factory().get_name() == "srtpenc":
                found.add(element.get_property("rtp-cipher").value_nick + "/" + element.get_property("rtp-auth").value_nick)
        return sorted(found)

    def asked():
        for _ in sys.stdin:
            print(json.dumps({"cipher": ciphers()}), flush=True)
        loop.quit()

    peer.connect("on-negotiation-needed", lambda element: element.emit("create-offer", None, Gst.Promise.new_with_change_func(offered)))
    threading.Thread(target=asked, daemon=True).start()
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
