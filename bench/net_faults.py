"""What a running live view meets: loss, another address, viewers, a relay and a cloud that die."""
from bench_common import now, pause, percentile
from lib.events import Events
from lib.wait import until
from net_field import FRAME, PATIENCE

HELD_BACK = 300.0  # ms that a player holds pictures back
SETTLED = 2000.0  # ms after the first picture, when the join is over
WINDOW = 5000.0  # ms of viewing that count as a run
VIEWERS = 2  # of each camera behind L100 themselves
APART = 3.0  # s between two changes of an address
DYING = 5  # viewers of each camera that die at once
CALM = 11  # s that a process has to be up before porchctl starts it again without waiting first
WATCHED = 20.0  # s that the viewers of a cloud that dies watch
NOT_YET = ("hub_offline", "no_relay", "relay_timeout")  # what an app is told while hub and relay are on their way back from a kill


def frozen_of(trace):
    """Of each WINDOW, how long the screen showed the picture before for more than its turn, in ms. The player goes by what was quickest in a window: a hub that had no core for a second
    lets that time out, and is no later from then on."""
    rows = [(ms, number) for ms, number in trace.rows if ms >= trace.rows[0][0] + SETTLED]
    base = {}
    for ms, number in rows:
        base[ms // WINDOW] = min(base.get(ms // WINDOW, ms), ms - number * FRAME)
    shown = [max(ms, base[ms // WINDOW] + number * FRAME + HELD_BACK) for ms, number in rows]
    frozen = [0.0] * int((shown[-1] - shown[0]) // WINDOW)
    for a, b in zip(shown, shown[1:]):
        window = int((a - shown[0]) // WINDOW)
        if window < len(frozen):
            frozen[window] += max(0.0, b - a - FRAME - 1)
    return frozen


def loss(field, verdicts, runs):
    """V-E1: 5 % loss at 100 ms, on the viewers' ways, then on the hub's."""
    for side, viewer_side, hub_side, each in (("viewer", "L100", "none", VIEWERS), ("hub", "none", "L100", 1)):
        field.hub_net.change(hub_side)
        windows = -(-runs // (each * len(field.lanes)))
        seconds = int((windows * WINDOW + SETTLED) / 1000) + 2
        began = field.all(lambda lane, n=each, s=seconds: [lane.ready(s) for _ in range(n)])
        watching = field.all(lambda lane, ready, profile=viewer_side: [lane.join(field.net(profile), one) for one in ready], began)
        found = [w.seen(seconds + 60) for lane in watching for w in lane]
        frozen = [ms for _, trace in found for ms in frozen_of(trace)]
        never, packets = sum(s["video_lost"] + s["audio_lost"] for s, _ in found), sum(s["packets"] for s, _ in found)
        where = f"5 % loss at 100 ms on the {side}'s way"
        verdicts.add("V-E1", f"{where}: how much of {WINDOW / 1000:.0f} s is frozen; of all {sum(frozen) / WINDOW / len(frozen):.2%}", [ms / WINDOW for ms in frozen], "≤ 1 %",
                     lambda v: sum(v) <= 0.01 * len(v), lambda v: f"{v:.1%}")
        verdicts.share("V-E1", f"{where}: packets that never came", never, packets + never, "≤ 0.1 %", 0.001)
        field.all(lambda lane: lane.end())


def moves(lane, count):
    """Milliseconds from each of so many changes to the next picture."""
    if count == 0:
        return []
    net = lane.field.net("N50")
    watching, moved = lane.join(net, lane.ready(int(APART * count) + 6)), []
    pause(2)
    for _ in range(count):
        pause(APART)
        net.move()
        moved.append(now() * 1000)
    pictures = [at for at, _ in watching.seen()[1].rows]
    # What was under way when the address changed still comes: the end of the hole counts.
    return [max((b - a, b - at) for a, b in zip(pictures, pictures[1:]) if at - 200 < b < at + 2800)[1] for at in moved]


def move(field, verdicts, runs):
    """V-F3: viewers behind N50 whose address changes."""
    verdicts.add("V-F3", "another address behind N50, native viewer: change to next decoded picture", field.share(moves, runs), "p95 ≤ 1000", lambda v: percentile(v, 0.95) <= 1000)


def watchers(lane, n):
    """So many viewers, each behind a network of its own that only counts."""
    found = []
    for ready in [lane.ready(60) for _ in range(n)]:
        net = lane.field.net("none")
        found.append((lane.join(net, ready), net))
    until(lambda: all(net.stats()["down"]["passed"] > 100 for _, net in found), "each has pictures")
    return found


def die(field, share):
    """All viewers of all lanes are killed at once: (ms until the last packet to each, ms until each place was free)."""
    found = [one for lane in field.all(watchers, share) for one in lane]
    for watching, _ in found:
        watching.viewer.process.kill()
    died = now() * 1000
    last, freed, there = [(0, died)] * len(found), [], sum(share)
    end = died + 20000
    while (there or now() * 1000 < died + 8000) and now() * 1000 < end:
        pause(0.02)
        for i, (_, net) in enumerate(found):
            passed = net.stats()["down"]["passed"]
            if passed != last[i][0]:
                last[i] = passed, now() * 1000
        still = sum(lane.look()["viewers"] for lane, n in zip(field.lanes, share) if n)
        freed += [now() * 1000 - died] * (there - still)
        there = still
    freed += [end - died] * there
    field.fresh()
    return [at - died for _, at in last], freed


def dead(field, verdicts, runs):
    """V-F4: viewers that are killed, many at once."""
    stopped, freed = [], []
    while len(stopped) < runs:
        a, b = die(field, field.parts(min(runs - len(stopped), DYING * len(field.lanes))))
        stopped += a
        freed += b
    verdicts.add("V-F4", "killed native viewer: its end to the last packet that went to it", stopped, "≤ 5000", lambda v: max(v) <= 5000)
    verdicts.add("V-F4", "killed native viewer: its end to its place being free", freed, "≤ 10000", lambda v: max(v) <= 10000)


def watch_again(lane, told, ready, killed):
    """An app whose relay has died: it is told so, asks for a live view again, and shows it. (ms until it was told, ms until the next picture.)"""
    told.wait("live.state", lambda d: d["live_id"] == lane.live_id and d.get("end_code") == "relay_restarted", PATIENCE)
    heard = now() * 1000
    watching = lane.join(lane.field.direct, ready, asks_again=NOT_YET)
    return heard - killed, watching.seen()[1].rows[0][0] - killed


def relay_dies(field, told):
    """kill -9 of the relay that carries all lanes' sessions."""
    watched = field.all(lambda lane: lane.keep(60))
    began = field.all(lambda lane: lane.ready(1))
    calm = now() + CALM
    killed = now() * 1000
    field.porch.kill("porchlight-relay", wait=False)
    found = field.all(lambda lane, ready: watch_again(lane, told, ready, killed), began)
    for one in watched:
        one.viewer.kill()
    field.all(lambda lane: lane.end())
    pause(max(0.0, calm - now()))
    return found


def relay(field, verdicts, runs):
    """V-F5: kill -9 of the relay; what each app hears, and sees by a new POST."""
    found = []
    with Events(field.porch, field.home.api.token) as told:
        while len(found) < runs:
            found += relay_dies(field, told)
    verdicts.add("V-F5", "kill -9 of the relay: until the app's event socket says relay_restarted", [a for a, _ in found], "≤ 1000", lambda v: percentile(v, 0.95) <= 1000)
    verdicts.add("V-F5", "kill -9 of the relay: until the picture is back by a new POST", [b for _, b in found], "p95 ≤ 3000", lambda v: percentile(v, 0.95) <= 3000)


def cloud(field, verdicts, runs):
    """V-F6: kill -9 of porchlightd under viewers that watch; a run is one viewer over one kill."""
    never = packets = kills = 0
    while kills * len(field.lanes) < runs:
        watching = field.all(lambda lane: lane.keep(int(WATCHED), asks_again=NOT_YET))
        began = now()
        while now() < began + WATCHED / 2:
            field.porch.kill("porchlightd")
            field.porch.wait_ready()
            kills += 1
        seen = [one.seen()[0] for one in watching]
        never += sum(s["video_lost"] + s["audio_lost"] for s in seen)
        packets += sum(s["packets"] for s in seen)
        field.all(lambda lane: lane.end())
    verdicts.share("V-F6", f"kill -9 of porchlightd, {kills} times: packets of {len(field.lanes)} viewers that never came", never, packets + never, "0", 0)
