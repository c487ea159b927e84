"""Outside accounts by which somebody logs in (OpenID Connect Core; RFC 6749, 7636, 9207). The provider is oidc-provider from npm; what a hostile one
would answer comes from one that a test scripts."""
import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import threading
import urllib.parse

import pytest
from lib.browser import Chromium, Page
from lib.certs import Authority
from lib.events import Events
from lib.outside import Key, Provider, Scripted, left_half, query
from lib.porch import Porch
from lib.wait import until
from test_docs import blocks, paste

BACK = "https://app.example/home/linked/"
SECRET = "a secret: with signs&more"
KEY = "A" * 43  # of a client: 32 bytes


def settings(folder, **providers):
    """Settings that name these providers: name=(issuer, secret)."""
    os.makedirs(folder / "providers")
    for name, (issuer, secret) in providers.items():
        text = f"title = The {name} one\nissuer = {issuer}\nclient_id = porch\nscopes = openid email\n"
        if secret:
            (folder / f"{name}.secret").write_text(secret + "\n")
            text += f"client_secret_file = {folder / name}.secret\n"
        (folder / "providers" / f"{name}.conf").write_text(text)
    return [word for s in (f"links.providers={folder}/providers", "links.timeout=4s", "links.workers=2", "account.link_url=https://app.example/home") for word in ("--set", s)]


@pytest.fixture(scope="module")
def real():
    client = {"client_id": "porch", "redirect_uris": [BACK + name for name in ("example", "elliptic", "public")]}
    made = {"example": Provider([{**client, "client_secret": SECRET}]),
            "elliptic": Provider([{**client, "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post", "id_token_signed_response_alg": "ES256"}]),
            "public": Provider([{**client, "token_endpoint_auth_method": "none", "application_type": "web"}])}
    yield made
    for provider in made.values():
        provider.close()


@pytest.fixture(scope="module")
def scripted():
    provider = Scripted()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def odd():
    """One whose metadata are never right, and so are never kept."""
    provider = Scripted()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def web_app():
    with Page("<!doctype html><title>An app</title>") as page:
        yield page


@pytest.fixture(scope="module")
def porch(tmp_path_factory, real, scripted, odd, web_app):
    folder = tmp_path_factory.mktemp("links")
    providers = {n: (r.issuer, None if n == "public" else SECRET) for n, r in real.items()}
    others = {"scripted": (scripted.issuer, SECRET), "odd": (odd.issuer, None), "inside": ("https://127.0.0.1:9", None), "none": ("http://127.0.0.1:9", None)}
    p = Porch(folder / "data", extra=["--set", f"http.allowed_origins={web_app.origin}"] + settings(folder, **providers, **others))
    try:
        yield p.start()
    finally:
        p.close()


@pytest.fixture
def script(scripted):
    """The scripted provider, as if it were new."""
    scripted.replies.clear()
    scripted.asked.clear()
    return scripted


def begin(porch, account, provider, api=None):
    api = api or account.api
    return api.post(f"/v1/account/links/{provider}", grant=porch.step_up(account, "change_factors", api=api)).ok(201).body


def complete(api, provider, back):
    return api.post(f"/v1/account/links/{provider}/complete", {k: back[k] for k in ("code", "state", "iss") if k in back})


def link(porch, real, account, who, provider="example"):
    return complete(account.api, provider, real[provider].go(begin(porch, account, provider), who)).ok(201).body


def log_in(porch, provider, back, begun, **more):
    return porch.api().post(f"/v1/sessions/links/{provider}/complete", {"code": back["code"], "state": back["state"], "iss": back.get("iss"), "key": begun["key"], **more})


def links(account):
    return account.api.get("/v1/account/links").ok(200)["links"]


@pytest.mark.parametrize("provider", ["example", "elliptic", "public"])
def test_somebody_links_an_outside_account_and_logs_in_by_it(porch, real, provider):
    account = porch.sign_up()
    who = f"{provider}-person"
    named = [{"provider": p, "title": f"The {p} one"} for p in ("elliptic", "example", "inside", "none", "odd", "public", "scripted")]
    assert account.api.get("/v1/account/links").ok(200).body == {"links": [], "providers": named}
    mails = porch.mail.count(account.email)
    begun = begin(porch, account, provider)
    asked = query(begun["authorization_url"])
    assert begun["authorization_url"].startswith(real[provider].issuer + "/auth?") and begun["redirect_uri"] == asked["redirect_uri"] == BACK + provider
    assert (asked["response_type"], asked["code_challenge_method"], asked["client_id"], asked["scope"]) == ("code", "S256", "porch", "openid email")
    with Events(porch, account.api.token) as events:
        made = complete(account.api, provider, real[provider].go(begun, who)).ok(201)
        assert events.wait("account.links_changed")["data"] == {"provider": provider, "change": "linked"}
    assert made["label"] == f"{who}@elsewhere.example"
    listed, = links(account)
    assert (listed["provider"], listed["issuer"], listed["subject"], listed["used_at"]) == (provider, real[provider].issuer, who, None)
    porch.mail.wait(account.email, mails, which=lambda m: f"An account at The {provider} one was linked" in m["text"])

    # It stands in the password's place, and not in the PIN's.
    anybody = porch.api()
    assert provider in [p["provider"] for p in anybody.get("/v1/sessions/links").ok(200)["providers"]]
    for first in (True, False):
        begun = anybody.post(f"/v1/sessions/links/{provider}").ok(201).body
        mails = porch.mail.count(account.email)
        reply = log_in(porch, provider, real[provider].go(begun, who), begun, client={"name": "New phone", "key": KEY}).ok(202 if first else 201)
        if first:
            challenge = reply["challenge"]
            assert reply["methods"] == ["email", "sms", "voice"]
            reply = anybody.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(account.email, mails)}, key=challenge["key"]).ok(201)
        assert reply["account_id"] == account.id
        anybody.get("/v1/account", token=reply["access_token"]).ok(200)
    assert links(account)[0]["used_at"] is not None

    # And it is undone.
    mails = porch.mail.count(account.email)
    account.api.delete(f"/v1/account/links/{provider}").refused("step_up_required")
    account.api.delete(f"/v1/account/links/{provider}", grant=porch.step_up(account, "change_factors")).ok(204)
    porch.mail.wait(account.email, mails, which=lambda m: f"The link to the account at The {provider} one was removed" in m["text"])
    assert links(account) == []
    begun = anybody.post(f"/v1/sessions/links/{provider}").ok(201).body
    log_in(porch, provider, real[provider].go(begun, who), begun).refused("link_unknown")
    account.api.delete(f"/v1/account/links/{provider}", grant=porch.step_up(account, "change_factors")).refused("not_found")
    said = [a["action"] for a in account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)["audit"]]
    assert [a for a in said if a.startswith("link.")] == ["link.added", "link.removed"]


def test_nobody_finishes_what_another_began(porch, real, other_account):
    """Cross-site request forgery, both ways: what came back for one account, client, log-in or provider is worth nothing to any other."""
    account = porch.sign_up()
    theirs = other_account
    provider = real["example"]
    begun = begin(porch, account, "example")
    back = provider.go(begun, "thief")
    complete(theirs.api, "example", back).refused("expired")              # another account's app was handed it
    second = porch.log_in(account)
    complete(second, "example", back).refused("expired")                  # another client of the same account
    complete(account.api, "elliptic", back).refused("expired")          # as if another provider had sent it
    log = porch.api().post("/v1/sessions/links/example").ok(201).body
    log_in(porch, "example", back, log).refused("expired")                # as a log-in
    complete(account.api, "example", provider.go(log, "thief")).refused("expired")  # a log-in's as a link
    other_log = porch.api().post("/v1/sessions/links/example").ok(201).body
    log_in(porch, "example", provider.go(log, "thief"), other_log).refused("expired")  # another app's key: a log-in that somebody else began
    log_in(porch, "example", back, {"key": "pllk_x"}).refused("invalid_request")
    complete(account.api, "example", {**back, "state": "plls_" + "A" * 43}).refused("expired")
    complete(account.api, "example", {**back, "state": "x"}).refused("expired")
    assert links(account) == links(theirs) == []
    complete(account.api, "example", back).ok(201)                        # and to who began it, once
    complete(account.api, "example", back).refused("expired")


def test_who_begins_again_or_comes_late_begins_anew(porch, real):
    account = porch.sign_up()
    first, second = begin(porch, account, "example"), begin(porch, account, "example")
    complete(account.api, "example", real["example"].go(first, "late")).refused("expired")
    with porch.db() as db:
        db.execute("UPDATE outside_flow SET created_at = created_at - interval '10 minutes' WHERE account_id = %s", [account.id])
    complete(account.api, "example", real["example"].go(second, "late")).refused("expired")
    assert links(account) == []


def test_linking_wants_a_step_up_and_a_provider(porch, account):
    account.api.post("/v1/account/links/example").refused("step_up_required")
    account.api.post("/v1/account/links/example", grant=porch.step_up(account, "link_service")).refused("step_up_required")
    account.api.post("/v1/account/links/nobody", grant=porch.step_up(account, "change_factors")).refused("not_found")
    complete(account.api, "nobody", {"code": "x", "state": "x"}).refused("not_found")
    porch.api().post("/v1/sessions/links/nobody").refused("not_found")


def test_an_outside_account_belongs_to_one_account(porch, real, other_account):
    account = porch.sign_up()
    link(porch, real, account, "only-one")
    account.api.post("/v1/account/links/example", grant=porch.step_up(account, "change_factors")).refused("factor_exists")
    reply = complete(other_account.api, "example", real["example"].go(begin(porch, other_account, "example"), "only-one")).refused("link_taken")
    assert account.id not in json.dumps(reply.body) and account.email not in json.dumps(reply.body)
    assert links(other_account) == []
    link(porch, real, other_account, "another-one")
    account.api.delete("/v1/account/links/example", grant=porch.step_up(account, "change_factors")).ok(204)
    third = porch.sign_up()
    link(porch, real, third, "only-one")  # it is free again


def test_of_eight_who_link_one_outside_account_at_once_one_does(porch, script):
    accounts = [porch.sign_up() for _ in range(4)]
    flows = [(a, begin(porch, a, "scripted")) for a in accounts]
    tokens = {b["authorization_url"]: script.keys[0].token(script.claims(b, sub="wanted")) for _, b in flows}
    script.replies["/token"] = lambda form: (200, {"id_token": tokens[form["code"]]})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda f: complete(f[0].api, "scripted", {"code": f[1]["authorization_url"], "state": query(f[1]["authorization_url"])["state"]}), flows))
    assert sorted((r.status, r.code) for r in replies) == [(201, None)] + [(409, "link_taken")] * 3
    assert sum(len(links(a)) for a in accounts) == 1


def test_of_two_who_finish_one_flow_at_once_one_does(porch, script, account):
    begun = begin(porch, account, "scripted")
    script.gives(script.keys[0].token(script.claims(begun, sub="twice")))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: complete(account.api, "scripted", {"code": "c", "state": query(begun["authorization_url"])["state"]}), range(4)))
    assert sorted((r.status, r.code) for r in replies) == [(201, None)] + [(410, "expired")] * 3
    assert [p for p, _, _ in script.asked].count("/token") == 1


def attempt(porch, script, account, token=None, back=(), **changes):
    """Comes back to the scripted provider's flow with an ID token: the good one, changed. The reply."""
    begun = begin(porch, account, "scripted")
    if token is not None or changes:
        claims = script.claims(begun, **changes)
        script.gives(token(claims) if token else script.keys[0].token(claims))
    return complete(account.api, "scripted", {"code": "c", "state": query(begun["authorization_url"])["state"], **dict(back)})


OTHER = Key("k1")  # of somebody else, by the same name
# What is changed in a good token: (how, what the answer says of it).
REFUSED = {
    "wrong nonce": (dict(nonce="x"), "nonce"), "no nonce": (dict(nonce=None), "nonce"), "wrong aud": (dict(aud="somebody"), "aud"), "no aud": (dict(aud=None), "for whom"),
    "aud among others": (dict(aud=["porch", "somebody"]), "azp"), "azp of another": (dict(azp="somebody"), "azp"),
    "azp of another among others": (dict(aud=["porch", "somebody"], azp="somebody"), "azp"), "wrong iss": (dict(iss="https://elsewhere.example"), "iss"), "no iss": (dict(iss=None), "iss"),
    "expired": (dict(exp=1), "has expired"), "no exp": (dict(exp=None), "no time"), "exp a text": (dict(exp="4000000000"), "no time"), "exp beyond time": (dict(exp=1e300), "no time"),
    "issued before": (dict(iat=1), "since this was begun"), "issued tomorrow": (dict(iat=4102444800), "since this was begun"), "no iat": (dict(iat=None), "no time"),
    "no sub": (dict(sub=None), "sub"), "empty sub": (dict(sub=""), "sub"), "sub a number": (dict(sub=7), "sub"), "sub too long": (dict(sub="x" * 256), "sub"),
    "wrong at_hash": (dict(at_hash=left_half("other")), "at_hash"), "alg none": (dict(token=lambda c: ".".join([*OTHER.token(c, alg="none").split(".")[:2], ""])), "no signed token"),
    "alg none signed": (dict(token=lambda c: OTHER.token(c, alg="none")), "algorithm"), "alg HS256": (dict(token=lambda c: OTHER.token(c, alg="HS256")), "algorithm"),
    "another key of that name": (dict(token=OTHER.token), "not the provider's"), "a key of no name": (dict(token=lambda c: OTHER.token(c, kid=None)), "not the provider's"),
    "a name that is not shown": (dict(token=lambda c: OTHER.token(c, kid="k9")), "does not show"), "crit": (dict(token=lambda c: OTHER.token(c, crit=["b64"])), "not known here"),
    "not a token": (dict(token=lambda c: "abc"), "no signed token"), "two parts": (dict(token=lambda c: "e30.e30"), "no signed token"),
    "four parts": (dict(token=lambda c: "e30.e30.e30.e30"), "no signed token"), "empty": (dict(token=lambda c: ""), "no signed token"),
    "not base64": (dict(token=lambda c: "*.*.*"), "no signed token"), "header no JSON": (dict(token=lambda c: "YQ.YQ.YQ"), "header"),
    "large": (dict(token=lambda c: OTHER.token({**c, "x": "x" * 20000})), "no signed token"),
}


@pytest.fixture(scope="module")
def tried(porch):
    """One account for all that is refused."""
    return porch.sign_up()


@pytest.mark.parametrize("how, why", REFUSED.values(), ids=list(REFUSED))
def test_an_id_token_that_proves_nothing_is_refused(porch, script, tried, how, why):
    reply = attempt(porch, script, tried, **how).refused("link_refused")
    assert why in reply["detail"]
    assert links(tried) == []


@pytest.mark.parametrize("how", [dict(aud=["porch"]), dict(aud=["porch", "somebody"], azp="porch"), dict(azp="porch"), dict(at_hash=left_half("at")), dict(exp=4102444800.5), dict(email="x" * 101)],
                         ids=str)
def test_what_a_good_id_token_may_say(porch, script, how):
    account = porch.sign_up()
    made = attempt(porch, script, account, **{"sub": f"good-{account.id}", **how}).ok(201)
    assert made["label"] is None


def test_the_answer_must_be_that_providers_rfc_9207(porch, script, tried):
    attempt(porch, script, tried, sub="x", back={"iss": "https://evil.example"}).refused("link_refused")
    assert "/token" not in [p for p, _, _ in script.asked]  # the code of another provider is not shown to this one


MISCHIEF = {
    "redirects": ("/token", lambda form: (307, {}, {"Location": "/elsewhere"}), "no JSON|refuses us"), "answers an error": ("/token", lambda form: (500, {"error": "x"}), "refuses us"),
    "does not know us": ("/token", lambda form: (401, {"error": "invalid_client"}), "refuses us"), "speaks HTML": ("/token", lambda form: (200, b"<html>"), "no JSON"),
    "answers a list": ("/token", lambda form: (200, []), "no JSON"), "gives no ID token": ("/token", lambda form: (200, {"access_token": "x"}), "no ID token"),
    "gives a number": ("/token", lambda form: (200, {"id_token": 7}), "no ID token"), "answers too much": ("/token", lambda form: (200, b" " * (1 << 20)), "too large"),
    "nests": ("/token", lambda form: (200, b'{"a":' * 10000), "no JSON"),
}


@pytest.mark.parametrize("path, reply, why", MISCHIEF.values(), ids=list(MISCHIEF))
def test_a_provider_that_answers_not_as_it_should(porch, script, tried, path, reply, why):
    script.replies[path] = reply
    refused = attempt(porch, script, tried).refused("provider_unavailable")
    assert refused.status == 503 and refused.headers["Retry-After"]
    assert re.search(why, why_refused(porch))
    assert [p for p, _, _ in script.asked][-1] == path  # and nobody was followed elsewhere
    assert links(tried) == []


ODD = {
    "another issuer": (dict(issuer="https://elsewhere.example"), "another issuer"), "no token endpoint": (dict(token_endpoint=None), "incomplete"),
    "a token endpoint inside": (dict(token_endpoint="http://10.0.0.1/token"), "not https"), "a file": (dict(jwks_uri="file:///etc/passwd"), "not https"),
    "a number": (dict(authorization_endpoint=7), "incomplete"), "javascript": (dict(authorization_endpoint="javascript:alert(1)"), "not https"),
}


def why_refused(porch):
    """What the operator is told of the last one."""
    return json.loads([t for t in porch.logs(100000).splitlines() if "outside.refused" in t][-1])["why"]


@pytest.mark.parametrize("changes, why", ODD.values(), ids=list(ODD))
def test_metadata_that_are_not_as_they_should_be(porch, odd, changes, why):
    """None of them is kept: each is answered for what it is, though the one before it came just now."""
    odd.replies["/.well-known/openid-configuration"] = lambda form: (200, {k: v for k, v in {**odd.metadata, **changes}.items() if v is not None})
    porch.api().post("/v1/sessions/links/odd").refused("provider_unavailable")
    assert why in why_refused(porch)


def test_a_provider_that_is_away_or_inside(porch):
    porch.api().post("/v1/sessions/links/none").refused("provider_unavailable")
    assert "does not answer" in why_refused(porch)
    porch.api().post("/v1/sessions/links/inside").refused("provider_unavailable")  # https, and on an address that is not of the public network
    assert "where it may not be" in why_refused(porch)


def test_metadata_and_keys_are_kept_for_an_hour_and_a_new_key_is_looked_for_once_a_minute(own_porch, tmp_path):
    """Over TLS, by an authority and at an address of the operator's own network, which he has allowed."""
    authority = Authority(tmp_path)
    provider = Scripted(cert=authority.issue("provider", "IP:127.0.0.1"))
    more = [w for s in (f"links.ca_file={authority.cert}", "links.private_addresses=true") for w in ("--set", s)]
    porch = own_porch(extra=settings(tmp_path, own=(provider.issuer, SECRET)) + more)
    provider.clock = porch.clock

    def go(key):
        provider.asked.clear()
        begun = porch.api().post("/v1/sessions/links/own").ok(201).body
        provider.gives(key.token(provider.claims(begun)))
        reply = log_in(porch, "own", {"code": "c", "state": query(begun["authorization_url"])["state"]}, begun)
        return reply.code, [p for p, _, _ in provider.asked]

    first, second = provider.keys[0], Key("k2")
    metadata, keys, token = "/.well-known/openid-configuration", "/jwks", "/token"
    assert go(first) == ("link_unknown", [metadata, token, keys])
    assert go(first) == ("link_unknown", [token])
    provider.keys = [second]
    assert go(second) == ("link_refused", [token])
    assert go(first) == ("link_unknown", [token])
    porch.clock.advance(61)
    assert go(second) == ("link_unknown", [token, keys])
    assert go(first) == ("link_refused", [token])
    porch.clock.advance(3600)
    assert go(second) == ("link_unknown", [metadata, token, keys])
    provider.close()


def test_a_code_that_the_provider_does_not_take(porch, script, tried, real):
    script.replies["/token"] = lambda form: (400, {"error": "invalid_grant"})
    attempt(porch, script, tried).refused("link_refused")
    begun = begin(porch, tried, "example")
    complete(tried.api, "example", {**real["example"].go(begun, "x"), "code": "made-up"}).refused("link_refused")


def test_how_the_secret_goes(porch, script, tried):
    """RFC 6749, 2.3.1: by Basic, each part escaped first; and the verifier is that of the challenge."""
    begun = begin(porch, tried, "scripted")
    complete(tried.api, "scripted", {"code": "a code/+&", "state": query(begun["authorization_url"])["state"]})
    form, authorization = next((f, a) for p, f, a in script.asked if p == "/token")
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "porch:" + urllib.parse.quote(SECRET, safe="")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
    assert challenge == query(begun["authorization_url"])["code_challenge"] and len(form["code_verifier"]) == 43
    assert form == {"grant_type": "authorization_code", "code": "a code/+&", "redirect_uri": BACK + "scripted", "code_verifier": form["code_verifier"]}


def test_a_provider_that_says_nothing_holds_up_nobody_else(porch, script, tried):
    """Calls that ask providers have workers of their own, and one that is silent for a second does not get the last of them: others' users log in meanwhile, its own are told."""
    came, let_go = threading.Semaphore(0), threading.Event()

    def silence(form):
        came.release()
        let_go.wait(60)
        return 200, {}
    script.replies["/token"] = silence
    flows = [porch.api().post("/v1/sessions/links/scripted").ok(201).body for _ in range(9)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        first, *others = [lambda f=f: log_in(porch, "scripted", {"code": "c", "state": query(f["authorization_url"])["state"]}, f) for f in flows]
        waits = pool.submit(first)
        assert came.acquire(timeout=30)  # one of two workers
        porch.clock.advance(2)
        for reply in pool.map(lambda ask: ask(), others):
            reply.refused("provider_unavailable")
        porch.api().post("/v1/sessions/links/example").ok(201)
        tried.api.get("/v1/home").ok(200)
        assert len([path for path, _, _ in script.asked if path == "/token"]) == 1
        let_go.set()
        waits.result().refused("provider_unavailable")


def test_a_provider_that_did_not_answer_is_not_waited_for_by_each_who_comes(own_porch, tmp_path):
    provider, let_go = Scripted(), threading.Event()
    porch = own_porch(extra=settings(tmp_path, own=(provider.issuer, SECRET)))
    metadata = "/.well-known/openid-configuration"
    provider.replies[metadata] = lambda form: (let_go.wait(60) and 200, {})
    for _ in range(3):
        porch.api().post("/v1/sessions/links/own").refused("provider_unavailable")
    assert [path for path, _, _ in provider.asked] == [metadata]
    let_go.set()
    provider.replies.clear()
    porch.clock.advance(10)
    porch.api().post("/v1/sessions/links/own").ok(201)
    provider.close()


def test_s_s6_links_go_with_the_account_and_are_in_its_export(porch, script):
    account = porch.sign_up()
    attempt(porch, script, account, sub="leaver", preferred_username="Leaver").ok(201)
    script.replies.clear()
    porch.api().post("/v1/sessions/links/scripted").ok(201)
    exported = account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)["outside"]
    assert [(k["provider"], k["subject"], k["label"]) for k in exported["links"]] == [("scripted", "leaver", "Leaver")]
    begin(porch, account, "example")
    account.api.delete("/v1/account", grant=porch.step_up(account, "delete_account")).ok(204)

    def gone():
        with porch.db() as db:
            return not [t for t in ("outside_link", "outside_subject", "outside_flow") if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchall()]
    until(gone, "no row of the account is left")
    attempt(porch, script, porch.sign_up(), sub="leaver").ok(201)  # it is free again


def test_s_s1_nothing_of_it_is_kept_or_logged_as_it_is(porch, real):
    account = porch.sign_up()
    begun = begin(porch, account, "example")
    log = porch.api().post("/v1/sessions/links/example").ok(201).body
    with porch.db() as db:
        kept = str(db.execute("SELECT * FROM outside_flow").fetchall())
    back = real["example"].go(begun, "kept-person")
    complete(account.api, "example", back).ok(201)
    with porch.db() as db:
        kept += "".join(str(db.execute(f"SELECT * FROM {t}").fetchall()) for t in ("outside_flow", "outside_link", "outside_subject", "audit", "event"))
    kept += porch.logs(1 << 20)
    assert "kept-person" in kept
    for secret in (SECRET, back["code"], back["state"], log["key"], query(log["authorization_url"])["state"], query(begun["authorization_url"])["nonce"]):
        assert secret not in kept


def test_a_link_is_used_only_where_a_password_would_be_S_P5(porch, real):
    """After it the PIN stands as after a password, by the channel that the app asks for, with its five tries."""
    account = porch.sign_up()
    link(porch, real, account, "first-factor")
    api = porch.api()
    begun = api.post("/v1/sessions/links/example").ok(201).body
    challenge = log_in(porch, "example", real["example"].go(begun, "first-factor"), begun, client={"key": KEY}, channel="sms").ok(202)["challenge"]
    assert challenge["channel"] == "sms"
    for wrong in range(5):
        reply = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": "000000"}, key=challenge["key"])
    assert reply.code in ("pin_wrong", "pin_exhausted")
    api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": "000000"}, key=challenge["key"]).refused("pin_exhausted")


def test_in_a_browser(porch, real, web_app):
    """Chromium goes through the provider's own pages; where it is sent back cannot be opened here, and its address is enough. Then a web app logs in by the chapter's script."""
    account = porch.sign_up()
    script, = [text for _, language, text, _ in blocks("docs/outside-accounts.md") if language == "js"]
    begun = begin(porch, account, "example")
    log = porch.api().post("/v1/sessions/links/example").ok(201).body

    def between_pages(ask):
        """None while the browser is on its way from one page to the next, and there is nothing to ask."""
        with contextlib.suppress(AssertionError):
            return ask()
        return None

    def back(begun):
        found = [e["url"] for e in page.protocol("Page.getNavigationHistory")["entries"] if e["url"].startswith(begun["redirect_uri"] + "?")]
        return next((query(u) for u in found if query(u)["state"] == query(begun["authorization_url"])["state"]), None)

    def shows(js, what):
        until(lambda: between_pages(lambda: page.run(js)), what)

    with Chromium(begun["authorization_url"]) as page:
        page.run("(document.querySelector('[name=login]').value = 'browser-person', document.querySelector('[name=password]').value = 'any', document.querySelector('form').submit())")
        shows("document.readyState === 'complete' && document.querySelector('[name=prompt]')?.value === 'consent'", "the provider asks for a yes")
        page.run("document.querySelector('form').submit()")
        came = until(lambda: between_pages(lambda: back(begun)), "the browser is sent back")
        assert came["iss"] == real["example"].issuer
        assert complete(account.api, "example", came).ok(201)["label"] == "browser-person@elsewhere.example"

        page.protocol("Page.navigate", url=log["authorization_url"])  # the provider knows him now
        came = until(lambda: between_pages(lambda: back(log)), "the browser is sent back at once")
        page.protocol("Page.navigate", url=web_app.url)
        shows("document.title === 'An app'", "the app is open")
        page.run(f"history.replaceState(null, '', '/?' + new URLSearchParams({json.dumps(came)}))")
        answer = page.run(f"(() => {{ {script}; return cameBack('http://{porch.http}', 'example', {json.dumps({'key': log['key']})}, {{ name: 'Web app' }}) }})()")
    assert answer["status"] == 202 and "email" in answer["methods"]


def test_the_chapter_on_outside_accounts(porch, tmp_path):
    assert paste(porch, ["docs/outside-accounts.md"], tmp_path)
