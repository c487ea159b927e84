"""Another e-mail or phone (S-P11): step-up, PIN to the new one, notice to the old one, 72 hours to undo it."""
import concurrent.futures
import re

import pytest

from lib import rest
from lib.events import Events

HOURS = 3600


def change(porch, account, kind, value):
    """The whole change; the reply of its verify."""
    sink = porch.mail if kind == "email" else porch.sms
    seen = sink.count(value)
    c = account.api.post(f"/v1/account/{kind}", {kind: value}, grant=porch.step_up(account, f"change_{kind}")).ok(202)["challenge"]
    assert c["purpose"] == f"verify_{kind}"
    return account.api.post(f"/v1/challenges/{c['id']}/verify", {"pin": sink.pin(value, seen)}, key=c["key"])


def undo_token(sink, to, after=0):
    return re.search(r"porchlight://account/undo#(plun_[A-Za-z0-9_-]{43})", sink.wait(to, after, which=lambda m: "#plun_" in m["text"])["text"]).group(1)


def undo(porch, token):
    return rest.Api(porch).post(f"/v1/account/changes/{token}/undo")


def own(account):
    return account.api.get("/v1/account").ok(200)


def log_in(porch, email, password):
    return rest.Api(porch).post("/v1/sessions", {"email": email, "password": password, "client": rest.CLIENT})


def test_s_p11_change_of_email(porch, account):
    old, new = account.email, rest.new_email()
    account.api.post("/v1/account/email", {"email": new}).refused("step_up_required")
    assert change(porch, account, "email", new).ok(200).body == {"email": new}
    assert own(account)["email"] == new
    undo_token(porch.mail, old)
    log_in(porch, new, account.password).ok(202)
    log_in(porch, old, account.password).refused("invalid_credentials")


def test_s_p11_change_of_phone(porch, account):
    old, new = account.phone, rest.new_phone()
    assert change(porch, account, "phone", new).ok(200).body == {"phone": new}
    assert own(account)["phone"] == new
    # The old number and the e-mail hear of it.
    assert undo_token(porch.sms, old) == undo_token(porch.mail, account.email)


def test_s_p11_nothing_changes_before_the_pin(porch, account):
    new = rest.new_email()
    c = account.api.post("/v1/account/email", {"email": new}, grant=porch.step_up(account, "change_email")).ok(202)["challenge"]
    pin = porch.mail.pin(new)
    account.api.post(f"/v1/challenges/{c['id']}/verify", {"pin": f"{(int(pin) + 1) % 1000000:06d}"}, key=c["key"]).refused("pin_wrong")
    account.api.post(f"/v1/challenges/{c['id']}/resend", {"channel": "sms"}, key=c["key"]).refused("channel_refused")
    assert own(account)["email"] == account.email
    account.api.post("/v1/account/email", {"email": account.email}, grant=porch.step_up(account, "change_email")).refused("invalid_request")


@pytest.mark.parametrize("kind", ["email", "phone"])
def test_s_p11_undo_ends_everything_and_wants_a_reset(porch, account, kind):
    new = rest.new_email() if kind == "email" else rest.new_phone()
    mails = porch.mail.count(account.email)
    change(porch, account, kind, new).ok(200)
    token = undo_token(porch.mail, account.email, mails)
    with Events(porch, account.api.token) as events:
        undo(porch, token).ok(204)
        assert events.closed() == 4401
    undo(porch, token).refused("not_found")
    account.api.get("/v1/account").refused("unauthenticated")
    log_in(porch, account.email, account.password).refused("invalid_credentials")
    # The reset is under way by itself, to the addresses of before.
    texts = porch.sms.count(account.phone)
    link = re.search(r"reset#(plpr_[A-Za-z0-9_-]+)", porch.mail.wait(account.email, mails, which=lambda m: "#plpr_" in m["text"])["text"]).group(1)
    c = rest.Api(porch).post(f"/v1/password-resets/{link}/open", {}).ok(202)["challenge"]
    grant = rest.Api(porch).post(f"/v1/challenges/{c['id']}/verify", {"pin": porch.sms.pin(account.phone, texts)}, key=c["key"]).ok(200)["grant"]
    account.password = "a porch that is mine again"
    rest.Api(porch).post(f"/v1/password-resets/{link}/finish", {"password": account.password}, grant=grant).ok(204)
    account.api = porch.log_in(account)
    assert (own(account)["email"], own(account)["phone"]) == (account.email, account.phone)
    # What was taken back is free for others.
    porch.sign_up(**{kind: new})


def test_s_p11_an_undo_takes_back_what_came_after_it(porch, account):
    """Who stole a session changes the e-mail, then the phone, then the e-mail again: the first address brings all of it back."""
    old = (account.email, account.phone)
    change(porch, account, "email", rest.new_email()).ok(200)
    token = undo_token(porch.mail, old[0])
    account.email = own(account)["email"]
    change(porch, account, "phone", rest.new_phone()).ok(200)
    change(porch, account, "email", rest.new_email()).ok(200)
    later = undo_token(porch.mail, account.email)
    undo(porch, token).ok(204)
    undo(porch, later).refused("not_found")
    with porch.db() as db:
        assert db.execute("SELECT email, phone FROM account WHERE account_id = %s", [account.id]).fetchone() == old
        for table in ("account_email", "account_phone"):
            assert len(db.execute(f"SELECT 1 FROM {table} WHERE account_id = %s", [account.id]).fetchall()) == 1


def test_s_p11_an_undo_leaves_nothing_that_signs_in_alone(porch, account):
    """Who changed the address may have added a passkey or codes of their own meanwhile."""
    account.api.post("/v1/account/factors/recovery-codes", grant=porch.step_up(account, "change_factors")).ok()
    change(porch, account, "phone", rest.new_phone()).ok(200)
    with porch.db() as db:
        factors = lambda: [db.execute(f"SELECT count(*) FROM {t} WHERE account_id = %s", [account.id]).fetchone()[0] for t in ("factor_recovery", "factor_passkey", "factor_totp")]  # noqa: E731
        assert factors() == [10, 0, 0]
        undo(porch, undo_token(porch.sms, account.phone)).ok(204)
        assert factors() == [0, 0, 0]


def test_s_p11_the_old_address_is_kept_for_72_hours(own_porch):
    p = own_porch()
    account, thief = p.sign_up(), p.sign_up()
    old, new = account.email, rest.new_email()
    change(p, account, "email", new).ok(200)
    token = undo_token(p.mail, old)
    assert change(p, thief, "email", old).code == "email_taken"
    # There and back: it is the account's own.
    account.email = new
    p.clock.advance(600)
    thief.api.take_tokens(rest.Api(p).post("/v1/sessions/refresh", {"refresh_token": thief.api.tokens["refresh_token"]}).ok(200))
    p.clock.advance(72 * HOURS - 601)
    account.api.take_tokens(rest.Api(p).post("/v1/sessions/refresh", {"refresh_token": account.api.tokens["refresh_token"]}).ok(200))
    own(account)
    p.clock.advance(2)
    undo(p, token).refused("not_found")
    p.clock.advance(120)
    thief.api.take_tokens(rest.Api(p).post("/v1/sessions/refresh", {"refresh_token": thief.api.tokens["refresh_token"]}).ok(200))
    from lib.wait import until
    until(lambda: free(p, old), "the old address is free", 90)
    assert change(p, thief, "email", old).ok(200).body == {"email": old}


def free(p, email):
    with p.db() as db:
        return db.execute("SELECT 1 FROM account_email WHERE email = %s", [email]).fetchone() is None


def test_an_address_that_somebody_has_is_told_only_to_who_holds_it(porch, account, other_account):
    assert change(porch, account, "email", other_account.email).code == "email_taken"
    assert change(porch, account, "phone", other_account.phone).code == "phone_taken"
    assert (own(account)["email"], own(account)["phone"]) == (account.email, account.phone)
    assert own(other_account)["email"] == other_account.email


def test_of_two_who_want_one_address_one_gets_it(porch):
    """Each holds the right PIN; they answer at the same moment."""
    people, new = [porch.sign_up() for _ in range(4)], rest.new_phone()
    ready = []
    for a in people:
        seen = porch.sms.count(new)
        c = a.api.post("/v1/account/phone", {"phone": new}, grant=porch.step_up(a, "change_phone")).ok(202)["challenge"]
        ready.append((a, c, porch.sms.pin(new, seen)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda x: x[0].api.post(f"/v1/challenges/{x[1]['id']}/verify", {"pin": x[2]}, key=x[1]["key"]), ready))
    assert sorted((r.status, r.code) for r in replies) == [(200, None)] + [(409, "phone_taken")] * 3
    assert sum(own(a)["phone"] == new for a in people) == 1
