"""Live sessions against a simulated relay and hub: what happens between the steps. No media here."""
import itertools
import threading
import uuid

import pytest
from simhub import add_camera, add_hub, make
from simrelay import SimRelay
from lib.events import Events
from lib.wait import until

_n = itertools.count(1)


class Sim:
    """A system with a relay and a hub of the test's own; `cameras` are device ids."""

    def __init__(self, porch, cameras=1, **hello):
        self.porch, self.account = porch, porch.sign_up()
        self.api = self.account.api
        self.device, *self.made = make(porch, "hub", *["wireless"] * cameras)
        self.relay = SimRelay(porch, f"sim {next(_n)}").open()
        self.system_id = self.api.post("/v1/systems", {"name": f"Sim {next(_n)}"}).ok(201)["id"]
        self.hub, self.hub_id = add_hub(porch, self.api, self.system_id, self.device, **hello)
        self.cameras = [add_camera(self.api, self.hub, self.system_id, one) for one in self.made]

    def live(self, camera=0, api=None):
        return (api or self.api).post(f"/v1/devices/{self.cameras[camera]}/live", {})

    def running(self):
        with self.porch.db() as db:
            return db.execute("SELECT count(*) FROM live WHERE account_id = %s AND ended_at IS NULL", (self.account.id,)).fetchone()[0]

    def have_keys(self, live_id):
        """How many rows of viewers a session has."""
        with self.porch.db() as db:
            return db.execute("SELECT count(*) FROM live_viewer WHERE live_id = %s", (live_id,)).fetchone()[0]

    def facts_handled(self):
        with self.porch.db() as db:
            return db.execute("SELECT count(*) FROM fact WHERE done_at IS NULL").fetchone()[0] == 0

    def close(self):
        self.hub.close()
        self.relay.close()


@pytest.fixture
def sim(own_porch):
    made = []

    def make_sim(**how):
        made.append(Sim(own_porch(), **how))
        return made[-1]

    yield make_sim
    for s in made:
        s.close()


class Later:
    """A call on a thread of its own."""

    def __init__(self, call):
        self._thread = threading.Thread(target=lambda: setattr(self, "_reply", call()), daemon=True)
        self._thread.start()

    def reply(self):
        self._thread.join(30)
        return self._reply


def test_extending_holds_no_row_while_the_relay_is_asked(sim):
    """The relay's reports come in order: one that waits for a row that the extension holds would keep the relay's own answer from being heard."""
    home = sim()
    home.relay.answers("session.open", "viewer.add")
    live = home.live().ok(201)
    longer = Later(lambda: home.api.patch(f"/v1/live/{live['live_id']}", {"extend": True}))
    asked = home.relay.expect("session.extend")
    home.relay.event(live["live_id"], "viewer_connected", viewer_id=live["viewer_id"])
    home.relay.ok(asked)
    longer.reply().ok(200)
    until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200)["viewers"] == 1, "the report was heard too")


def test_ends_that_a_relay_reports_do_not_keep_others_waiting(sim):
    """Whoever reports an end need not be told of it, least of all while the rest of what it says waits."""
    home = sim(cameras=9)
    home.relay.answers("session.open", "viewer.add")
    lives = [home.live(i).ok(201)["live_id"] for i in range(8)]
    for live_id in lives:
        home.relay.event(live_id, "ended", code="hub_lost")
    home.live(8).ok(201)
    until(lambda: home.running() == 1, "the others have ended")


@pytest.mark.parametrize("state, said, end_code", [(None, "hub_lost", "start_timeout"), (None, "dtls_fingerprint", "hub_failed"), ("source_connected", "dtls_alert", "hub_failed"),
                                                   ("source_connected", "hub_lost", "hub_lost"), (None, "dtls_no_memory", "relay_lost")])
def test_why_a_relay_ended_a_session_is_said_as_what_it_was_V_C7(sim, state, said, end_code):
    home = sim()
    home.relay.answers("session.open", "viewer.add")
    live_id = home.live().ok(201)["live_id"]
    if state:
        home.relay.event(live_id, state)
    home.relay.event(live_id, "ended", code=said)
    until(lambda: home.api.get(f"/v1/live/{live_id}").ok(200).body.get("end_code") == end_code, f"{said} is {end_code}")


def test_the_relay_is_told_how_far_apart_key_frames_are(sim):
    """What the hub said of a stream that it cannot ask for key frames is known when the camera is watched again: the relay then waits as long for one."""
    home = sim()
    home.relay.answers("session.open", "viewer.add", "session.close")
    live = home.live().ok(201)
    assert "gop_ms" not in home.relay.expect("session.open")["source"]
    home.hub.send("live.state", live_id=live["live_id"], generation=1, state="sending", can=[], gop_ms=15000)
    until(lambda: (v := home.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)["video"]) and v["gop_ms"] == 15000, "the server knows it")
    home.api.delete(f"/v1/live/{live['live_id']}")
    home.live().ok(201)
    assert home.relay.expect("session.open")["source"]["gop_ms"] == 15000


def places(db, relay_id, lives):
    with db.cursor().copy("COPY live_place (live_id, account_id, relay_id, hub_serial, generation) FROM STDIN") as rows:
        for one in lives:
            rows.write_row((one, relay_id, relay_id, "PLHNONE00000", 1))


def test_a_relay_with_twenty_thousand_sessions_is_let_in(own_porch):
    """The whole set goes both ways in one message each."""
    porch = own_porch()
    lives = [str(uuid.uuid4()) for _ in range(20000)]
    relay = SimRelay(porch)
    with porch.db() as db:
        places(db, relay.id, lives)
    relay.open(running=lives)
    assert {s["live_id"] for s in relay.expect("live.sync")["sessions"]} == set(lives)
    relay.close()


def test_the_relay_takes_a_set_of_twenty_thousand_sessions(own_porch):
    """Its connection stays: the numbers that it reports every few seconds come over the one that the large live.sync came by."""
    porch = own_porch()
    with porch.db() as db:
        relay_id = db.execute("SELECT id FROM relay").fetchone()[0]
        places(db, relay_id, [str(uuid.uuid4()) for _ in range(20000)])
        before = db.execute("SELECT epoch FROM relay").fetchone()[0]
    porch.restart_server()
    heard = set()

    def stays():
        try:
            with porch.db() as db:
                epoch, connected, seen_at = db.execute("SELECT epoch, connected, seen_at FROM relay").fetchone()
        except OSError:
            return False
        if connected and epoch > before:
            heard.add((epoch, seen_at))
        return sum(e == epoch for e, _ in heard) >= 2

    until(stays, "the relay reports over a connection that stays")


def test_a_device_freed_while_its_live_starts_is_not_watched_S_D7(sim):
    home = sim()
    started = Later(lambda: home.live())
    asked = home.relay.expect("session.open")
    home.api.delete(f"/v1/devices/{home.cameras[0]}").ok(204)
    until(home.facts_handled, "what runs of the device was ended")
    home.relay.answers("viewer.add")
    home.relay.ok(asked)
    started.reply().refused("not_found")
    assert home.running() == 0
    home.relay.expect("session.close", live_id=asked["live_id"])


def test_a_client_revoked_while_its_live_starts_watches_nothing_S_S5(sim):
    home = sim()
    phone = home.porch.log_in(home.account)
    started = Later(lambda: home.live(api=phone))
    asked = home.relay.expect("session.open")
    phone.delete("/v1/sessions/current").ok(204)
    until(home.facts_handled, "what the client watched was ended")
    home.relay.answers("viewer.add")
    home.relay.ok(asked)
    started.reply().refused("unauthenticated")
    assert home.running() == 0


def test_what_is_wrong_is_said_by_its_code_V_C7(sim):
    """A session that stands in `connecting` has a verdict: each code is a stage of its own, once, and an event for those who watch."""
    codes = ["too_fast", "no_key_frame", "packet_too_large", "dtls_fingerprint"]
    home = sim()
    home.relay.answers("session.open", "viewer.add", "session.close")
    live = home.live().ok(201)
    with Events(home.porch, home.api.token) as events:
        for _ in range(2):
            for code in codes[:3]:
                home.relay.event(live["live_id"], "warning", code=code)
            home.relay.event(live["live_id"], "warning", code="of_a_newer_relay")
            home.relay.event(live["live_id"], "viewer_gone", viewer_id=live["viewer_id"], code="dtls_fingerprint")
        home.relay.event(live["live_id"], "source_connected")
        events.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "connecting")  # the last one: the others have come
        said = [e["data"] for e in events.events if e.get("event") == "live.warning"]
    assert [d["code"] for d in said] == codes and {d["live_id"] for d in said} == {live["live_id"]}
    stages = [s["name"] for s in home.api.get(f"/v1/live/{live['live_id']}").ok(200)["stages"]]
    assert sorted(s for s in stages if s in codes) == sorted(codes) and "warning" not in stages and "of_a_newer_relay" not in stages
    assert [s["name"] for s in home.porch.ctl("session", "explain", live["live_id"])["stages"]] == stages


def test_a_revoked_client_that_joined_is_cut_S_S5(sim):
    """Not only who opened a session: whoever has keys to it. The others watch on, unless the relay does not say that it has let the viewer go."""
    home = sim()
    home.relay.answers("session.open", "viewer.add")
    live = home.live().ok(201)
    for confirms in (True, False):
        phone = home.porch.log_in(home.account)
        joined = home.live(api=phone).ok(201)
        assert joined["live_id"] == live["live_id"]
        home.relay.lets_go(confirms)
        phone.delete("/v1/sessions/current").ok(204)
        home.relay.expect("viewer.remove", live_id=live["live_id"], viewer_id=joined["viewer_id"])
        if confirms:
            until(lambda: home.have_keys(live["live_id"]) == 1, "the viewer is cut, and nobody else")
            assert home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] != "ended"
    home.relay.expect("session.close", live_id=live["live_id"])
    until(lambda: home.api.get(f"/v1/live/{live['live_id']}").ok(200).body.get("end_code") == "revoked", "the session ends as revoked")


def test_a_client_revoked_while_it_joins_gets_no_keys_S_S5(sim):
    """Whether it joins or has opened the session, which others watch on: what it was revoked from is not overtaken by what it is given."""
    home = sim(cameras=2)
    home.relay.answers("session.open")
    for camera, opens in ((0, False), (1, True)):
        phone = home.porch.log_in(home.account)
        if not opens:
            watched = Later(lambda: home.live(0))
            home.relay.ok(home.relay.expect("viewer.add"))
        joining = Later(lambda: home.live(camera, api=phone))
        asked = home.relay.expect("viewer.add")
        if opens:
            watched = Later(lambda: home.live(1))
            home.relay.ok(home.relay.expect("viewer.add"))
        live = watched.reply().ok(201)
        phone.delete("/v1/sessions/current").ok(204)
        until(home.facts_handled, "what the client watched was ended")
        home.relay.ok(asked)
        joining.reply().refused("unauthenticated")
        home.relay.expect("viewer.remove", live_id=live["live_id"], viewer_id=asked["viewer_id"])
        until(lambda: home.have_keys(live["live_id"]) == 1, "only the other one has keys")
        assert home.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] != "ended"


def test_a_join_that_failed_leaves_nothing_S_S5(sim):
    """Neither does it keep a session running, nor is there more and more for a revocation to do."""
    home = sim()
    home.relay.answers("session.open")
    opener, phone = home.porch.log_in(home.account), home.porch.log_in(home.account)
    started = Later(lambda: home.live(api=opener))
    home.relay.ok(home.relay.expect("viewer.add"))
    live_id = started.reply().ok(201)["live_id"]
    for code in ("viewers_full", "node_full", None):
        joining = Later(lambda: home.live(api=phone))
        asked = home.relay.expect("viewer.add")
        if code:
            home.relay.send("error", re=asked["id"], code=code)
        joining.reply().refused(code or "relay_timeout")
        assert home.have_keys(live_id) == 1
        if not code:
            home.relay.expect("viewer.remove", live_id=live_id, viewer_id=asked["viewer_id"])
    opener.delete("/v1/sessions/current").ok(204)
    home.relay.expect("session.close", live_id=live_id)
    assert home.api.get(f"/v1/live/{live_id}").ok(200)["end_code"] == "revoked"


def test_who_watches_is_counted_by_who_came(sim):
    """A viewer that never connected is gone, too, and one that the relay reports twice is one."""
    home = sim()
    home.relay.answers("session.open", "viewer.add")
    lives = [home.live().ok(201) for _ in range(3)]
    live_id, (one, two, never) = lives[0]["live_id"], [x["viewer_id"] for x in lives]
    for seq, (event, viewer, watch) in enumerate((("viewer_connected", one, 1), ("viewer_connected", one, 1), ("viewer_gone", never, 1), ("viewer_connected", two, 2), ("viewer_gone", one, 1),
                                                  ("viewer_gone", one, 1), ("viewer_gone", two, 0)), 1):
        home.relay.event(live_id, event, seq=seq, viewer_id=viewer)
        home.relay.expect("session.heard", seq=seq)
        assert home.api.get(f"/v1/live/{live_id}").ok(200)["viewers"] == watch
        listed, = [s for s in home.porch.ctl("sessions")["sessions"] if s["live_id"] == live_id]
        assert listed["viewers"] == watch


def test_a_report_that_comes_again_is_written_once(sim):
    """The relay says again what it was not told to be written: the answer may have been lost, and the report not."""
    home = sim()
    home.relay.answers("session.open", "viewer.add")
    live = home.live().ok(201)
    live_id = live["live_id"]
    for seq, event, viewers in ((1, "viewer_connected", 1), (1, "viewer_gone", 1), (2, "viewer_gone", 0), (1, "viewer_connected", 0)):
        home.relay.event(live_id, event, seq=seq, viewer_id=live["viewer_id"])
        assert home.relay.expect("session.heard")["seq"] == seq
        assert home.api.get(f"/v1/live/{live_id}").ok(200)["viewers"] == viewers
    home.relay.event(live_id, "source_keyframe", seq=3)
    home.relay.expect("session.heard", seq=3)
    assert home.api.get(f"/v1/live/{live_id}").ok(200)["state"] == "live"


def test_without_a_relay_a_view_is_refused_at_once(sim):
    home = sim()
    home.relay.close()
    until(lambda: home.live().code == "no_relay", "it is said that there is no relay")
    assert home.running() == 0
