"""Passwords: what one may be (S-A1, S-A2), changing and resetting it (S-A5, S-A8)."""
import concurrent.futures
import re

import pytest

from lib import rest
from lib.events import Events

NEW = "another quiet porch at dawn"


def link(message, page):
    """The token behind the link of a message; the link begins with the setting's default."""
    return re.search(rf"porchlight://account/{page}#(pl(?:pr|un)_[A-Za-z0-9_-]{{43}})", message["text"]).group(1)


def ask(porch, email, **how):
    return rest.Api(porch).post("/v1/password-resets", {"email": email}, **how).ok(202)


def reset_link(porch, account, mails=0):
    ask(porch, account.email)
    return link(porch.mail.wait(account.email, mails, which=lambda m: "#plpr_" in m["text"]), "reset")


def open_link(porch, token, **body):
    return rest.Api(porch).post(f"/v1/password-resets/{token}/open", body)


def prove(porch, account, token):
    """From the link to the grant, by the PIN of the phone."""
    texts = porch.sms.count(account.phone)
    c = open_link(porch, token).ok(202)["challenge"]
    assert c["purpose"] == "reset_password" and c["channel"] == "sms"
    return rest.Api(porch).post(f"/v1/challenges/{c['id']}/verify", {"pin": porch.sms.pin(account.phone, texts)}, key=c["key"]).ok(200)


def finish(porch, token, grant, password=NEW):
    return rest.Api(porch).post(f"/v1/password-resets/{token}/finish", {"password": password}, grant=grant)


def log_in(porch, account, password):
    return rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": password, "client": rest.CLIENT})


@pytest.fixture
def token(porch, account):
    return reset_link(porch, account)


# --- change

def test_s_a8_a_changed_password_signs_out_the_others_and_tells_the_owner(porch, account):
    other = porch.log_in(account)
    mails = porch.mail.count(account.email)
    with Events(porch, other.token) as events:
        account.api.post("/v1/account/password", {"password": NEW}, grant=porch.step_up(account, "change_password")).ok(204)
        assert events.closed() == 4401
    assert "password" in porch.mail.wait(account.email, mails, which=lambda m: "was changed" in m["subject"])["text"]
    other.get("/v1/account").refused("unauthenticated")
    assert [c["current"] for c in account.api.get("/v1/account/clients").ok(200)["clients"]] == [True]
    log_in(porch, account, account.password).refused("invalid_credentials")
    log_in(porch, account, NEW).ok(202)


def test_change_wants_a_step_up_and_a_refused_password_does_not_spend_it(porch, account):
    account.api.post("/v1/account/password", {"password": NEW}).refused("step_up_required")
    account.api.post("/v1/account/password", {"password": NEW}, grant="plsg_" + "A" * 43).refused("step_up_required")
    grant = porch.step_up(account, "change_password")
    account.api.post("/v1/account/password", {"password": account.email}, grant=grant).refused("password_refused")
    log_in(porch, account, account.password).ok(202)
    account.api.post("/v1/account/password", {"password": NEW}, grant=grant).ok(204)
    account.api.post("/v1/account/password", {"password": NEW + "!"}, grant=grant).refused("step_up_required")
    log_in(porch, account, NEW).ok(202)


def test_a_challenge_of_the_old_password_ends_with_it(porch, account):
    mails = porch.mail.count(account.email)
    c = log_in(porch, account, account.password).ok(202)["challenge"]
    pin = porch.mail.pin(account.email, mails)
    account.api.post("/v1/account/password", {"password": NEW}, grant=porch.step_up(account, "change_password")).ok(204)
    rest.Api(porch).post(f"/v1/challenges/{c['id']}/verify", {"pin": pin}, key=c["key"]).refused("not_found")


@pytest.mark.parametrize("password, says", [
    ("p0rchl1ght!", "product"), ("my porchlight", "product"), ("{local}2026", "e-mail"), ("{email}", "e-mail"), ("iloveyou2!", "Many"), ("qazwsxedc", "Many"),
    ("monkey123", "Many"), ("Sommer2024", "Many"), ("abcabcabc", "Many")])
def test_s_a2_what_is_guessed_first_is_refused_with_the_reason(porch, password, says):
    email = rest.new_email().replace("person", "margarethe")
    body = {"email": email, "password": password.format(email=email, local=email.split("@")[0]), "country": "AT"}
    assert says in rest.Api(porch).post("/v1/accounts", body).refused("password_refused")["detail"]


def test_s_a1_a_password_is_any_eight_characters(porch):
    for password in ("r7 k.p q", "  blanks around  it ", "\U0001f438\U0001f41d\U0001f43b\U0001f98a\U0001f428\U0001f42f\U0001f43c\U0001f438", "x7Fq!2kd" * 16):
        rest.Api(porch).post("/v1/accounts", {"email": rest.new_email(), "password": password, "country": "AT"}).ok(202)


# --- reset

def test_s_a8_reset_from_link_to_log_in(porch, account):
    other = porch.log_in(account)
    mails = porch.mail.count(account.email)
    token = reset_link(porch, account)
    grant = prove(porch, account, token)
    assert set(grant.body) == {"grant", "expires_in"}
    r = finish(porch, token, grant["grant"]).ok(204)
    assert r.body is None  # it signs nobody in
    account.api.get("/v1/account").refused("unauthenticated")
    other.get("/v1/account").refused("unauthenticated")
    rest.Api(porch).post("/v1/sessions/refresh", {"refresh_token": account.api.tokens["refresh_token"]}).refused("unauthenticated")
    porch.mail.wait(account.email, mails, which=lambda m: "password was changed" in m["subject"])
    log_in(porch, account, account.password).refused("invalid_credentials")
    account.password = NEW
    assert len(porch.log_in(account).get("/v1/account/clients").ok(200)["clients"]) == 1
    finish(porch, token, grant["grant"]).refused("step_up_required")


def test_s_a8_a_client_that_was_known_answers_a_pin_after_a_reset(porch):
    import base64
    import os
    key = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    account = porch.sign_up(client={"name": "Phone", "key": key})
    token = reset_link(porch, account)
    finish(porch, token, prove(porch, account, token)["grant"]).ok(204)
    rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": NEW, "client": {"name": "Phone", "key": key}}).ok(202)


def test_s_a8_the_link_works_once_and_never_skips_the_pin(porch, account, token):
    finish(porch, token, "plsg_" + "A" * 43).refused("step_up_required")
    rest.Api(porch).post(f"/v1/password-resets/{token}/finish", {"password": NEW}).refused("step_up_required")
    c = open_link(porch, token, channel="voice").ok(202)["challenge"]
    assert c["channel"] == "voice"
    open_link(porch, token).refused("not_found")
    finish(porch, token, porch.step_up(account, "change_password")).refused("step_up_required")
    log_in(porch, account, account.password).ok(202)
    for bad in ("plpr_" + "A" * 43, "nonsense", "plun_" + "A" * 43):
        open_link(porch, bad).refused("not_found")


def test_s_a8_the_pin_of_a_reset_does_not_go_where_the_link_went(porch, account, token):
    open_link(porch, token, channel="email").refused("invalid_request")
    c = open_link(porch, token).ok(202)["challenge"]
    rest.Api(porch).post(f"/v1/challenges/{c['id']}/resend", {"channel": "email"}, key=c["key"]).refused("channel_refused")


def test_s_a8_the_links_host_is_not_the_requests(porch, account):
    ask(porch, account.email, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"})
    text = porch.mail.wait(account.email, which=lambda m: "#plpr_" in m["text"])["text"]
    assert "evil" not in text and "porchlight://account/reset#plpr_" in text


def test_s_a8_the_links_host_is_the_operators(own_porch):
    p = own_porch(extra=["--set", "account.link_url=https://home.example/porch"])
    account = p.sign_up()
    ask(p, account.email)
    assert "https://home.example/porch/reset#plpr_" in p.mail.wait(account.email, which=lambda m: "#plpr_" in m["text"])["text"]


def test_s_a5_reset_tells_nothing(porch, account):
    strip = lambda r: (r.status, r.body, sorted(k for k in r.headers if k not in ("Date", "X-Request-Id")))  # noqa: E731
    unknown = rest.new_email()
    assert strip(ask(porch, account.email)) == strip(ask(porch, unknown))
    porch.mail.wait(account.email, which=lambda m: "#plpr_" in m["text"])
    assert porch.mail.count(unknown) == 0


def test_one_link_in_90_seconds(own_porch):
    p = own_porch()
    account = p.sign_up()
    first = reset_link(p, account)
    mails = p.mail.count(account.email)
    ask(p, account.email)
    p.clock.advance(91)
    second = reset_link(p, account, mails)
    assert p.mail.count(account.email) == mails + 1 and second != first
    # Both are good, the one that is used first ends the other; a link lives as long as a PIN.
    finish(p, second, prove(p, account, second)["grant"]).ok(204)
    open_link(p, first).refused("not_found")
    p.clock.advance(90)
    late = reset_link(p, account, p.mail.count(account.email))
    p.clock.advance(40 * 60)
    open_link(p, late).refused("not_found")


def test_a_reset_grant_works_once_in_parallel(porch, account, token):
    grant = prove(porch, account, token)["grant"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda n: finish(porch, token, grant, f"{NEW} {n}"), range(4)))
    assert [r.status for r in replies].count(204) == 1, [(r.status, r.body) for r in replies]
    assert {r.code for r in replies if r.status != 204} <= {"step_up_required", "overloaded"}


def test_s_p10_no_link_stands_in_the_database(porch, account, token):
    with porch.db() as db:
        rows = str(db.execute("SELECT * FROM password_reset").fetchall())
        assert token not in rows and token[5:] not in rows


def test_s_a8_log_ins_that_meet_a_reset_leave_no_session(porch):
    """The old password is right when they begin; known clients, so that no PIN stands between."""
    key = "A" * 43
    account = porch.sign_up(client={"name": "Phone", "key": key})
    token = reset_link(porch, account)
    grant = prove(porch, account, token)["grant"]

    def old_password(_):
        return rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": account.password, "client": {"name": "Phone", "key": key}})

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        rush = [pool.submit(old_password, n) for n in range(24)]
        done = pool.submit(finish, porch, token, grant)
        replies = [r.result() for r in rush]
        done.result().ok(204)
    assert {r.status for r in replies} <= {201, 202, 401}
    for r in replies:
        if r.status == 201:
            rest.Api(porch).get("/v1/account", token=r["access_token"]).refused("unauthenticated")
        elif r.status == 202:
            c = r["challenge"]
            rest.Api(porch).get(f"/v1/challenges/{c['id']}", key=c["key"]).refused("not_found")
    with porch.db() as db:
        assert db.execute("SELECT count(*) FROM session WHERE account_id = %s", [account.id]).fetchone()[0] == 0
