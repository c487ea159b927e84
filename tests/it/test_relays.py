"""Several relays: which one a live view begins at, and what becomes of it when that one is full, silent or gone. Relays and hub are simulated; no media here."""
import itertools

import pytest
from simrelay import SimRelay
from lib.porch import Porch
from lib.wait import until
from test_live_control import Sim


_n = itertools.count(1)


class Two(Sim):
    """A system, and two relays that have as much room; `relay` is the one that is asked first."""

    def __init__(self, porch, **how):
        super().__init__(porch, **how)
        self.other = SimRelay(porch, f"other {next(_n)}", beside=[self.relay])
        self.other.port = 10
        self.other.open()
        for relay in (self.relay, self.other):
            relay.answers("session.open", "viewer.add", "session.close")

    def close(self):
        super().close()
        self.other.close()

    def asked(self, relay, kind="session.open"):
        return [m for m in relay.messages if m["type"] == kind]

    def row(self, relay, what):
        with self.porch.db() as db:
            return db.execute(f"SELECT {what} FROM relay WHERE id = %s", (relay.id,)).fetchone()[0]

    def says(self, relay, **stats):
        """The relay counts, and the cloud has it."""
        before = self.row(relay, "seen_at")
        relay.send("stats", **{"sessions": 0, "viewers": 0, **stats})
        until(lambda: self.row(relay, "seen_at") != before, "its count is written")

    def pass_time(self, seconds):
        """In steps in which the node stays alive."""
        for _ in range(0, seconds, 5):
            self.porch.clock.advance(5)
            until(self._leased, "the node has renewed its lease")

    def _leased(self):
        with self.porch.db() as db:
            return db.execute("SELECT max(lease_until) > to_timestamp(%s) + interval '10 s' FROM node", (self.porch.clock.now(),)).fetchone()[0]

    def end_code(self, live_id):
        return self.api.get(f"/v1/live/{live_id}").ok(200).body.get("end_code")


@pytest.fixture(scope="module")
def porch(tmp_path_factory):
    p = Porch(tmp_path_factory.mktemp("relays") / "data")
    try:
        yield p.start()
        p.stop()
    finally:
        p.close()


@pytest.fixture
def two(porch):
    home = Two(porch, cameras=4)
    yield home
    home.close()


def test_another_relay_is_asked_when_one_is_full_V_G4(two):
    two.relay.refuses(session_open="node_full")
    live = two.live().ok(201)
    refused, taken = two.relay.expect("session.open"), two.other.expect("session.open", live_id=live["live_id"])
    assert live["srtp"]["port"] == two.other.port and two.hub.expect("live.start", live_id=live["live_id"])["relay"]["port"] == two.other.port
    for of in ("ice", "keys", "video"):  # S-M6: nothing of the one is the other's
        assert refused["source"][of] != taken["source"][of]
    assert refused["live_id"] != taken["live_id"]
    two.live(1).ok(201)
    assert not two.asked(two.relay)  # it is the last to be asked until it says something
    two.relay.refuses()
    two.says(two.relay)
    two.says(two.other, sessions=2)
    assert two.live(2).ok(201)["srtp"]["port"] == two.relay.port


def test_node_full_means_all_of_them_V_G4(two):
    for relay in (two.relay, two.other):
        relay.refuses(session_open="node_full")
    two.live().refused("node_full")
    assert len(two.asked(two.relay)) == len(two.asked(two.other)) == 1
    assert two.running() == 0
    two.other.refuses()
    two.live().ok(201)


def test_a_relay_that_hangs_takes_no_start_with_it(two):
    """What it opens when it comes round is nobody's: it is told to close it."""
    two.relay.answers()
    live = two.live().ok(201)
    assert live["srtp"]["port"] == two.other.port
    left = two.relay.expect("session.open")
    two.relay.expect("session.close", live_id=left["live_id"])
    two.live(1).ok(201)
    assert not two.asked(two.relay)
    two.other.answers()
    two.live(2).refused("relay_timeout")
    for relay in (two.other, two.relay):
        relay.expect("session.open", live_id=relay.expect("session.close")["live_id"])
    assert two.running() == 2


def test_a_relay_that_goes_while_it_is_asked_is_not_the_last_one(two):
    two.relay.answers()
    two.relay.came = lambda m: two.relay._loop.call_soon(two.relay._ws.transport.abort) if m["type"] == "session.open" else None
    assert two.live().ok(201)["srtp"]["port"] == two.other.port


def test_the_busy_relay_is_not_the_one_with_few_sessions_V_G4(two):
    two.says(two.relay, sessions=5, busy_percent=70)
    two.says(two.other, sessions=50, busy_percent=20)
    assert two.live().ok(201)["srtp"]["port"] == two.other.port


def test_a_rush_is_spread_before_it_is_counted_V_G4(two):
    ports = [two.live(i).ok(201)["srtp"]["port"] for i in range(4)]
    assert sorted(ports) == [two.relay.port] * 2 + [two.other.port] * 2


@pytest.mark.parametrize("transport", ["srtp", "webrtc"])
def test_a_relay_that_is_gone_keeps_no_camera_V_F5(two, transport):
    """Fifteen seconds are enough to come back; then whoever wants to watch gets another relay. Should the old one come after all, it is told that its session is over."""
    def watch():
        return two.api.post(f"/v1/devices/{two.cameras[0]}/live", {"transport": transport})
    first = watch().ok(201)["live_id"]
    two.pass_time(60)
    two.relay.close()
    until(lambda: not two.row(two.relay, "connected"), "it is gone")
    two.pass_time(10)
    early = watch()
    assert early.code == "no_relay" if transport == "srtp" else early.ok(201)["live_id"] == first
    two.pass_time(10)
    second = watch().ok(201)["live_id"]
    assert second != first and two.end_code(first) == "relay_lost"
    two.hub.expect("live.stop", live_id=first)
    opened = two.other.expect("session.open", live_id=second)
    assert two.hub.expect("live.start", live_id=second)["relay"]["port"] == two.other.port
    if transport == "srtp":
        assert opened["source"]["keys"] != two.relay.expect("session.open", live_id=first)["source"]["keys"]  # S-M6
    with SimRelay(two.porch, copy_of=two.relay, beside=[two.other]).open(running=[first]) as back:
        assert back.expect("live.sync")["sessions"] == []
    assert watch().ok(201)["live_id"] == second


def test_a_relay_that_is_gone_keeps_its_viewers_until_another_takes_their_place_V_F6(two):
    """Media may flow though its control connection is away: what runs is not ended for a view that begins nowhere."""
    first = two.live(0).ok(201)["live_id"]
    two.pass_time(60)
    two.relay.close()
    two.other.refuses(session_open="node_full")
    until(lambda: not two.row(two.relay, "connected"), "it is gone")
    two.pass_time(20)
    two.live(0).refused("node_full")
    assert two.end_code(first) is None
    assert not [m for m in two.hub.messages if m["type"] == "live.stop"]
    two.other.refuses()
    second = two.live(0).ok(201)["live_id"]
    assert second != first and two.end_code(first) == "relay_lost"
    two.hub.expect("live.stop", live_id=first)


def test_a_relay_that_stands_still_holds_up_nobody_S_S5(two):
    """What it is to cut ends with its session; who watches at another relay is cut there at once, and the others watch on."""
    phones = [two.porch.log_in(two.account) for _ in range(2)]
    stuck = two.live(0).ok(201)
    two.relay.expect("session.open", live_id=stuck["live_id"])
    for _ in range(6):
        two.live(0, api=phones[0]).ok(201)
    two.says(two.relay, sessions=SimRelay.max_sessions)
    well = two.live(1).ok(201)
    two.other.expect("session.open", live_id=well["live_id"])
    joined = two.live(1, api=phones[1]).ok(201)
    two.relay.answers()
    two.other.lets_go(True)
    for phone in phones:
        phone.delete("/v1/sessions/current").ok(204)
    two.other.expect("viewer.remove", live_id=well["live_id"], viewer_id=joined["viewer_id"])
    until(lambda: two.end_code(stuck["live_id"]) == "revoked", "the session of the one that stands still ends")
    assert two.end_code(well["live_id"]) is None
