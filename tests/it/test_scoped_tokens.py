"""Tokens for scripts (S-S1, S-S5): each may what its scopes say. What a route wants stands in proto/openapi.yaml, which the lint holds against the rows of the code."""
import datetime
import json
import uuid

import pytest
from lib import openapi, rest
from lib.events import Events
from lib.wait import until
from simhub import add_camera, add_hub, make
from simrelay import SimRelay

CONTRACT = openapi.Contract()
SCOPES = CONTRACT.doc["components"]["schemas"]["Scope"]["enum"]
SIGNED_IN = [(m, t, o) for m, t, o in CONTRACT.operations() if o.get("security") != []]


def scopes_of(operation):
    """What a scoped token needs for it; None: it is for signed-in clients alone."""
    return next((s["scoped"] for s in operation.get("security", []) if "scoped" in s), None)


def token(porch, account, scopes, **more):
    """(an Api with a new token, what was answered)"""
    grant = porch.step_up(account, "make_token")
    made = account.api.post("/v1/account/tokens", {"name": "Script", "scopes": scopes, **more}, grant=grant).ok(201)
    script = rest.Api(porch)
    script.token = made["token"]
    return script, made.body


@pytest.fixture(scope="module")
def one_scope_each(porch):
    """{scope: Api with a token that has it alone}, and under None one with all."""
    account = porch.sign_up()
    return {**{s: token(porch, account, [s])[0] for s in SCOPES}, None: token(porch, account, SCOPES)[0]}


def ask(api, method, template):
    path = template
    while "{" in path:
        before, after = path.split("{", 1)
        path = before + str(uuid.uuid4()) + after.split("}", 1)[1]
    return api.call(method, path)


@pytest.mark.parametrize("method, template, operation", SIGNED_IN, ids=[f"{m} {t}" for m, t, _ in SIGNED_IN])
def test_a_token_does_what_its_scopes_say_and_nothing_else(porch, one_scope_each, method, template, operation):
    """Every operation of the contract for signed-in callers: with all scopes it is reached if it names any; with one that is not enough it is not."""
    wants = scopes_of(operation)
    with_all = ask(one_scope_each[None], method, template)
    if wants is None:
        assert (with_all.status, with_all.code) == (403, "scope_missing")
        assert with_all.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'
        return
    assert with_all.code != "scope_missing"
    for scope in SCOPES:
        if {scope} != set(wants):
            got = ask(one_scope_each[scope], method, template).refused("scope_missing")
            assert got.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{" ".join(wants)}"'  # RFC 6750, 3


def test_what_concerns_sign_in_is_open_to_no_token():
    """Log-in, factors, tokens, clients, members, step-up, deletion and export name no scope, so the test above proves them shut."""
    shut = [t for m, t, o in SIGNED_IN if scopes_of(o) is None]
    for part in ("/v1/sessions/current", "/v1/account/factors", "/v1/account/tokens", "/v1/account/clients", "/v1/step-up", "/v1/account/password", "/v1/account/email", "/v1/account/phone",
                 "/v1/account/export"):
        assert part in shut and not [t for _, t, o in SIGNED_IN if t.startswith(part) and scopes_of(o) is not None]
    assert not [t for m, t, o in SIGNED_IN if m == "DELETE" and scopes_of(o) is not None and not t.startswith("/v1/live/")]


def test_s_s1_a_token_is_shown_once_and_kept_as_a_hash(porch, account):
    account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"]}).refused("step_up_required")
    mails = porch.mail.count(account.email)
    with Events(porch, account.api.token) as events:
        script, made = token(porch, account, ["systems:read", "devices:read"])
        assert events.wait("account.access_changed")["data"] == {"id": made["id"], "kind": "token", "change": "given"}
    porch.mail.wait(account.email, mails, which=lambda m: "A token for a script was made: \"Script\"" in m["text"])
    listed, = account.api.get("/v1/account/tokens").ok(200)["tokens"]
    assert "token" not in listed and listed["hint"] == "plst_…" + script.token[-4:] and listed["scopes"] == ["systems:read", "devices:read"]
    assert (listed["name"], listed["expires_at"], listed["last_used_at"]) == ("Script", None, None)
    with porch.db() as db:
        kept = str(db.execute("SELECT * FROM delegation d JOIN delegation_token t ON t.delegation_id = d.id WHERE d.account_id = %s", [account.id]).fetchall())
    assert script.token not in kept and script.token[5:] not in kept
    script.get("/v1/home").ok(200)
    until(lambda: account.api.get("/v1/account/tokens").ok(200)["tokens"][0]["last_used_at"], "its use is noted")
    assert [t["id"] for t in account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)["tokens"]] == [made["id"]]


def test_a_token_sees_no_claims(porch, account):
    """A claim holds the challenge that is brought to the device: to add one is for signed-in clients alone, on the home screen as by the claim's own address."""
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    claim = account.api.post(f"/v1/systems/{system}/cameras", {"serial": make(porch, "mini")[0].serial}).ok(202)["claim"]
    assert [c["id"] for c in account.api.get("/v1/home").ok(200)["claims"]] == [claim["id"]]
    script, _ = token(porch, account, SCOPES)
    shown = script.get("/v1/home").ok(200)
    assert shown["claims"] == [] and [s["id"] for s in shown["systems"]] == [system]
    script.get(f"/v1/claims/{claim['id']}").refused("scope_missing")


def test_what_a_token_cannot_be(porch, account, other_account):
    def refused(field, **body):
        got = account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"], **body}, grant=grant)
        assert got.refused("invalid_request")["field"] == field
    grant = porch.step_up(account, "make_token")
    refused("scopes", scopes=["everything"])
    refused("scopes", scopes=[])
    refused("expires_at", expires_at="2020-01-01T00:00:00Z")
    account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"]}, grant=grant).ok(201)
    made, = account.api.get("/v1/account/tokens").ok(200)["tokens"]
    other_account.api.delete(f"/v1/account/tokens/{made['id']}").refused("not_found")
    with porch.db() as db:
        db.execute("INSERT INTO delegation (account_id, id, kind, name, hint, scopes, created_at) SELECT %s, gen_random_uuid(), 'token', 'Old', '', 'systems:read', now() "
                   "FROM generate_series(1, 49)", [account.id])
    account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"]}, grant=porch.step_up(account, "make_token")).refused("too_many")


def test_s_s5_a_token_that_is_taken_back_is_worth_nothing(porch, account):
    script, made = token(porch, account, ["systems:read", "events:read"])
    deaf, _ = token(porch, account, ["systems:read"])
    with pytest.raises(AssertionError, match="4403"):
        Events(porch, deaf.token).__enter__()
    with Events(porch, script.token) as events:
        account.api.delete(f"/v1/account/tokens/{made['id']}").ok(204)
        assert events.closed() == 4401
    got = script.get("/v1/systems").refused("unauthenticated")
    assert got.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    deaf.get("/v1/systems").ok(200)
    account.api.delete(f"/v1/account/tokens/{made['id']}").refused("not_found")


def test_s_s5_what_a_token_watches_is_cut_with_it_and_at_its_end(own_porch):
    porch = own_porch()
    account = porch.sign_up()
    device, camera = make(porch, "hub", "wireless")
    relay = SimRelay(porch).open()
    relay.answers("session.open", "viewer.add")
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    hub, _ = add_hub(porch, account.api, system, device)
    device_id = add_camera(account.api, hub, system, camera)

    def end_code(live):
        return account.api.get(f"/v1/live/{live['live_id']}").ok(200).body.get("end_code")

    script, made = token(porch, account, ["live:view"])
    script.post(f"/v1/devices/{device_id}/live", {"source": "plain"}).refused("scope_missing")  # to watch is not to send as the camera
    live = script.post(f"/v1/devices/{device_id}/live", {}).ok(201)
    account.api.delete(f"/v1/account/tokens/{made['id']}").ok(204)
    relay.expect("session.close", live_id=live["live_id"])
    until(lambda: end_code(live) == "revoked", "what it watched has ended")

    script, made = token(porch, account, ["live:view"], expires_at=(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)).isoformat(timespec="seconds").replace("+00:00", "Z"))
    live = script.post(f"/v1/devices/{device_id}/live", {}).ok(201)
    porch.clock.advance(61)
    script.get(f"/v1/live/{live['live_id']}").refused("unauthenticated")
    until(lambda: end_code(live) == "revoked", "what it watched has ended with it")
    assert account.api.get("/v1/account/tokens").ok(200)["tokens"] == []
    hub.close()
    relay.close()


def test_s_s6_tokens_go_with_the_account(porch, account):
    script, _ = token(porch, account, ["systems:read"])
    account.api.delete("/v1/account", grant=porch.step_up(account, "delete_account")).ok(204)
    script.get("/v1/systems").refused("unauthenticated")
    with porch.db() as db:
        assert not [t for t in ("delegation", "delegation_token") if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchall()]


def test_a_token_is_in_no_log(porch, account):
    script, _ = token(porch, account, ["systems:read"])
    script.get("/v1/systems").ok(200)
    assert script.token not in porch.logs() and script.token not in json.dumps(porch.ctl("outbox"))


def test_where_no_issuer_is_set_no_service_can_be_linked(porch):
    api = rest.Api(porch)
    for path in ("/.well-known/oauth-authorization-server", "/oauth/authorize?client_id=x"):
        api.get(path).refused("not_offered")
    api.post("/oauth/token", "grant_type=refresh_token", headers={"Content-Type": "application/x-www-form-urlencoded"}).refused("not_offered")
    porch.ctl("oauth-client", "add", "Nobody", "https://nobody.example/", code=1)
