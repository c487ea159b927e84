"""Starts of a live view: how soon the first picture is there, how soon it is live, what comes with it."""
import concurrent.futures
import json

from bench_common import note, now, pause, percentile, table
from lib.browser import Chromium
from net_field import FRAME, Trace, monotonic_ms, utc_ms

WAY = 25.0  # ms from the hub to the relay behind N50
HUB_RTT = 2 * WAY
LIVE = 300.0  # ms that a picture may be behind and still be live
NEVER = 9999.0
SPACED = 2.2  # s between two that join the same camera: the source may be asked for a key frame again by then (V-A5)
AT_ONCE = 4  # cameras that Chromium has to do with
STAY = 400  # ms that Chromium looks after its first picture
ASLEEP = 0.5  # s that nothing comes from the hub; it checks after 0, 100, 300 and 700 ms, so that it is there after 700
FIRST = ("V-A1", "p50 ≤ 300, p95 ≤ 600", lambda v: percentile(v, 0.5) <= 300 and percentile(v, 0.95) <= 600)


def p95(most):
    return lambda v: percentile(v, 0.95) <= most


def became_live(rows, base):
    """When the first picture was decoded that was no more than LIVE behind; ms."""
    return next((ms for ms, number in rows if ms - base - number * FRAME + WAY <= LIVE), None)


def one_join(lane):
    before = now()
    lane.room()
    net, ready = lane.field.net("Q32"), lane.ready(1)
    pause(max(0.0, before + SPACED - now()))
    watching = lane.join(net, ready)
    seen, trace = watching.seen()
    down = net.stats()["down"]
    net.close()
    return watching.posted, seen, trace, down


def joins(lane, runs):
    """So many viewers, one after the other, to one camera that streams."""
    field, found = lane.field, []
    keeper = lane.keep(5 * runs + 60)
    for _ in range(runs):
        found += field.tried(lambda: one_join(lane))
    keeper.viewer.kill()
    base = Trace.of(keeper.trace).base()
    return [figures(base, *one) for one in found]


def figures(base, posted, seen, trace, down):
    first = seen["began_ms"] + seen["first_packet_ms"]
    live = became_live(trace.rows, base)
    reports, apart = [seen["video_report_ms"], seen["audio_report_ms"]], seen["video_after_audio_ms"]
    return {"media": first - posted, "picture": trace.rows[0][0] - posted, "live": live - first if live else NEVER,
            "report": max(NEVER if r is None else r - seen["first_packet_ms"] for r in reports),
            "apart": NEVER if apart is None else abs(apart), "asked": seen["keyframes_asked"] > 0, "down": down}


def queue(verdicts, who, starts, downs):
    """What the router with room for 32 packets had no room for."""
    dropped, passed = sum(d["queue_full"] for d in downs), sum(d["passed"] + d["lost"] for d in downs)
    verdicts.share("V-A4, V-E4", f"{who}: packets that a queue of 32 had no room for, in {starts} starts", dropped, dropped + passed, "≤ 0.02 %", 0.0002)


def join(field, verdicts, runs):
    """V-A1, V-A4, native viewer behind N50 with a queue of 32 packets; the hub is behind N50 too."""
    field.hub_net.change("N50")
    all_of = field.share(joins, runs)
    of = {name: [f[name] for f in all_of] for name in all_of[0]}
    verdicts.add(FIRST[0], "native viewer, POST to first decoded picture", of["picture"], *FIRST[1:])
    verdicts.add("V-A1", "native viewer, second and later of a session: POST to first media", of["media"], "≤ 150", p95(150))
    verdicts.add("V-A4", f"native viewer, first media to live picture (≤ 300 ms behind); the hub's round trip is {HUB_RTT:.0f}", of["live"], f"≤ {HUB_RTT + 150:.0f}", p95(HUB_RTT + 150))
    verdicts.add("V-A4", "sound and picture apart", of["apart"], "≤ 40", lambda v: max(v) <= 40, lambda v: f"{v:.1f}")
    verdicts.add("V-A4", "first media to the later of the two sender reports", of["report"], "≤ 200", p95(200))
    queue(verdicts, "native viewer", runs, of["down"])
    note(f"{sum(of['asked'])} of {len(all_of)} viewers asked for a key frame themselves")


def visits(field, chromium, runs):
    """Chromium joins cameras that stream, in turn; of each (when it asked, its pictures, when picture 0 would have come)."""
    lanes, found = field.lanes[:AT_ONCE], []
    keepers = [lane.keep(2 * runs + 60) for lane in lanes]
    for i in range(runs):
        lane = lanes[i % len(lanes)]
        lane.room()
        found += [(i % len(lanes), took) for took in field.tried(lambda c=call(lane, STAY): chromium.run(c))]
    for keeper in keepers:
        keeper.viewer.kill()
    bases = [Trace.of(keeper.trace).base() for keeper in keepers]
    return [(monotonic_ms(took["posted"]), at(took), bases[i]) for i, took in found]


def browser(field, verdicts, runs):
    """V-A1, V-A4: Chromium, a page that stays open, as an app does, and a new peer connection each time. REST itself is not delayed: a phone adds its round trip."""
    field.hub_net.change("N50")
    net = field.net("Q32")
    with Chromium(field.page.url, loopback=True) as chromium:
        chromium.run(f"through('{net.host}', {net.port})")
        found = visits(field, chromium, runs)
    verdicts.add(FIRST[0], "Chromium, WHEP POST to first decoded picture", [rows[0][0] - posted for posted, rows, _ in found], *FIRST[1:])
    live = [became_live(rows, base) for _, rows, base in found]
    verdicts.add("V-A4", "Chromium, first decoded picture to live picture", [ms - rows[0][0] if ms else NEVER for ms, (_, rows, _) in zip(live, found)],
                 f"≤ {HUB_RTT + 150:.0f}", p95(HUB_RTT + 150))
    queue(verdicts, "Chromium", runs, [net.stats()["down"]])


def call(lane, stay):
    return f"join({json.dumps('http://' + lane.field.porch.http)}, {json.dumps(lane.field.home.api.token)}, {json.dumps(lane.device)}, {stay})"


def at(took):
    """Pictures with a number, on the monotonic clock."""
    return [(monotonic_ms(ms), number) for ms, number in took["pictures"] if number is not None]


STAGES = ("relay_ready", "hub_asked", "source_connected", "source_media", "source_keyframe", "viewer_connected", "viewer_media", "viewer_keyframe")


def cold_round(field, chromium, net, lanes):
    """Each lane's session from its request on: (stages, when the native viewer decoded its first picture, when Chromium did), milliseconds."""
    began = list(field.pool.map(lambda lane: lane.ready(1), lanes))
    field.hub_net.cut()
    watching = list(field.pool.map(lambda lane, ready: lane.join(net, ready), lanes, began))
    web = field.pool.submit(chromium.run, "Promise.all([" + ", ".join(call(lane, 0) for lane in lanes) + "])")
    pause(ASLEEP)
    field.hub_net.heal()
    concurrent.futures.wait([web])
    pictures = [w.seen()[1].rows[0][0] for w in watching]
    told = [{s["name"]: monotonic_ms(utc_ms(s["at"])) for s in lane.look()["stages"]} for lane in lanes]
    return list(zip(told, pictures, [monotonic_ms(took["pictures"][0][0]) for took in web.result()]))


def cold(field, verdicts, runs):
    """V-A3: the hub sleeps, ICE and DTLS run meanwhile. One native viewer and one Chromium start each session, both behind N50."""
    field.hub_net.change("N50")
    net, lanes, found = field.net("N50"), field.lanes[:AT_ONCE], []
    with Chromium(field.page.url, loopback=True) as chromium:
        chromium.run(f"through('{net.host}', {net.port})")
        for _ in range(-(-runs // len(lanes))):
            found += [one for all_of in field.tried(lambda: cold_round(field, chromium, net, lanes)) for one in all_of]
            field.hub_net.heal()
            for lane in lanes:
                lane.end()
    for who, column in (("native viewer", 1), ("Chromium", 2)):
        verdicts.add("V-A3", f"cold start, {who} behind N50: the first packet of the hub's first key frame at the relay to the first decoded picture",
                     [one[column] - one[0]["source_media"] for one in found], "p95 ≤ 150", p95(150))
    after = {name: [one[0][name] - one[0]["requested"] for one in found if name in one[0]] for name in STAGES}
    table([f"cold start, hub asleep for {ASLEEP:g} s, ms after the request", "p50", "p95", "max", "runs"],
          [[name, *[f"{percentile(v, p):.0f}" for p in (0.5, 0.95, 1)], len(v)] for name, v in after.items() if v])
