"""Clients: named, revoked one by one or all others (S-S5), never so many that nobody reads the list; and the export of all that an account has."""
import concurrent.futures

from lib import rest
from lib.events import Events


def names(account):
    return sorted(c["name"] for c in account.api.get("/v1/account/clients").ok(200)["clients"])


def test_a_client_is_named(porch, account, other_account):
    client = account.api.tokens["client_id"]
    account.api.patch(f"/v1/account/clients/{client}", {"name": "Kitchen tablet"}).ok(204)
    assert names(account) == ["Kitchen tablet"]
    other_account.api.patch(f"/v1/account/clients/{client}", {"name": "Mine"}).refused("not_found")
    account.api.patch(f"/v1/account/clients/{client}", {"name": ""}).refused("invalid_request")


def test_s_s5_revoking_all_others_cuts_their_tokens_and_sockets(porch, account):
    others = [porch.log_in(account, client={"name": f"Phone {n}"}) for n in range(3)]
    account.api.delete("/v1/account/clients").refused("step_up_required")
    grant = porch.step_up(account, "revoke_clients")
    with Events(porch, others[0].token) as events, Events(porch, account.api.token) as own:
        account.api.delete("/v1/account/clients", grant=grant).ok(204)
        assert events.closed() == 4401
        assert own.close_code is None
    for o in others:
        o.get("/v1/account").refused("unauthenticated")
        rest.Api(porch).post("/v1/sessions/refresh", {"refresh_token": o.tokens["refresh_token"]}).refused("unauthenticated")
    assert names(account) == ["Test phone"]


def test_clients_without_a_key_do_not_pile_up(porch, account):
    for n in range(4):
        porch.log_in(account, client={"name": f"Script {n}"}).delete("/v1/sessions/current").ok(204)
    # Each that signed out is forgotten when the next one comes; one that is signed in stays.
    assert names(account) == ["Script 3", "Test phone"]


def test_an_account_has_a_hundred_clients_at_most(porch, account):
    with porch.db() as db:
        # Signed in long ago, with keys, as a household would never have them.
        db.execute("""INSERT INTO client (account_id, id, name, platform, key_hash, created_at, last_seen_at)
                      SELECT %s, gen_random_uuid(), 'Old ' || n, '', sha256(n::text::bytea), now() - interval '1 year', now() - n * interval '1 day' FROM generate_series(1, 105) n""", [account.id])
        porch.log_in(account, client={"name": "Newest"})
        left = [r[0] for r in db.execute("SELECT name FROM client WHERE account_id = %s", [account.id]).fetchall()]
    assert len(left) == 100 and {"Newest", "Test phone", "Old 98"} <= set(left) and "Old 99" not in left


def test_s_p7_64_right_pins_at_once_make_one_session(porch, account):
    mails = porch.mail.count(account.email)
    c = rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": account.password, "client": {"name": "Rush"}}).ok(202)["challenge"]
    pin = porch.mail.pin(account.email, mails)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        replies = list(pool.map(lambda _: rest.Api(porch).post(f"/v1/challenges/{c['id']}/verify", {"pin": pin}, key=c["key"]), range(64)))
    assert [r.status for r in replies].count(201) == 1, [(r.status, r.code) for r in replies]
    assert {r.code for r in replies if r.status != 201} <= {"challenge_spent", "pin_exhausted"}
    assert names(account).count("Rush") == 1


def test_the_export_holds_what_the_account_has(porch, account, other_account):
    account.api.post("/v1/systems", {"name": "Attic"}).ok(201)
    other_account.api.post("/v1/systems", {"name": "Not mine"}).ok(201)
    account.api.post("/v1/account/export").refused("step_up_required")
    r = account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)
    assert (r["account"]["email"], r["account"]["phone"]) == (account.email, account.phone)
    assert [s["name"] for s in r["home"]["systems"]] == ["Attic"] and [c["name"] for c in r["clients"]] == ["Test phone"]
    assert r["live"]["sessions"] == []
    done = [a["action"] for a in r["audit"]]
    assert done[:2] == ["account.created", "session.opened"] and "step_up.granted" in done
    text = str(r.body)
    assert other_account.email not in text and "Not mine" not in text
    for secret in (account.password, account.api.token, account.api.tokens["refresh_token"], "$argon2id"):
        assert secret not in text


def test_country_and_region_are_changed(porch, account):
    r = account.api.patch("/v1/account", {"country": "NZ"}).ok(200)
    assert (r["country"], r["region"], r["email"]) == ("NZ", "ap", account.email)
    assert account.api.patch("/v1/account", {"country": "NZ", "region": "eu"}).ok(200)["region"] == "eu"
    account.api.patch("/v1/account", {"country": "ZZ"}).refused("invalid_request")
    account.api.patch("/v1/account", {"country": "NZ", "region": "moon"}).refused("invalid_request")
    assert account.api.get("/v1/account").ok(200)["region"] == "eu"
