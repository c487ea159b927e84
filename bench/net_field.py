"""The system of bench/net: a hub with several cameras behind a bad network, viewers behind others, and what their figures say of the goals."""
import concurrent.futures
import contextlib
import datetime
import json
import os
import socket
import threading

from bench_common import note, now, percentile, table
from lib.browser import Page, chapter_page
from lib.household import Household, Viewer
from lib.netsim import Netsim, through
from lib.porch import Porch
from lib.wait import until

FRAME = 40.0  # ms between two pictures of the hub's test source
PATIENCE = 60  # s for what is no part of a measurement
PLACES = 8  # of the ten that a session has; a viewer that went away without a word keeps its own for ten seconds

PAGE = chapter_page().split('<script type="module">')[0] + """<script>
  let posted, answered;
  const send = window.fetch.bind(window), take = RTCPeerConnection.prototype.setRemoteDescription;
  window.fetch = async (url, init) => {
    const whep = String(url).endsWith("/whep");
    if (whep) posted = performance.now();
    const answer = await send(url, init);
    if (whep) answered = performance.now();
    return answer;
  };
  // The relay is reached by way of the bad network.
  function through(host, port) {
    RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
      return take.call(this, { ...answer, sdp: answer.sdp.replace(/(a=candidate:\\S+ \\d+ udp \\d+ )\\S+ \\d+/gi, `$1${host} ${port}`) });
    };
  }
  // Each picture with its number and when it was decoded, for `stay` milliseconds from the first one on.
  async function look(reader, stay) {
    const pictures = [];
    for (let first; first === undefined || performance.now() < first + stay; ) {
      const { value: frame } = await reader.read(), at = performance.now();
      first ??= at;
      const width = frame.visibleRect.width, rect = { x: frame.visibleRect.x, y: frame.visibleRect.y, width, height: LINES };
      const luma = new Uint8Array(frame.allocationSize({ rect }));
      const [plane] = await frame.copyTo(luma, { rect });
      pictures.push([performance.timeOrigin + at, stripRead(luma.subarray(plane.offset), plane.stride, width)]);
      frame.close();
    }
    return pictures;
  }
  // Joins, looks, and leaves; milliseconds of the system's clock.
  async function join(api, token, camera, stay) {
    const element = document.createElement("video");
    const shown = await watch(api, async () => token, camera, element, () => {});
    const track = shown.peer.getTransceivers().map((t) => t.receiver.track).find((t) => t.kind === "video");
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    try {
      const never = new Promise((_, reject) => setTimeout(() => reject(new Error("no picture within 20 s")), 20000));
      const pictures = await Promise.race([look(reader, stay), never]);
      return { posted: performance.timeOrigin + posted, answered: performance.timeOrigin + answered, pictures };
    } finally {
      await shown.stop();
      reader.releaseLock();
      element.srcObject = null;
    }
  }
</script>"""
PAGE = PAGE.replace("<script>", '<script src="measure.js"></script>\n<script>', 1)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def monotonic_ms(utc_ms):
    """The monotonic clock at a time of the system's clock; both run alike over a run."""
    return utc_ms + (now() - datetime.datetime.now(datetime.timezone.utc).timestamp()) * 1000


def utc_ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


class Trace:
    """Pictures as they were decoded: (ms of the monotonic clock, frame number)."""

    def __init__(self, rows):
        self.rows = rows

    @classmethod
    def of(cls, path):
        with open(path, encoding="ascii") as f:
            return cls([(float(ms), int(number)) for ms, number in map(str.split, f)])

    def base(self):
        """When picture 0 would have come, on the quickest way."""
        return min(ms - number * FRAME for ms, number in self.rows)


class Watching:
    """A viewer that joined: the process, and when the POST went out (ms)."""

    def __init__(self, viewer, trace, posted, live):
        self.viewer, self.trace, self.posted, self.live_id = viewer, trace, posted, live["live_id"]

    def seen(self, timeout=60):
        """Waits for its bound; (summary, Trace)."""
        return self.viewer.summary(timeout), Trace.of(self.trace)


def waits_for_stdin(pid):
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        return f.read().startswith("0 0x0 ")  # read(0, …): all that it can have before its session is there


class Lane:
    """One camera, with a session at a time."""

    def __init__(self, field, camera):
        self.field, self.device, self.live_id = field, field.home.cameras[camera], None

    def ready(self, seconds):
        """A viewer that was started and waits for its session: what an app has before somebody taps."""
        name = self.field.name()
        trace = os.path.join(self.field.folder, f"trace-{name}")
        viewer = Viewer(self.field.porch, None, os.path.join(self.field.folder, f"viewer-{name}"), "--seconds", seconds, "--trace", trace, "--every", 1000000)
        self.field.viewers.append(viewer)
        until(lambda: waits_for_stdin(viewer.process.pid), "the viewer waits for its session", PATIENCE)
        return viewer, trace

    def join(self, net, ready, asks_again=("relay_timeout",)):
        """The POST, and the viewer goes on with its answer, behind this network. An app that is told that the relay did not answer in time asks again; its time runs on."""
        viewer, trace = ready
        posted = now() * 1000
        live = until(lambda: (r := self.ask()).code not in asks_again and r, "the relay answers", PATIENCE).ok(201)
        viewer.begin(through(net, live["srtp"]))
        self.live_id = live["live_id"]
        return Watching(viewer, trace, posted, live)

    def ask(self):
        return self.field.home.api.post(f"/v1/devices/{self.device}/live", {}, check=False)

    def look(self):
        return self.field.get(f"/v1/live/{self.live_id}")

    def keep(self, seconds, **how):
        """A viewer that keeps the camera streaming, right at the relay: the measure of who is late."""
        watching = self.join(self.field.direct, self.ready(seconds), **how)
        until(lambda: self.look()["state"] == "live", "the session is live", PATIENCE)
        return watching

    def room(self):
        until(lambda: self.look()["viewers"] < PLACES, "viewers that left have given their places back", PATIENCE)

    def end(self):
        if self.live_id:
            self.field.home.api.delete(f"/v1/live/{self.live_id}", check=False)
        self.live_id = None


class Field:
    def __init__(self, folder, cameras):
        os.chmod(folder, 0o755)  # PostgreSQL runs as a user of its own
        self.folder, self.count, self.lock, self.page = folder, 0, threading.Lock(), Page(PAGE).__enter__()
        self.viewers, self.nets, self.failed = [], [], 0
        self.media = f"127.0.0.1:{free_port()}"
        self.hub_net, self.direct = Netsim("none", to=self.media), Netsim("none", to=self.media)
        self.porch = Porch(os.path.join(folder, "data"), clock=False,
                           extra=["--media", self.media, "--advertise", f"127.0.0.1:{self.hub_net.port}", "--set", f"http.allowed_origins={self.page.origin}"])
        self.home = Household(self.porch.start(), self.porch.sign_up(), cameras, more=["--verbose"])
        self.lanes = [Lane(self, i) for i in range(cameras)]
        self.pool = concurrent.futures.ThreadPoolExecutor(cameras + 1)

    def close(self):
        with contextlib.ExitStack() as undo:
            undo.callback(self.page.__exit__)
            for net in (self.hub_net, self.direct):
                undo.callback(net.close)
            undo.callback(self.porch.close)
            undo.callback(self.home.close)
            self.fresh()

    def name(self):
        with self.lock:
            self.count += 1
            return self.count

    def net(self, profile):
        """A network that lasts until the part is over; its seed is its number."""
        net = Netsim(profile, to=self.media, seed=self.name())
        self.nets.append(net)
        return net

    def fresh(self):
        """Nothing is left of the part before: no viewer, no session, no bad network."""
        for viewer in self.viewers:
            viewer.process.kill()
            viewer.process.wait()
        for net in self.nets:
            net.close()
        self.viewers, self.nets = [], []
        api = self.home.api  # its access token lasts a quarter of an hour
        api.take_tokens(api.post("/v1/sessions/refresh", {"refresh_token": api.tokens["refresh_token"]}).ok(200))
        for lane in self.lanes:
            lane.end()
        self.hub_net.heal()
        self.hub_net.change("none")

    def tried(self, run):
        """[run()], or nothing when it failed, which is counted: one start of many that goes wrong does not take the others' figures along."""
        try:
            return [run()]
        except AssertionError as e:
            note(f"a run failed: {str(e)[:500]}")
            with self.lock:
                self.failed += 1
            return []

    def get(self, path):
        return self.home.api.get(path, check=False).ok(200)

    def all(self, work, *more):
        """work(lane, …) in every lane at once; returns when the last one is over, also if one fails."""
        under_way = [self.pool.submit(work, *args) for args in zip(self.lanes, *more)]
        concurrent.futures.wait(under_way)
        return [one.result() for one in under_way]

    def parts(self, runs):
        """How many of the runs each lane has."""
        n = len(self.lanes)
        return [runs // n + (i < runs % n) for i in range(n)]

    def share(self, work, runs):
        """work(lane, its part of the runs) in every lane at once; what they return, one after the other."""
        return [r for found in self.all(work, self.parts(runs)) for r in found]

    def key_requests(self):
        """Milliseconds between two requests of the relay for a key frame, of each session that the hub has served."""
        last, apart = {}, []
        with open(self.home.hub.log, encoding="utf-8") as log:
            for line in log:
                said = json.loads(line) if '"stream.key_wanted"' in line and '"relay"' in line else None
                if said:
                    at = utc_ms(said["time"])
                    if said["live_id"] in last:
                        apart.append(at - last[said["live_id"]])
                    last[said["live_id"]] = at
        return apart


class Verdicts:
    """One row for each figure that a goal speaks of."""

    def __init__(self):
        self.rows = []

    def add(self, goal_id, what, values, goal, met, show=lambda v: f"{v:.0f}", least=False):
        """`least`: the least of them is the worst."""
        shown = [show(percentile(values, 1 - p if least else p)) for p in (0.5, 0.95, 1)]
        self.rows.append([goal_id, what, *shown, len(values), goal, "met" if met(values) else "not met"])

    def share(self, goal_id, what, part, whole, goal, most):
        self.rows.append([goal_id, what, "–", "–", f"{part} of {whole:,}", "–", goal, "met" if whole and part <= most * whole else "not met"])

    def missing(self, part, why):
        self.rows.append([part, f"could not be measured: {why.splitlines()[0]}", "–", "–", "–", "–", "–", "not shown"])

    def print(self, failed):
        if failed:
            self.rows.append(["–", "starts that failed; they are in none of the above", "–", "–", failed, "–", "0", "not met"])
        table(["goal", "ms where nothing else is said", "p50", "p95", "worst", "runs", "goal says", ""], self.rows)
