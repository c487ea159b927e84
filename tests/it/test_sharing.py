"""Sharing: another person in a system, with a role and a log-in of their own (product.md; S-S5, S-S6, S-S10, S-D4, S-M3). Hub, relay, e-mails and viewers are real."""
import concurrent.futures
import datetime
import os
import re
import threading
import types
import uuid

import pytest
from lib import rest
from lib.events import Events
from lib.household import Household, Viewer, watch
from lib.sharing import accept, home_of, invite, join, member_of, move_home, system_of, token_of
from lib.wait import until
from simhub import add_camera, add_hub, make
from test_scoped_tokens import token
from test_whep_control import OFFER, SDP

TALKING = OFFER.replace("a=recvonly\r\na=rtcp-mux\r\na=rtpmap:111", "a=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111")
DAY = 86400


@pytest.fixture(scope="module")
def home(porch):
    """A household that is shared; each test brings its own guests."""
    h = Household(porch, porch.sign_up(), cameras=1)
    yield h
    h.close()


def in_time(seconds_from_now, porch):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=porch.clock.offset + seconds_from_now)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- the thin path

def test_a_guest_is_invited_accepts_and_sees_live(porch, home, tmp_path):
    """The whole way: e-mail, link, what it offers, acceptance, home screen, events, a real picture; and the owner is told."""
    owner, guest = home.account, porch.sign_up()
    mails = porch.mail.count(owner.email)
    sent = invite(owner.api, home.system_id, guest.email, "viewer").ok(202)["invitation"]
    assert (sent["email"], sent["role"], sent["invited_by"], sent["sent_count"]) == (guest.email, "viewer", owner.email, 1)
    token = token_of(porch, guest.email)
    name = owner.api.get(f"/v1/systems/{home.system_id}").ok(200)["name"]
    offered = rest.Api(porch).get(f"/v1/invitations/{token}").ok(200)
    assert (offered["system_name"], offered["invited_by"], offered["role"]) == (name, owner.email, "viewer") and guest.email not in offered["sent_to"]
    with Events(porch, owner.api.token) as mine, Events(porch, guest.api.token) as theirs:
        system = accept(guest.api, token).ok(201)
        assert (system["id"], system["role"]) == (home.system_id, "viewer")
        for events in (mine, theirs):
            assert events.wait("member.added")["data"]["role"] == "viewer"
        assert porch.mail.wait(owner.email, mails, which=lambda m: guest.email in m["text"])
        shown = guest.api.get("/v1/home").ok(200)["systems"]
        assert [(s["id"], s["role"], s["hub"]["id"], [d["id"] for d in s["devices"]]) for s in shown] == [(home.system_id, "viewer", home.hub_id, home.cameras)]
        live = guest.api.post(f"/v1/devices/{home.cameras[0]}/live", {}).ok(201)
        summary = watch(porch, live, tmp_path / "guest", frames=60)
        assert summary["frames"] >= 60, summary
        for events in (mine, theirs):
            events.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "live")
        assert guest.api.get(f"/v1/live/{live['live_id']}").ok(200)["state"] == "live"
        home.api.delete(f"/v1/live/{live['live_id']}").ok(204)
        theirs.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "ended")
    listed = {m["email"]: m for m in owner.api.get(f"/v1/systems/{home.system_id}/members").ok(200)["members"]}
    assert listed[guest.email]["invited_by"] == owner.email and listed[owner.email]["role"] == "owner" and listed[owner.email]["you"]
    mine = {m["you"]: m["email"] for m in guest.api.get(f"/v1/systems/{home.system_id}/members").ok(200)["members"]}
    assert mine[True] == guest.email and owner.email not in mine.values()  # a guest sees others' addresses masked
    assert porch.ctl("audit", "verify", home.system_id) is not None


# --- what a role may

ROLES = ("viewer", "talker", "manager", "owner")


@pytest.fixture(scope="module")
def people(porch):
    """One of each role in a system of its own with a simulated hub; and a stranger."""
    founder = porch.sign_up()
    system_id = system_of(founder)
    hub_made, camera = make(porch, "hub", "wireless")
    hub, _ = add_hub(porch, founder.api, system_id, hub_made)
    device_id = add_camera(founder.api, hub, system_id, camera)
    apis = {role: join(porch, founder, system_id, role).api for role in ROLES}
    apis["stranger"] = porch.sign_up().api
    yield founder, system_id, device_id, apis
    hub.close()


# What is asked, and the smallest role that may. Whoever may not, a member: 403; a stranger: 404.
ASKED = [
    ("GET", "/v1/systems/{system}", None, "viewer"),
    ("GET", "/v1/systems/{system}/members", None, "viewer"),
    ("GET", "/v1/systems/{system}/cameras", None, "viewer"),
    ("GET", "/v1/devices/{device}", None, "viewer"),
    ("PATCH", "/v1/systems/{system}", {"name": "Renamed {unique}"}, "manager"),
    ("PATCH", "/v1/devices/{device}", {"name": "Renamed {unique}"}, "manager"),
    ("POST", "/v1/devices/{device}/commands", {"name": "refresh"}, "manager"),
    ("POST", "/v1/systems/{system}/cameras", {"serial": "{serial}"}, "manager"),
    ("POST", "/v1/systems/{system}/members", {"email": "{unique}@home.example", "role": "talker"}, "manager"),
    ("POST", "/v1/systems/{system}/members", {"email": "{unique}@home.example", "role": "manager"}, "owner"),
    ("DELETE", "/v1/devices/{device}", None, "owner"),
    ("DELETE", "/v1/systems/{system}", None, "owner"),
]


@pytest.mark.parametrize("method, path, body, least", ASKED, ids=[f"{m} {p} {(b or {}).get('role', '')}".strip() for m, p, b, _ in ASKED])
def test_a_role_may_what_the_table_says_S_S10(porch, people, method, path, body, least):
    _, system_id, device_id, apis = people
    for who in ("stranger", *ROLES):
        may = who != "stranger" and ROLES.index(who) >= ROLES.index(least)
        if may and method == "DELETE":
            continue  # an owner's deletions have tests of their own, and would end this fixture
        unique = uuid.uuid4().hex[:10]
        serial = make(porch, "wireless")[0].serial if body and "serial" in body else ""
        said = {k: v.format(unique=unique, serial=serial) for k, v in body.items()} if body else None
        reply = apis[who].call(method, path.format(system=system_id, device=device_id), said)
        if may:
            reply.ok()
        else:
            assert (reply.status, reply.code) == ((404, "not_found") if who == "stranger" else (403, "forbidden")), (who, reply.status, reply.body)


def test_a_manager_registers_devices_and_others_hear_of_it_S_D4(porch, people):
    """A claim is seen by who may add devices; what stands in another system of the same home is somebody else's device to a manager who is not a member there."""
    founder, system_id, _, apis = people
    elsewhere = system_of(founder)
    made, other = make(porch, "mini", "mini")
    theirs = founder.api.post(f"/v1/systems/{elsewhere}/cameras", {"serial": other.serial}).ok(202)["claim"]
    mine = apis["manager"].post(f"/v1/systems/{system_id}/cameras", {"serial": other.serial}).ok(202)["claim"]  # ends none in a system that is not the manager's
    assert founder.api.get(f"/v1/claims/{theirs['id']}").ok(200)["state"] != "refused"
    apis["manager"].delete(f"/v1/claims/{mine['id']}").ok(204)
    claim = apis["manager"].post(f"/v1/systems/{system_id}/cameras", {"serial": made.serial}).ok(202)["claim"]
    for who, status in (("viewer", 403), ("talker", 403), ("manager", 200), ("owner", 200), ("stranger", 404)):
        assert apis[who].get(f"/v1/claims/{claim['id']}").status == status
    assert claim["id"] in [c["id"] for c in founder.api.get("/v1/home").ok(200)["claims"]]
    assert [c for c in apis["viewer"].get("/v1/home").ok(200)["claims"]] == []
    assert elsewhere not in [c["system_id"] for c in apis["manager"].get("/v1/home").ok(200)["claims"]]
    apis["manager"].delete(f"/v1/claims/{claim['id']}").ok(204)
    with porch.db() as db:  # as if it had proved itself there
        device = str(uuid.uuid4())
        db.execute("INSERT INTO device (account_id, id, system_id, serial, kind, model, name, onboarding, via_hub, created_at) VALUES (%s, %s, %s, %s, 'mini', 'm', 'n', 'ready', false, now())",
                   (founder.id, device, elsewhere, other.serial))
        db.execute("INSERT INTO device_status (account_id, device_id, online, busy, changed_at, as_of) VALUES (%s, %s, false, false, now(), now())", (founder.id, device))
        db.execute("INSERT INTO device_binding (serial, account_id, device_id) VALUES (%s, %s, %s)", (other.serial, founder.id, device))
    apis["manager"].post(f"/v1/systems/{system_id}/cameras", {"serial": other.serial}).refused("already_registered")
    assert founder.api.post(f"/v1/systems/{system_id}/cameras", {"serial": other.serial}).ok(202)["claim"]["system_id"] == elsewhere


def test_a_manager_brings_in_guests_and_touches_nobody_else(porch, people):
    founder, system_id, _, apis = people
    guest = porch.sign_up()
    after = porch.mail.count(guest.email)
    invite(apis["manager"], system_id, guest.email, "viewer").ok(202)
    accept(guest.api, token_of(porch, guest.email, after)).ok(201)
    theirs = member_of(founder.api, system_id, guest.email)["member_id"]
    path = f"/v1/systems/{system_id}/members"
    assert apis["manager"].patch(f"{path}/{theirs}", {"role": "talker"}).ok(200)["role"] == "talker"
    apis["manager"].patch(f"{path}/{theirs}", {"role": "manager"}).refused("forbidden")
    apis["talker"].delete(f"{path}/{theirs}").refused("forbidden")
    apis["stranger"].delete(f"{path}/{theirs}").refused("not_found")
    apis["manager"].delete(f"{path}/{member_of(founder.api, system_id, founder.email)['member_id']}").refused("forbidden")
    apis["manager"].delete(f"{path}/{theirs}").ok(204)
    guest.api.get(f"/v1/systems/{system_id}").refused("not_found")
    invite(founder.api, system_id, guest.email, "manager").ok(202)
    invite(apis["manager"], system_id, guest.email, "viewer").refused("forbidden")  # it would take the place of the founder's


def test_who_is_there_for_a_time_does_not_lengthen_it(porch):
    owner = porch.sign_up()
    system_id = system_of(owner)
    guest = join(porch, owner, system_id, "viewer", access_until=in_time(DAY, porch))
    me = f"/v1/systems/{system_id}/members/{member_of(guest.api, system_id)['member_id']}"
    guest.api.patch(me, {"role": "viewer", "expires_at": in_time(2 * DAY, porch)}).refused("forbidden")
    guest.api.patch(me, {"role": "viewer", "expires_at": (sooner := in_time(DAY / 2, porch))}).ok(200)
    assert member_of(guest.api, system_id)["expires_at"].startswith(sooner[:19])
    owner.api.patch(me, {"role": "viewer", "expires_at": in_time(2 * DAY, porch)}).ok(200)


# --- owners

def test_who_makes_or_unmakes_an_owner_steps_up(porch):
    owner, second = porch.sign_up(), porch.sign_up()
    system_id = system_of(owner)
    invite(owner.api, system_id, second.email, "owner").refused("step_up_required")
    join(porch, owner, system_id, "manager", second)
    path = f"/v1/systems/{system_id}/members/{member_of(second.api, system_id)['member_id']}"
    own = f"/v1/systems/{system_id}/members/{member_of(owner.api, system_id)['member_id']}"
    owner.api.patch(own, {"role": "viewer"}).refused("last_owner")
    owner.api.delete(own).refused("last_owner")
    owner.api.patch(path, {"role": "owner"}).refused("step_up_required")
    mails = porch.mail.count(second.email)
    owner.api.patch(path, {"role": "owner"}, grant=porch.step_up(owner, "change_owners")).ok(200)
    assert porch.mail.wait(second.email, mails, which=lambda m: "is an owner now: " in m["text"])
    owner.api.patch(path, {"role": "viewer"}).refused("step_up_required")
    owner.api.delete(path).refused("step_up_required")
    second.api.delete(own, grant=porch.step_up(second, "change_owners")).ok(204)
    owner.api.get(f"/v1/systems/{system_id}").refused("not_found")
    owner.api.post("/v1/systems", {"name": "Mine again"}).ok(201)


def rows_with(db, account_id):
    found = []
    for table, column in db.execute("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'uuid'").fetchall():
        if db.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" = %s LIMIT 1', (account_id,)).fetchall():
            found.append(f"{table}.{column}")
    return found


def test_a_system_lives_on_under_its_other_owner_S_S6(porch, tmp_path):
    """Who made it deletes the account: devices stay bound, live view starts, and no row of the system bears the old account's id."""
    founder = porch.sign_up()
    h = Household(porch, founder, cameras=1)
    try:
        heir = join(porch, founder, h.system_id, "owner")
        guest = join(porch, founder, h.system_id, "viewer")
        name = founder.api.get(f"/v1/systems/{h.system_id}").ok(200)["name"]
        heir.api.post("/v1/systems", {"name": name}).ok(201)
        founder.api.delete("/v1/account", grant=porch.step_up(founder, "delete_account")).ok()

        def moved():
            with porch.db() as db:
                return set(rows_with(db, founder.id)) <= {"fact.account_id", "fact.subject_id"}
        until(moved, "the rows stand under the other owner")
        assert heir.api.get(f"/v1/systems/{h.system_id}").ok(200)["name"] == name + " 2"
        with Events(porch, guest.api.token) as events:
            live = heir.api.post(f"/v1/devices/{h.cameras[0]}/live", {}).ok(201)
            assert watch(porch, live, tmp_path / "heir", frames=30)["frames"] >= 30
            events.wait("live.state", lambda d: d["live_id"] == live["live_id"] and d["state"] == "live")
        assert guest.api.get(f"/v1/devices/{h.cameras[0]}").ok(200)["connectivity"] == "online"
        made = member_of(guest.api, h.system_id)
        assert made["invited_by"] is None  # whom the deleted one brought in stays, brought in by nobody
        heir.api.delete(f"/v1/systems/{h.system_id}?confirm={name} 2", grant=porch.step_up(heir, "delete_hub")).ok(204)
    finally:
        h.close()


def test_the_home_of_a_system_is_one_of_its_owners(porch):
    """Who owns it no more has its name to give again, and may delete the account without an hour in between."""
    founder = porch.sign_up()
    system_id = system_of(founder, "Lodge")
    heir = move_home(porch, founder, system_id)
    assert founder.api.get(f"/v1/systems/{system_id}").ok(200)["role"] == "manager"
    founder.api.post("/v1/systems", {"name": "lodge"}).ok(201)
    heir.api.post("/v1/systems", {"name": "Lodge"}).refused("system_name_taken")


def test_a_command_that_meets_a_move_goes_with_it_S_S6(porch):
    """It is written, and not committed yet, when the home moves."""
    founder = porch.sign_up()
    system_id = system_of(founder)
    made, camera = make(porch, "hub", "wireless")
    hub, _ = add_hub(porch, founder.api, system_id, made)
    try:
        device_id = add_camera(founder.api, hub, system_id, camera)
        heir, guest = join(porch, founder, system_id, "owner"), join(porch, founder, system_id, "viewer")

        def waits(db, query):
            return db.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s", (f"%{query}%",)).fetchone()[0] > 0
        with porch.db() as look, porch.db() as held, concurrent.futures.ThreadPoolExecutor(1) as pool:
            held.autocommit = False
            held.execute("SELECT 1 FROM event_counter WHERE account_id = %s FOR UPDATE", (guest.id,))  # the command's event waits
            asked = pool.submit(founder.api.post, f"/v1/devices/{device_id}/commands", {"name": "refresh"})
            until(lambda: waits(look, "INSERT INTO event_counter"), "the command is under way")
            fact = str(uuid.uuid4())
            look.execute("INSERT INTO fact (fact_id, kind, account_id, subject_id, detail, lease_until) VALUES (%s, 'system_left', %s, %s, '{}', to_timestamp(0))", (fact, founder.id, system_id))
            until(lambda: waits(look, "UPDATE system_member SET home_id") or home_of(porch, system_id) == heir.id, "the home moves, or waits")
            held.rollback()
            command = asked.result().ok(202)["command"]["id"]
            until(lambda: home_of(porch, system_id) == heir.id, "the home has moved")
            assert str(look.execute("SELECT account_id FROM device_command WHERE id = %s", (command,)).fetchone()[0]) == heir.id
        assert founder.api.get(f"/v1/devices/{device_id}/commands/{command}").ok(200)["name"] == "refresh"
    finally:
        hub.close()


def test_an_export_tells_what_one_did_and_of_the_others_nothing(porch, home):
    """Live views that the account opened itself, in its own systems or not; where it is a member; whom it invited."""
    owner, guest = home.account, join(porch, home.account, home.system_id, "viewer")
    theirs = home.live(api=guest.api).ok(201)
    home.api.delete(f"/v1/live/{theirs['live_id']}").ok(204)
    mine = home.live().ok(201)
    home.live(api=guest.api).ok(201)  # who joins has not opened it
    home.api.delete(f"/v1/live/{mine['live_id']}").ok(204)
    friend = rest.new_email()
    sent = invite(owner.api, home.system_id, friend, "talker").ok(202)["invitation"]

    def export(account):
        return account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)
    told = export(guest)
    assert [(s["live_id"], s["device_id"], s["client_id"]) for s in told["live"]["sessions"]] == [(theirs["live_id"], home.cameras[0], guest.api.tokens["client_id"])]
    member, = told["sharing"]["memberships"]
    assert (member["system_id"], member["role"], member["expires_at"]) == (home.system_id, "viewer", None) and member["since"]
    assert member["invited_by"] and "@" in member["invited_by"] and owner.email not in str(told["sharing"])  # as GET members shows it to a viewer
    assert told["sharing"]["invitations"] == [] and friend not in str(told.body)
    told = export(owner)
    assert mine["live_id"] in [s["live_id"] for s in told["live"]["sessions"]] and theirs["live_id"] not in [s["live_id"] for s in told["live"]["sessions"]]
    assert guest.api.tokens["client_id"] not in str(told.body)
    assert (home.system_id, "owner", None) in [(m["system_id"], m["role"], m["invited_by"]) for m in told["sharing"]["memberships"]]
    assert [(i["email"], i["role"]) for i in told["sharing"]["invitations"] if i["id"] == sent["id"]] == [(friend, "talker")]
    owner.api.delete(f"/v1/systems/{home.system_id}/invitations/{sent['id']}").ok(204)
    client = guest.api.tokens["client_id"]
    guest.api.delete("/v1/account", grant=porch.step_up(guest, "delete_account")).ok(204)

    def forgotten():
        with porch.db() as db:
            return set(rows_with(db, guest.id)) <= {"fact.account_id", "fact.subject_id"} and db.execute("SELECT count(*) FROM live WHERE client_id = %s", (client,)).fetchone() == (0,)
    until(forgotten, "who opened it is not known any more")  # S-S6


def test_the_last_owner_takes_the_system_along(porch):
    owner = porch.sign_up()
    system_id = system_of(owner, "Cabin")
    guest = join(porch, owner, system_id, "manager")
    mails = porch.mail.count(guest.email)
    owner.api.delete("/v1/account", grant=porch.step_up(owner, "delete_account")).ok()
    until(lambda: guest.api.get(f"/v1/systems/{system_id}").status == 404, "the system is gone")
    assert porch.mail.wait(guest.email, mails, which=lambda m: "Cabin" in m["text"])
    assert guest.api.get("/v1/home").ok(200)["systems"] == []


# --- what ends at once

def pictures(path):
    if not os.path.exists(path):
        return 0
    with open(path, encoding="ascii") as f:
        return len(f.readlines())


class Watching:
    """A member whose picture runs, with an event socket."""

    def __init__(self, porch, home, account, folder):
        self.account, self.trace = account, os.path.join(folder, "trace")
        self.live = account.api.post(f"/v1/devices/{home.cameras[0]}/live", {}).ok(201)
        self.events = Events(porch, account.api.token).__enter__()
        self.viewer = Viewer(porch, self.live["srtp"], folder, "--frames", 1000000, "--trace", self.trace)
        until(lambda: pictures(self.trace) >= 5, "pictures come")

    def is_cut(self):
        out, err = self.viewer.process.communicate(timeout=60)
        assert '"end":"relay_silent"' in out, (out[-500:], err[-2000:])

    def close(self):
        self.events.__exit__()
        if self.viewer.process.poll() is None:
            self.viewer.kill()


def test_a_removed_member_is_cut_and_the_others_watch_on_S_S5(porch, home, tmp_path):
    guest = join(porch, home.account, home.system_id, "talker")
    mine, theirs = Watching(porch, home, home.account, str(tmp_path / "mine")), Watching(porch, home, guest, str(tmp_path / "theirs"))
    try:
        assert mine.live["live_id"] == theirs.live["live_id"]
        member = member_of(home.api, home.system_id, guest.email)["member_id"]
        home.api.delete(f"/v1/systems/{home.system_id}/members/{member}").ok(204)
        for path in (f"/v1/systems/{home.system_id}", f"/v1/devices/{home.cameras[0]}", f"/v1/live/{theirs.live['live_id']}"):
            guest.api.get(path).refused("not_found")
        guest.api.post(f"/v1/devices/{home.cameras[0]}/live", {}).refused("not_found")
        guest.api.call("POST", f"/v1/live/{theirs.live['live_id']}/whep", OFFER, headers=SDP).refused("not_found")
        assert theirs.events.wait("member.removed")["data"] == {"system_id": home.system_id, "member_id": member, "why": "removed"}
        theirs.is_cut()
        seen = pictures(mine.trace)
        until(lambda: pictures(mine.trace) > seen + 25, "the owner's picture runs on")
        assert home.api.get(f"/v1/live/{mine.live['live_id']}").ok(200)["state"] == "live"
        home.api.patch(f"/v1/devices/{home.cameras[0]}", {"name": f"Porch {uuid.uuid4().hex[:6]}"}).ok(200)
        mine.events.wait("device.renamed")
        own = home.api.get("/v1/home").ok(200)
        assert own and not [e for e in theirs.events.events if e.get("event") == "device.renamed"]
        home.api.delete(f"/v1/live/{mine.live['live_id']}").ok(204)
    finally:
        mine.close(), theirs.close()


def test_a_viewer_has_no_line_to_talk_on_and_loses_the_one_that_was_had_S_M3(porch, home):
    home.hub.stop()
    home.hub.start()  # what its cameras take is said in the hello
    guest = join(porch, home.account, home.system_id, "talker")
    until(lambda: guest.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)["connectivity"] == "online", "the hub is back")
    live = guest.api.post(f"/v1/devices/{home.cameras[0]}/live", {"transport": "webrtc"}).ok(201)
    assert live["talk_modes"]
    member = member_of(home.api, home.system_id, guest.email)["member_id"]

    def offer(api=guest.api):
        reply = api.call("POST", f"/v1/live/{live['live_id']}/whep", TALKING, headers=SDP).ok(201)
        audio = reply.body.split("m=audio", 1)[1]
        return re.search(r"a=(sendrecv|sendonly|recvonly|inactive)", audio)[1], reply.headers["Location"]

    direction, viewer = offer()
    assert direction == "sendrecv"
    with Events(porch, guest.api.token) as events:
        home.api.patch(f"/v1/systems/{home.system_id}/members/{member}", {"role": "viewer"}).ok(200)
        assert events.wait("member.changed", lambda d: d["member_id"] == member)["data"]["role"] == "viewer"
    # The one with the line is cut; who comes again comes without.
    until(lambda: guest.api.delete(viewer).code == "not_found", "the relay has let the talker go")
    again = guest.api.post(f"/v1/devices/{home.cameras[0]}/live", {"transport": "webrtc"}).ok(201)
    live = again.body
    assert again["talk_modes"] == []
    assert offer()[0] == "sendonly"
    # A token that may only watch has none either, whosever it is.
    script, _ = token(porch, home.account, ["live:view"])
    assert script.post(f"/v1/devices/{home.cameras[0]}/live", {"transport": "webrtc"}).ok(201)["talk_modes"] == []
    assert offer(home.api)[0] == "sendrecv" and offer(script)[0] == "sendonly"
    home.api.delete(f"/v1/live/{live['live_id']}").ok(204)


def test_a_token_talks_where_that_was_said_and_its_owner_may_S_M3(porch, home):
    home.hub.stop()
    home.hub.start()
    until(lambda: home.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)["connectivity"] == "online", "the hub is back")
    guest = join(porch, home.account, home.system_id, "viewer")
    for owner, scopes, talks in ((home.account, ["live:view"], False), (home.account, ["live:view", "live:talk"], True), (guest, ["live:view", "live:talk"], False)):
        script, _ = token(porch, owner, scopes)
        live = script.post(f"/v1/devices/{home.cameras[0]}/live", {"transport": "webrtc"}).ok(201)
        assert bool(live["talk_modes"]) is talks
        answer = script.call("POST", f"/v1/live/{live['live_id']}/whep", TALKING, headers=SDP).ok(201)
        assert f"a={'sendrecv' if talks else 'sendonly'}" in answer.body.split("m=audio", 1)[1]
    token(porch, home.account, ["live:talk"])[0].post(f"/v1/devices/{home.cameras[0]}/live", {}).refused("scope_missing")  # it adds to live:view, and is not that
    home.api.delete(f"/v1/live/{live['live_id']}").ok(204)


def test_a_token_that_may_only_watch_ends_what_it_watches(porch, home, tmp_path):
    script, _ = token(porch, home.account, ["live:view", "events:read"])
    mine, its = Watching(porch, home, home.account, str(tmp_path / "mine")), Watching(porch, home, types.SimpleNamespace(api=script), str(tmp_path / "its"))
    try:
        script.delete(f"/v1/live/{its.live['live_id']}").ok(204)
        its.is_cut()
        seen = pictures(mine.trace)
        until(lambda: pictures(mine.trace) > seen + 25, "its owner's picture runs on")
        token(porch, home.account, ["live:view", "devices:write"])[0].delete(f"/v1/live/{mine.live['live_id']}").ok(204)
        assert home.api.get(f"/v1/live/{mine.live['live_id']}").ok(200)["end_code"] == "ended_by_user"
    finally:
        mine.close(), its.close()


def test_who_may_only_watch_ends_a_session_for_themselves(porch, home, tmp_path):
    guest = join(porch, home.account, home.system_id, "viewer")
    mine, theirs = Watching(porch, home, home.account, str(tmp_path / "mine")), Watching(porch, home, guest, str(tmp_path / "theirs"))
    try:
        guest.api.delete(f"/v1/live/{theirs.live['live_id']}").ok(204)
        theirs.is_cut()
        seen = pictures(mine.trace)
        until(lambda: pictures(mine.trace) > seen + 25, "the owner's picture runs on")
        home.api.delete(f"/v1/live/{mine.live['live_id']}").ok(204)
        guest.api.post(f"/v1/devices/{home.cameras[0]}/live", {"source": "plain"}).refused("forbidden")
    finally:
        mine.close(), theirs.close()


# --- races

def both(*calls):
    gate = threading.Barrier(len(calls))

    def run(call):
        gate.wait()
        return call()
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(run, c) for c in calls]]


def test_two_owners_demote_each_other_and_one_stays(porch):
    first = porch.sign_up()
    system_id = system_of(first)
    second = join(porch, first, system_id, "owner")
    path = {a.email: f"/v1/systems/{system_id}/members/{member_of(a.api, system_id)['member_id']}" for a in (first, second)}
    grants = [porch.step_up(a, "change_owners") for a in (first, second)]
    replies = both(lambda: first.api.patch(path[second.email], {"role": "viewer"}, grant=grants[0]), lambda: second.api.patch(path[first.email], {"role": "viewer"}, grant=grants[1]))
    assert sorted(r.status for r in replies) == [200, 403], [(r.status, r.body) for r in replies]
    with porch.db() as db:
        assert db.execute("SELECT count(*) FROM system_member WHERE system_id = %s AND role = 'owner'", (system_id,)).fetchone() == (1,)


def test_one_invitation_accepted_by_many_at_once_makes_one_member(porch):
    owner, guest = porch.sign_up(), porch.sign_up()
    system_id = system_of(owner)
    invite(owner.api, system_id, guest.email, "viewer").ok(202)
    token = token_of(porch, guest.email)
    replies = both(*[lambda: accept(guest.api, token)] * 6)
    assert sorted(r.status for r in replies)[0] == 201 and sum(r.status == 201 for r in replies) == 1
    assert {r.code for r in replies if r.status != 201} <= {"already_member", "not_found"}


def test_acceptance_against_revocation_ends_in_one_of_the_two(porch):
    owner, guest = porch.sign_up(), porch.sign_up()
    system_id = system_of(owner)
    sent = invite(owner.api, system_id, guest.email, "viewer").ok(202)["invitation"]
    token = token_of(porch, guest.email)
    taken, back = both(lambda: accept(guest.api, token), lambda: owner.api.delete(f"/v1/systems/{system_id}/invitations/{sent['id']}"))
    assert sorted([taken.status, back.status]) in ([201, 404], [204, 404]), (taken.body, back.body)
    assert guest.api.get(f"/v1/systems/{system_id}").status == (200 if taken.status == 201 else 404)


# --- time

def test_time_ends_invitations_and_memberships(own_porch):
    """An invitation is good for seven days; a membership with an end is none after it, for REST at once, and its end is told."""
    p = own_porch()
    owner = p.sign_up()
    system_id = system_of(owner, "Holiday flat")
    invite(owner.api, system_id, late := rest.new_email(), "viewer").ok(202)
    invite(owner.api, system_id, rest.new_email(), "owner", p.step_up(owner, "change_owners"), access_until=in_time(DAY, p)).refused("invalid_request")
    invite(owner.api, system_id, rest.new_email(), "viewer", access_until=in_time(-5, p)).refused("invalid_request")
    guest = join(p, owner, system_id, "viewer", access_until=in_time(2 * DAY, p))
    assert member_of(guest.api, system_id)["expires_at"]
    token = token_of(p, late)
    mails = p.mail.count(guest.email)
    p.clock.advance(2 * DAY + 60)
    api = p.log_in(guest)  # access tokens have their time too
    api.get(f"/v1/systems/{system_id}").refused("not_found")
    assert p.mail.wait(guest.email, mails, which=lambda m: "the time is over" in m["text"])
    rest.Api(p).get(f"/v1/invitations/{token}").ok(200)
    p.clock.advance(5 * DAY)
    rest.Api(p).get(f"/v1/invitations/{token}").refused("expired")


# --- several nodes

def test_a_removal_at_one_node_acts_at_the_other_S_S5(own_porch, tmp_path):
    p = own_porch(extra=["--nodes", "2"])
    owner = p.sign_up()
    h = Household(p, owner, cameras=1)
    try:
        guest = join(p, owner, h.system_id, "viewer")
        there = rest.Api(p.node(1))
        there.token = guest.api.token
        live = there.post(f"/v1/devices/{h.cameras[0]}/live", {}).ok(201)
        viewer = Viewer(p, live["srtp"], str(tmp_path / "guest"), "--frames", 1000000, "--trace", str(tmp_path / "guest" / "trace"))
        until(lambda: pictures(tmp_path / "guest" / "trace") >= 5, "pictures come")
        with Events(p.node(1), guest.api.token) as events:
            member = member_of(owner.api, h.system_id, guest.email)["member_id"]
            rest_0 = rest.Api(p.node(0))
            rest_0.token = owner.api.token
            rest_0.delete(f"/v1/systems/{h.system_id}/members/{member}").ok(204)
            there.get(f"/v1/systems/{h.system_id}").refused("not_found")
            events.wait("member.removed")
        out, err = viewer.process.communicate(timeout=60)
        assert '"end":"relay_silent"' in out, (out[-500:], err[-2000:])
        h.ended(live["live_id"], "revoked")
    finally:
        h.close()
