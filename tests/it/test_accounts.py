"""Accounts as an app developer meets them: sign-up, log-in, refresh, clients, step-up, deletion, the event socket (S-A*, S-S*)."""
import base64
import concurrent.futures
import hashlib
import hmac
import os
import re

import pytest

from lib import rest
from lib.events import Events
from lib.wait import until

PASSWORD = "a quiet porch at night"


def new_key():
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


def sign_up_body(email, **more):
    return {"email": email, "password": PASSWORD, "country": "US", "region": "us", "client": rest.CLIENT, **more}


def log_in_body(account, **more):
    return {"email": account.email, "password": account.password, "client": rest.CLIENT, **more}


# --- sign-up

def test_sign_up_by_email_and_phone(porch):
    api = rest.Api(porch)
    email, phone = rest.new_email(), rest.new_phone()
    challenge = api.post("/v1/accounts", sign_up_body(email)).ok(202)["challenge"]
    assert challenge["purpose"] == "sign_up_email" and challenge["channel"] == "email" and challenge["sent_count"] == 1 and challenge["attempts_left"] == 5
    assert challenge["sent_to"] == f"{email[0]}***@{email.split('@')[1]}"
    mail = porch.mail.wait(email)
    assert mail["headers"]["Message-ID"] and mail["headers"]["Date"] and "40 minutes" in mail["text"]
    step = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": mail["pin"]}, key=challenge["key"]).ok(200)["next"]
    assert step["needs"] == "destination" and step["challenge"]["key"] != challenge["key"]
    path, key = f"/v1/challenges/{step['challenge']['id']}", step["challenge"]["key"]
    sent = api.post(f"{path}/destination", {"phone": phone, "channel": "sms"}, key=key).ok(202)["challenge"]
    assert sent["channel"] == "sms" and sent["sent_to"].endswith(phone[-2:]) and phone not in sent["sent_to"]
    reply = api.post(f"{path}/verify", {"pin": porch.sms.pin(phone)}, key=key).ok(201)
    api.take_tokens(reply)
    own = api.get("/v1/account").ok(200)
    assert (own["email"], own["phone"], own["country"], own["region"]) == (email, phone, "US", "us")
    assert own["account_id"] == reply["account_id"]
    assert [c["current"] for c in api.get("/v1/account/clients").ok(200)["clients"]] == [True]
    # Each step is spent.
    api.post(f"{path}/verify", {"pin": "000000"}, key=key).refused("challenge_spent")


def test_the_sms_is_signed_over_time_and_body(porch):
    account = porch.sign_up()
    m = porch.sms.wait(account.phone)
    assert set(m) >= {"id", "to", "channel", "text", "pin"} and m["pin"] in m["text"]
    t, v1 = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", m["headers"]["Porchlight-Signature"]).groups()
    assert hmac.compare_digest(hmac.new(porch.webhook_key(), t.encode() + b"." + m["raw"], hashlib.sha256).hexdigest(), v1)


def test_s_a5_sign_up_does_not_tell_that_an_email_is_taken(porch, account):
    api = rest.Api(porch)
    free_email = rest.new_email()
    mails = porch.mail.count(account.email)
    taken = api.post("/v1/accounts", sign_up_body(account.email)).ok(202)
    free = api.post("/v1/accounts", sign_up_body(free_email)).ok(202)
    assert set(taken.body) == set(free.body) and set(taken["challenge"]) == set(free["challenge"])
    alike = ("purpose", "channel", "attempts_left", "sent_count")
    assert [taken["challenge"][k] for k in alike] == [free["challenge"][k] for k in alike]
    # The owner is told; there is no PIN in it, and none verifies.
    message = porch.mail.wait(account.email, mails)
    assert message["pin"] is None and "sign in instead" in message["text"]
    c = taken["challenge"]
    wrong = [api.post(f"/v1/challenges/{c['id']}/verify", {"pin": f"{n:06d}"}, key=c["key"]) for n in range(6)]
    assert [(r.status, r.code) for r in wrong] == [(422, "pin_wrong")] * 5 + [(410, "pin_exhausted")]
    assert [r.body.get("attempts_left") for r in wrong[:5]] == [4, 3, 2, 1, 0]


def test_a_taken_phone_is_told_only_to_who_holds_it(porch, account):
    api, email = rest.Api(porch), rest.new_email()
    c = api.post("/v1/accounts", sign_up_body(email)).ok(202)["challenge"]
    c = api.post(f"/v1/challenges/{c['id']}/verify", {"pin": porch.mail.pin(email)}, key=c["key"]).ok(200)["next"]["challenge"]
    texts = porch.sms.count(account.phone)
    api.post(f"/v1/challenges/{c['id']}/destination", {"phone": account.phone, "channel": "sms"}, key=c["key"]).ok(202)
    pin = porch.sms.pin(account.phone, texts)
    api.post(f"/v1/challenges/{c['id']}/verify", {"pin": f"{(int(pin) + 1) % 1000000:06d}"}, key=c["key"]).refused("pin_wrong")
    api.post(f"/v1/challenges/{c['id']}/verify", {"pin": pin}, key=c["key"]).refused("phone_taken")
    assert porch.log_in(account).get("/v1/account").ok(200)["phone"] == account.phone


@pytest.mark.parametrize("change, code", [
    ({"password": "short"}, "password_refused"), ({"password": "Password123"}, "password_refused"), ({"password": "Porchlight!"}, "password_refused"),
    ({"password": "x" * 129}, "password_refused"), ({"country": "ZZ"}, "invalid_request"), ({"country": "us"}, "invalid_request"), ({"region": "moon"}, "invalid_request"),
    ({"email": "nobody"}, "invalid_request"), ({"surprise": 1}, "invalid_request"), ({"client": {"name": "x", "key": "short"}}, "invalid_request")])
def test_s_a2_sign_up_refuses_with_the_field(porch, change, code):
    r = rest.Api(porch).post("/v1/accounts", {**sign_up_body(rest.new_email()), **change}).refused(code)
    assert next(iter(change)) in r["detail"] or code == "password_refused"


def test_s_a2_the_emails_own_name_is_no_password(porch):
    api = rest.Api(porch)
    api.post("/v1/accounts", sign_up_body("margarethe.w@home.example", password="Margarethe.W77")).refused("password_refused")


def test_helpers_of_the_sign_up_form(porch):
    api = rest.Api(porch)
    r = api.get("/v1/regions", headers={"Accept-Language": "de-AT,de;q=0.8"}).ok(200)
    assert r["proposed"] == {"country": "AT", "region": "eu"}
    assert {c["region"] for c in r["countries"]} <= {x["id"] for x in r["regions"]} and len(r["countries"]) > 240
    rules = api.get("/v1/password-rules").ok(200)
    assert (rules["min_length"], rules["max_length"]) == (8, 128)


# --- log-in

def test_log_in_from_a_second_client_asks_for_a_pin(porch, account):
    api = porch.log_in(account)
    clients = account.api.get("/v1/account/clients").ok(200)["clients"]
    assert sorted(c["name"] for c in clients) == ["Second phone", "Test phone"]
    assert api.get("/v1/account").ok(200)["account_id"] == account.id


def test_a_known_client_key_needs_no_pin(porch):
    key = new_key()
    account = porch.sign_up(client={"name": "Phone", "key": key})
    reply = rest.Api(porch).post("/v1/sessions", log_in_body(account, client={"name": "Phone", "key": key})).ok(201)
    assert reply["client_id"] == account.api.tokens["client_id"]
    # The new session took the old one's place; another key is another client.
    account.api.get("/v1/account").refused("unauthenticated")
    rest.Api(porch).post("/v1/sessions", log_in_body(account, client={"name": "Phone", "key": new_key()})).ok(202)
    rest.Api(porch).post("/v1/sessions", log_in_body(account, client={"name": "Phone", "key": key}, password="another password")).refused("invalid_credentials")


def test_s_a5_wrong_password_and_unknown_email_are_alike(porch, account):
    api = rest.Api(porch)
    wrong = api.post("/v1/sessions", log_in_body(account, password="not the password"))
    unknown = api.post("/v1/sessions", {"email": rest.new_email(), "password": "not the password", "client": rest.CLIENT})
    assert wrong.status == unknown.status == 401 and wrong.code == "invalid_credentials"
    strip = lambda r: {k: v for k, v in r.body.items() if k != "instance"}  # noqa: E731
    assert strip(wrong) == strip(unknown)
    drop = {"Date", "X-Request-Id", "Request-Id"}
    assert {k for k in wrong.headers if k not in drop} == {k for k in unknown.headers if k not in drop}
    assert wrong.headers["Content-Type"].startswith("application/problem+json")


def test_email_is_compared_without_case(porch, account):
    rest.Api(porch).post("/v1/sessions", log_in_body(account, email=account.email.upper())).ok(202)


def test_s_a3_a_rush_of_log_ins_is_bounded(porch, account):
    """250 at once; bench/ has the 2,000 of the statement. What is too much is told to come again, and other calls are answered meanwhile."""
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        rush = [pool.submit(rest.Api(porch).post, "/v1/sessions", log_in_body(account, password="not the password"), timeout=120) for _ in range(250)]
        rest.Api(porch).get("/v1/password-rules").ok(200)
        account.api.get("/v1/account").ok(200)
        replies = [r.result() for r in rush]
    assert {(r.status, r.code) for r in replies} <= {(401, "invalid_credentials"), (503, "overloaded")}
    # The 128 that may wait are served, and those that are hashed; of these there may be none yet when the rush is over, for threads that hash stand back.
    assert sum(r.status == 401 for r in replies) >= 128
    assert all(int(r.headers["Retry-After"]) >= 1 for r in replies if r.status == 503)
    porch.log_in(account)


# --- refresh, log-out

def refresh(porch, token, **more):
    return rest.Api(porch).post("/v1/sessions/refresh", {"refresh_token": token, **more})


def test_s_s2_refresh_gives_new_tokens(porch, account):
    first = account.api.tokens
    second = refresh(porch, first["refresh_token"]).ok(200)
    assert second["client_id"] == first["client_id"] and second["refresh_token"] != first["refresh_token"] and second["expires_in"] == 900
    account.api.token = second["access_token"]
    account.api.get("/v1/account").ok(200)


def test_s_s3_a_refresh_token_used_twice_ends_the_session_and_tells_the_owner(porch, account):
    mails = porch.mail.count(account.email)
    first = account.api.tokens["refresh_token"]
    second = refresh(porch, first).ok(200)
    r = refresh(porch, first).refused("token_reused")
    assert r.status == 401
    account.api.token = second["access_token"]
    account.api.get("/v1/account").refused("unauthenticated")
    refresh(porch, second["refresh_token"]).refused("unauthenticated")
    assert "signed out" in porch.mail.wait(account.email, mails)["subject"]


def test_s_s3_a_lost_reply_is_forgiven_to_the_same_client_key(porch):
    key = new_key()
    account = porch.sign_up(client={"name": "Phone", "key": key})
    first = account.api.tokens["refresh_token"]
    refresh(porch, first, client_key=key).ok(200)
    again = refresh(porch, first, client_key=key).ok(200)
    refresh(porch, again["refresh_token"], client_key=key).ok(200)
    refresh(porch, first, client_key=key).refused("token_reused")


def test_log_out_ends_this_session_only(porch, account):
    other = porch.log_in(account)
    account.api.delete("/v1/sessions/current").ok(204)
    account.api.get("/v1/account").refused("unauthenticated")
    refresh(porch, account.api.tokens["refresh_token"]).refused("unauthenticated")
    other.get("/v1/account").ok(200)


def test_calls_without_a_token_are_refused(porch, account):
    for token in (None, "plat_x", "nonsense", account.api.tokens["refresh_token"]):
        account.api.get("/v1/account", token=token).refused("unauthenticated")


# --- clients, step-up

def test_s_s5_revoking_a_client_cuts_token_and_event_socket(porch, account):
    other = porch.log_in(account)
    grant = porch.step_up(account, "revoke_clients")
    with Events(porch, other.token) as events, Events(porch, account.api.token) as own:
        account.api.delete(f"/v1/account/clients/{other.tokens['client_id']}", grant=grant).ok(204)
        assert events.closed() == 4401
        assert own.wait("account.client_revoked")["data"] == {"client_id": other.tokens["client_id"]}
    other.get("/v1/account").refused("unauthenticated")
    account.api.get("/v1/account").ok(200)
    assert len(account.api.get("/v1/account/clients").ok(200)["clients"]) == 1


def test_a_grant_works_once_and_only_for_its_client(porch, account, other_account):
    victim, other = porch.log_in(account), porch.log_in(account)
    path = f"/v1/account/clients/{victim.tokens['client_id']}"
    account.api.delete(path).refused("step_up_required")
    grant = porch.step_up(account, "revoke_clients")
    other.delete(path, grant=grant).refused("step_up_required")
    other_account.api.delete(path, grant=grant).refused("step_up_required")
    account.api.delete(path, grant=grant).ok(204)
    account.api.delete(f"/v1/account/clients/{other.tokens['client_id']}", grant=grant).refused("step_up_required")


def test_s_s10_somebody_elses_client_is_not_found(porch, account, other_account):
    grant = porch.step_up(account, "revoke_clients")
    account.api.delete(f"/v1/account/clients/{other_account.api.tokens['client_id']}", grant=grant).refused("not_found")
    other_account.api.get("/v1/account").ok(200)


# --- the event socket

def test_events_resume_from_a_cursor(porch, account):
    with Events(porch, account.api.token) as events:
        start = events.cursor
        porch.log_in(account)
        first = events.wait("account.client_added")
    porch.log_in(account)
    with Events(porch, account.api.token, cursor=first["cursor"]) as events:
        second = events.wait("account.client_added")
        assert second["cursor"] == first["cursor"] + 1 == start + 2
        # The next token of the same client goes on in place.
        tokens = refresh(porch, account.api.tokens["refresh_token"]).ok(200)
        events.send({"type": "auth", "token": tokens["access_token"]})
        porch.log_in(account)
        assert events.wait("account.client_added", lambda d: d["client_id"] != second["data"]["client_id"])["cursor"] == second["cursor"] + 1


def test_events_of_one_account_are_not_anothers(porch, account, other_account):
    with Events(porch, account.api.token) as mine, Events(porch, other_account.api.token) as theirs:
        porch.log_in(account)
        mine.wait("account.client_added")
        porch.log_in(other_account)
        theirs.wait("account.client_added")
        assert len(mine.events) == 1 and len(theirs.events) == 1


def test_an_event_socket_with_a_bad_token_is_closed(porch, account):
    events = Events(porch, "plat_" + "A" * 43)
    with pytest.raises(AssertionError, match="4401"):
        events.__enter__()


# --- the end

def test_s_s6_deleting_the_account_leaves_no_row_of_it(porch, account):
    key = new_key()
    other = porch.log_in(account, client={"name": "Second phone", "key": key})
    mails = porch.mail.count(account.email)
    grant = porch.step_up(account, "delete_account")
    with Events(porch, other.token) as events:
        account.api.delete("/v1/account", grant=grant).ok(204)
        assert events.closed() == 4401
    assert "deleted" in porch.mail.wait(account.email, mails + 1)["text"]
    account.api.get("/v1/account").refused("unauthenticated")
    rest.Api(porch).post("/v1/sessions", log_in_body(account)).refused("invalid_credentials")
    with porch.db() as db:
        own = ["account", "account_email", "account_phone", "client", "session", "session_token", "step_up_grant", "challenge", "outbox"]
        left = lambda: [t for t in own if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchone()]  # noqa: E731
        assert left() == []
    # Both addresses are free again.
    again = porch.sign_up(email=account.email, phone=account.phone)
    assert again.id != account.id


def test_s_s2_sessions_end_on_time(own_porch):
    p = own_porch()
    account = p.sign_up()
    with Events(p, account.api.token) as events:
        p.clock.advance(901)
        account.api.get("/v1/account").refused("unauthenticated")
        assert events.closed() == 4401
    p.clock.advance(29 * 86400)
    account.api.take_tokens(refresh(p, account.api.tokens["refresh_token"]).ok(200))
    account.api.get("/v1/account").ok(200)
    p.clock.advance(30 * 86400)
    refresh(p, account.api.tokens["refresh_token"]).refused("unauthenticated")


def test_without_transports_messages_wait_in_the_outbox(own_porch):
    p = own_porch(transports=False)
    email = rest.new_email()
    c = rest.Api(p).post("/v1/accounts", sign_up_body(email)).ok(202)["challenge"]
    mine = [m for m in p.ctl("outbox")["messages"] if m["to"] == email]
    assert len(mine) == 1 and re.fullmatch(r"\d{6}", mine[0]["pin"])
    rest.Api(p).post(f"/v1/challenges/{c['id']}/verify", {"pin": mine[0]["pin"]}, key=c["key"]).ok(200)
    assert mine[0]["pin"] not in until(lambda: p.logs(most=1 << 20), "there are logs").replace(mine[0]["id"], "")
