"""Who was given some systems of an account only (a token for a script, a linked service) finds no other there, whichever way it asks (S-S10), nor one that comes later."""
import json
import uuid

import pytest
from lib import openapi
from lib.events import Events
from lib.sharing import join, member_of, system_of
from simhub import add_camera, add_hub, make
from test_others import body_of
from test_scoped_tokens import SCOPES, token

CONTRACT = openapi.Contract()
OPEN = [(m, t, o) for m, t, o in CONTRACT.operations() if any("scoped" in s for s in o.get("security", []))]
BELOW = [(m, t, o) for m, t, o in OPEN if "{" in t]
LISTS = [t for m, t, _ in OPEN if m == "GET" and "{" not in t]
OBJECTS = ("/v1/systems/", "/v1/devices/", "/v1/live/")


class Two:
    """An account with two systems, each with a hub, a camera and a live session that has ended; and tokens with all scopes: for the first, and for all."""

    def __init__(self, porch):
        self.account, self.hubs, self.of = porch.sign_up(), [], []
        for name in ("Given", "Kept"):
            made, camera = make(porch, "hub", "wireless")
            system = self.account.api.post("/v1/systems", {"name": name}).ok(201)["id"]
            hub, _ = add_hub(porch, self.account.api, system, made)
            device, live = add_camera(self.account.api, hub, system, camera), str(uuid.uuid4())
            with porch.db() as db:
                db.execute("INSERT INTO live (account_id, id, device_id, system_id, camera_serial, hub_serial, relay_id, client_id, generation, state, end_code, suite, created_at, "
                           "expires_at, hard_end_at, ended_at) VALUES (%s, %s, %s, %s, 'x', 'x', %s, %s, 1, 'ended', 'expired', 'AEAD_AES_128_GCM', now(), now(), now(), now())",
                           (self.account.id, live, device, system, self.account.id, self.account.id))
            self.hubs.append(hub)
            self.of.append(dict(zip(OBJECTS, (system, device, live))))
        self.given, self.kept = self.of
        self.some, self.made = token(porch, self.account, SCOPES, systems=[self.given["/v1/systems/"]])
        self.all, _ = token(porch, self.account, SCOPES)


@pytest.fixture(scope="module")
def two(porch):
    it = Two(porch)
    yield it
    for hub in it.hubs:
        hub.close()


def test_every_object_that_a_token_may_ask_for_is_known():
    assert [t for _, t, _ in BELOW if not t.startswith(OBJECTS)] == []


@pytest.mark.parametrize("method, template, operation", BELOW, ids=[f"{m} {t}" for m, t, _ in BELOW])
def test_what_was_not_given_is_404_S_S10(two, method, template, operation):
    body, headers = body_of(operation)
    kind = next(o for o in OBJECTS if template.startswith(o))

    def ask(api, id_):
        first, *rest = template.split("/{", 1)
        tail = rest[0].split("}", 1)[1]
        while "{" in tail:
            before, after = tail.split("{", 1)
            tail = before + str(uuid.uuid4()) + after.split("}", 1)[1]
        reply = api.call(method, f"{first}/{id_}{tail}", body, headers={**headers, "If-Match": '"1"'})
        return reply.status, reply.code

    assert ask(two.some, two.kept[kind]) == ask(two.some, str(uuid.uuid4())) == (404, "not_found"), body
    if template.count("{") == 1:  # what is refused for the one is there for the other, and for a token without that limit
        assert ask(two.some, two.given[kind]) == ask(two.all, two.kept[kind]) != (404, "not_found")


@pytest.mark.parametrize("path", LISTS)
def test_no_list_names_what_was_not_given(two, path):
    told = [json.dumps(api.get(path).ok(200).body) for api in (two.some, two.all)]
    kept = [two.kept["/v1/systems/"], two.kept["/v1/devices/"], '"Kept"']
    assert not [k for k in kept if k in told[0]]
    if path in ("/v1/systems", "/v1/home"):
        assert '"Given"' in told[0] and '"Kept"' in told[1]


def test_a_page_is_full_though_others_stand_between(porch):
    account = porch.sign_up()
    ids = [account.api.post("/v1/systems", {"name": f"System {n}"}).ok(201)["id"] for n in range(7)]
    some, _ = token(porch, account, ["systems:read"], systems=ids[1::2])
    first = some.get("/v1/systems?limit=2").ok(200)
    cursor = first.headers["Link"].split("cursor=", 1)[1].split(">", 1)[0].split("&", 1)[0]
    second = some.get(f"/v1/systems?limit=2&cursor={cursor}").ok(200)
    assert [s["id"] for s in first["systems"] + second["systems"]] == ids[1::2] and "Link" not in second.headers


def test_what_comes_later_is_not_in_it_and_it_makes_none_itself(porch, two):
    later = two.account.api.post("/v1/systems", {"name": "Later"}).ok(201)["id"]
    two.some.get(f"/v1/systems/{later}").refused("not_found")
    two.all.get(f"/v1/systems/{later}").ok(200)
    two.some.post("/v1/systems", {"name": "Mine"}).refused("scope_missing")
    listed = {t["id"]: t["systems"] for t in two.account.api.get("/v1/account/tokens").ok(200)["tokens"]}
    assert listed[two.made["id"]] == [two.given["/v1/systems/"]] and None in listed.values()
    two.account.api.delete(f"/v1/systems/{later}?confirm=Later").ok(204)


def test_events_of_other_systems_and_of_the_account_are_not_heard(porch, two):
    api = two.account.api
    with Events(porch, two.some.token) as some, Events(porch, two.all.token) as everything:
        api.patch(f"/v1/systems/{two.kept['/v1/systems/']}", {"name": "Still kept"}).ok(200)
        api.patch(f"/v1/devices/{two.kept['/v1/devices/']}", {"name": "Yard"}).ok(200)
        _, other = token(porch, two.account, ["systems:read"])
        api.delete(f"/v1/account/tokens/{other['id']}").ok(204)
        api.patch(f"/v1/systems/{two.given['/v1/systems/']}", {"name": "Still given"}).ok(200)
        mine = some.wait("system.renamed")
        everything.wait("system.renamed", lambda d: d["name"] == "Still given")
        heard = {e["event"] for e in everything.events}
    assert mine["data"]["name"] == "Still given" and [e["event"] for e in some.events] == ["system.renamed"]
    assert {"system.renamed", "device.renamed", "account.access_changed"} <= heard
    # A gap in what it heard is none in what it has seen: it goes on from there.
    api.patch(f"/v1/systems/{two.kept['/v1/systems/']}", {"name": "Kept"}).ok(200)
    api.patch(f"/v1/systems/{two.given['/v1/systems/']}", {"name": "Given"}).ok(200)
    with Events(porch, two.some.token, cursor=some.cursor) as again:
        assert again.wait("system.renamed")["data"]["name"] == "Given" and len(again.events) == 1


def test_only_ones_own_systems_can_be_given(porch, two, other_account):
    grant = porch.step_up(two.account, "make_token")
    theirs = other_account.api.post("/v1/systems", {"name": "Theirs"}).ok(201)["id"]

    def refused(code, systems):
        got = two.account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"], "systems": systems}, grant=grant)
        assert got.refused(code)["field"] == "systems"
    refused("not_found", [theirs])
    refused("not_found", [two.given["/v1/systems/"], str(uuid.uuid4())])
    refused("invalid_request", [])
    refused("invalid_request", ["Given"])


def test_a_name_of_a_system_that_was_not_given_is_taken_nevertheless(two):
    """As the document says: names are unique in an account, for whoever renames."""
    two.some.patch(f"/v1/systems/{two.given['/v1/systems/']}", {"name": "Kept"}).refused("system_name_taken")


def test_a_token_for_a_shared_system_is_good_while_its_person_is_a_member(porch, account, other_account):
    """Removed: it sees nothing there. Added again: it is good again, as the document says."""
    shared = system_of(account)
    join(porch, account, shared, "viewer", other_account)
    script, _ = token(porch, other_account, ["systems:read"], systems=[shared])
    script.get(f"/v1/systems/{shared}").ok(200)
    account.api.delete(f"/v1/systems/{shared}/members/{member_of(account.api, shared, other_account.email)['member_id']}").ok(204)
    script.get(f"/v1/systems/{shared}").refused("not_found")
    assert script.get("/v1/systems").ok(200)["systems"] == []
    join(porch, account, shared, "viewer", other_account)
    script.get(f"/v1/systems/{shared}").ok(200)
