"""Nothing that a hub says is lost in silence: when PostgreSQL fails at the very transaction of a message, the connection ends with a reason, and what the hub does at
its next welcome (docs/hub-makers.md) puts it right. The failure is made in the database: a trigger, a lock and a shutdown."""
import itertools
import signal

import pytest
from simhub import SimHub, add_camera, add_hub, make
from lib.household import Household
from lib.porch import Porch
from lib.wait import until
from test_live_control import Later

STATES = {"40001": "retry", "XX000": "internal", "53100": "unavailable"}  # SQLSTATE: the reason that the connection is closed with
_n = itertools.count(1)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A system whose database is broken on purpose, for the tests of this file."""
    p = Porch(tmp_path_factory.mktemp("lost") / "data")
    try:
        yield p.start()
    finally:
        p.close()


class Trouble:
    """Transactions that write a row of `table` for which `when` holds fail with a SQLSTATE, until it is over. `times`: the first ones only."""

    def __init__(self, porch, table, when, state, times=10**6):
        self.porch, self.name, self.table = porch, f"trouble_{next(_n)}", table
        with porch.db() as db:
            db.execute(f"CREATE SEQUENCE {self.name}")
            db.execute(f"CREATE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('{self.name}') <= {times} THEN "
                       f"RAISE EXCEPTION 'trouble' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$")
            db.execute(f"CREATE TRIGGER {self.name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {self.name}()")

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        with self.porch.db() as db:
            db.execute(f"DROP TRIGGER {self.name} ON {self.table}")
            assert failed[0] or db.execute(f"SELECT is_called FROM {self.name}").fetchone()[0], "it never struck"


class Home:
    """A system with a bound hub that a test can lose and get back."""

    def __init__(self, porch):
        self.porch, self.api = porch, porch.sign_up().api
        self.device, self.camera = make(porch, "hub", "wireless")
        self.system_id = self.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
        self.hub, self.hub_id = add_hub(porch, self.api, self.system_id, self.device)

    def again(self):
        self.hub.close()
        self.hub = SimHub(self.porch, self.device).open()
        self.hub.hello(cameras=[self.camera])
        return self.hub

    def command(self, name):
        made = self.api.post(f"/v1/devices/{self.hub_id}/commands", {"name": name}).ok(202)["command"]
        self.hub.expect("command", command_id=made["id"])
        return made["id"]

    def stage(self, id_):
        return self.api.get(f"/v1/devices/{self.hub_id}/commands/{id_}").ok(200)["stage"]


@pytest.fixture
def home(own):
    h = Home(own)
    yield h
    h.hub.close()


def breaks(home, state, table, when, say):
    """Says it while the database refuses exactly that; the connection ends, and the hub comes again."""
    with Trouble(home.porch, table, when, state):
        say(home.hub)
        assert home.hub.closed() == STATES[state]
    return home.again()


@pytest.mark.parametrize("state", STATES)
def test_a_hello(own, state):
    (device,) = make(own, "hub")
    with Trouble(own, "device_link", f"NEW.serial = '{device.serial}'", state), SimHub(own, device) as hub:
        hub.say_hello()
        assert hub.closed() == STATES[state]
    with SimHub(own, device) as hub:
        hub.hello()


@pytest.mark.parametrize("state", STATES)
def test_a_claim(own, state):
    api, (device,) = own.sign_up().api, make(own, "hub")
    system_id = api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    with SimHub(own, device) as hub:
        hub.hello()
        claim = api.post(f"/v1/systems/{system_id}/hub", {"serial": device.serial}).ok(202)["claim"]
        with Trouble(own, "device_claim", f"NEW.serial = '{device.serial}'", state):
            hub.claim(claim)
            assert hub.closed() == STATES[state]
    assert api.get(f"/v1/claims/{claim['id']}").ok(200)["state"] == "waiting_device"  # it was not spent
    with SimHub(own, device) as hub:
        hub.hello()
        hub.claim(claim)
        hub.expect("bound", claim_id=claim["id"])


@pytest.mark.parametrize("state", ["40001", "XX000"])
@pytest.mark.parametrize("message", ["ack", "paired"])
def test_a_pairing(home, message, state):
    home.api.post(f"/v1/systems/{home.system_id}/cameras", {"serial": home.camera.serial}).ok(202)
    pair = home.hub.expect("pair", serial=home.camera.serial)
    hub = breaks(home, state, "device_claim", f"NEW.serial = '{home.camera.serial}'", lambda h: h.send("ack", re=pair["id"]) if message == "ack" else h.paired(pair))
    assert hub.pair(home.camera)["device_id"]


@pytest.mark.parametrize("message", ["ack", "result"])
def test_a_command(home, message):
    """Also when it was acknowledged and only its result is lost: it comes again, and the hub says again what became of it."""
    id_ = home.command("refresh")
    when = f"NEW.gateway_serial = '{home.device.serial}'"
    if message == "ack":
        hub = breaks(home, "53100", "device_command", when, lambda h: h.send("ack", re=id_))
    else:
        home.hub.send("ack", re=id_)
        until(lambda: home.stage(id_) == "acknowledged", "it is acknowledged")
        hub = breaks(home, "53100", "device_command", when, lambda h: h.send("result", command_id=id_, ok=True))
    hub.expect("command", command_id=id_)
    hub.send("ack", re=id_)
    hub.send("result", command_id=id_, ok=True)
    until(lambda: home.stage(id_) == "done", "it is done")


def test_a_command_that_a_node_handed_over_by_its_own_clock(home):
    """To a connection that had died, at a time that the next connection's node has not reached: clocks differ, and a transaction may wait for the other."""
    id_ = home.command("refresh")
    with home.porch.db() as db:
        db.execute("UPDATE device_command SET sent_at = sent_at + interval '1 hour' WHERE id = %s", (id_,))
    home.again().expect("command", command_id=id_)


def test_a_status(home):
    camera_id = add_camera(home.api, home.hub, home.system_id, home.camera)

    def say(hub):
        hub.send("status", cameras=[{"serial": home.camera.serial, "online": True, "battery": 41}])
    say(breaks(home, "53100", "device_status", f"NEW.device_id = '{camera_id}'", say))
    until(lambda: home.api.get(f"/v1/devices/{camera_id}").ok(200)["status"]["battery"] == 41, "its battery is known")


def test_the_state_of_a_live_view(home):
    camera_id = add_camera(home.api, home.hub, home.system_id, home.camera)
    view = Later(lambda: home.api.post(f"/v1/devices/{camera_id}/live", {}))
    start = home.hub.expect("live.start")
    home.hub.send("ack", re=start["id"])
    live_id = view.reply().ok(201)["live_id"]
    breaks(home, "53100", "live", f"NEW.id = '{live_id}'", lambda h: h.send("live.state", live_id=live_id, generation=start["generation"], state="failed", code="io_error"))
    home.porch.clock.advance(11)  # whoever does not begin in time
    until(lambda: home.api.get(f"/v1/live/{live_id}").ok(200)["state"] == "ended", "the next hello's list says that it does not run")


@pytest.mark.parametrize("state, times", [("40001", 6), ("XX000", 1)])  # once more than one message is tried; once
def test_the_reference_hub_is_claimed_all_the_same(own, state, times):
    """The app that waits beside it in the home hears nothing of the failure."""
    with Trouble(own, "device_claim", "NEW.kind = 'hub' AND NEW.state = 'bound'", state, times):
        Household(own, own.sign_up(), cameras=0).close()


def waiting(db):
    return db.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()[0]


def comes_back(porch, device, **hello):
    """As a hub does: dials until it is welcome."""
    def dial():
        hub = SimHub(porch, device)
        try:
            hub.open()
            hub.hello(**hello)
            return hub
        except AssertionError:
            hub.close()
            return None
    return until(dial, "the hub is welcome again", 60, every=0.2)


def test_postgresql_dies_at_that_moment(own):
    """The transactions of a hello, a claim and a pairing wait for rows that the test holds; then PostgreSQL is shut down at once, and with it the transactions."""
    home, (greeter, claimer) = Home(own), make(own, "hub", "hub")
    system_id = home.api.post("/v1/systems", {"name": "Other"}).ok(201)["id"]
    with SimHub(own, greeter) as before:
        before.hello()
    hello, hub = SimHub(own, greeter).open(), SimHub(own, claimer).open()
    hub.hello()
    claim = home.api.post(f"/v1/systems/{system_id}/hub", {"serial": claimer.serial}).ok(202)["claim"]
    paired = home.api.post(f"/v1/systems/{home.system_id}/cameras", {"serial": home.camera.serial}).ok(202)["claim"]
    pair = home.hub.expect("pair", serial=home.camera.serial)
    holder, look = own.db(), own.db()
    holder.autocommit = False
    holder.execute("SELECT 1 FROM device_link WHERE serial = %s FOR UPDATE", (greeter.serial,))
    holder.execute("SELECT 1 FROM device_claim WHERE id IN (%s, %s) FOR UPDATE", (claim["id"], paired["id"]))
    hello.say_hello()
    hub.claim(claim)
    home.hub.paired(pair)
    until(lambda: waiting(look) >= 3, "all three wait")
    own.kill("postgres", signal.SIGQUIT)
    for one in (hello, hub, home.hub):
        assert one.closed() == "unavailable"
        one.close()
    own.wait_ready()
    comes_back(own, greeter).close()
    with comes_back(own, claimer) as hub:
        hub.claim(claim)
        hub.expect("bound", claim_id=claim["id"])
    with comes_back(own, home.device, cameras=[home.camera]) as hub:
        assert hub.pair(home.camera)["claim_id"] == paired["id"]
        until(lambda: home.api.get(f"/v1/devices/{home.hub_id}").ok(200)["connectivity"] == "online", "the hub is online")
