"""A browser that watches: the page of docs/app-developers-live.md, with tests/web/measure.js looking at what it shows."""
import json

from .browser import chapter_page

PAGE = chapter_page().split('<script type="module">')[0].replace("<script>", '<script src="measure.js"></script>\n<script>', 1) + """<script>
  const seen = new Seen();
  let shown, said;
  // From here on the relay is reached at this address: a bad network in between.
  function through(host, port) {
    const take = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
      return take.call(this, { ...answer, sdp: answer.sdp.replace(/(a=candidate:\\S+ \\d+ udp \\d+ )\\S+ \\d+/gi, `$1${host} ${port}`) });
    };
  }
  async function start(api, token, camera) {
    shown = await watch(api, async () => token, camera, document.getElementById("video"), (text) => (said = text));
    for (const { receiver } of shown.peer.getTransceivers())
      if (receiver.track.kind === "video") seen.pictures(receiver.track);
    seen.sound(document.getElementById("video").srcObject);
    return shown.live.live_id;
  }
</script>"""

# Sound alone, for a browser without H.264: the offer leaves the page, and the answer comes, by the test.
SOUND = """<!doctype html>
<script src="measure.js"></script>
<audio id="audio" autoplay></audio>
<script>
  const seen = new Seen(), peer = new RTCPeerConnection();
  peer.addTransceiver("audio", { direction: "recvonly" });
  peer.ontrack = (event) => {
    document.getElementById("audio").srcObject = new MediaStream([event.track]);
    seen.sound(document.getElementById("audio").srcObject);
  };
  async function offer() {
    await peer.setLocalDescription();
    return peer.localDescription.sdp;
  }
  const take = (sdp) => peer.setRemoteDescription({ type: "answer", sdp });
</script>"""


GOP = 50  # frames between two key frames of the test picture


class Watcher:
    """with Watcher(browser, porch, api, camera) on a page of PAGE."""

    def __init__(self, browser, porch, token, camera):
        self.browser = browser
        self.live_id = browser.run(f"start({json.dumps('http://' + porch.http)}, {json.dumps(token)}, {json.dumps(camera)})")

    def joined(self):
        """Waits until it is past its start: who comes to frames that were sent already sees the cached key frame at once and goes on from the fresh one (V-A4)."""
        seen = self.more(GOP + 10)
        assert seen["damaged"] == 0 and seen["missing"] < GOP and seen["backwards"] == 0, seen
        self.browser.run("seen.again()")

    def more(self, frames):
        self.browser.run(f"seen.more({frames})")
        return self.browser.run("seen.summary()")

    def negotiated(self):
        return self.browser.run("negotiated(shown.peer)")

    def ufrag(self):
        return self.browser.run("shown.peer.localDescription.sdp.match(/a=ice-ufrag:(\\S+)/)[1]")

    def heard(self):
        return self.browser.run("seen.heard()")

