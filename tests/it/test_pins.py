"""PINs over REST, on a clock that the test moves (S-P2..S-P10). The exact second of each rule is in tests/unit/test_pin.c; here the same rules hold through
HTTP, PostgreSQL, the outbox, real SMTP and a real webhook, over restarts and in parallel."""
import concurrent.futures
import os
import subprocess

import pytest

from lib import rest
from lib.porch import Porch
from lib.wait import until


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    """A system of this module's own: its clock jumps."""
    porch = Porch(tmp_path_factory.mktemp("pins") / "data")
    try:
        yield porch.start()
    finally:
        porch.close()


class Challenge:
    def __init__(self, porch, api, body, to=None):
        self.porch, self.api, self.id, self.key, self.first = porch, api, body["id"], body["key"], body
        self.path = f"/v1/challenges/{self.id}"

    def look(self, **how):
        return self.api.get(self.path, **{"key": self.key, **how})

    def verify(self, pin, **how):
        return self.api.post(f"{self.path}/verify", {"pin": pin}, **{"key": self.key, **how})

    def resend(self, channel=None, **how):
        return self.api.post(f"{self.path}/resend", {"channel": channel} if channel else {}, **{"key": self.key, **how})

    def advance_to(self, member, seconds):
        """Moves the clock until that many seconds are left of `expires_in` or `resend_in`."""
        self.porch.clock.advance(self.look().ok(200)[member] - seconds)


def start_sign_up(p, email=None):
    """A sign-up that waits for its e-mail PIN: the challenge, the address, how many messages it had before."""
    api, email = rest.Api(p), email or rest.new_email()
    before = p.mail.count(email)
    reply = api.post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US", "client": rest.CLIENT}).ok(202)
    return Challenge(p, api, reply["challenge"]), email, before


def start_log_in(p, account):
    before = p.mail.count(account.email)
    api = rest.Api(p)
    reply = api.post("/v1/sessions", {"email": account.email, "password": account.password, "client": rest.CLIENT}).ok(202)
    return Challenge(p, api, reply["challenge"]), before


def other(pin):
    return f"{(int(pin) + 1) % 1000000:06d}"


def test_s_p2_good_before_40_minutes_dead_after(p):
    c, email, before = start_sign_up(p)
    pin = p.mail.pin(email, before)
    assert 2390 <= c.first["expires_in"] <= 2400
    c.advance_to("expires_in", 10)
    assert c.verify(pin).ok(200)["next"]["needs"] == "destination"
    c, email, before = start_sign_up(p)
    pin = p.mail.pin(email, before)
    c.advance_to("expires_in", 0)
    c.verify(pin).refused("pin_expired")


def test_s_p3_resend_before_90_seconds_is_refused_also_after_a_restart(p):
    c, email, before = start_sign_up(p)
    p.mail.pin(email, before)
    assert 80 <= c.first["resend_in"] <= 90
    c.advance_to("resend_in", 20)
    r = c.resend().refused("resend_too_soon")
    assert r.status == 429 and 1 <= int(r.headers["Retry-After"]) <= 20
    p.restart_server()
    c.resend().refused("resend_too_soon")
    c.advance_to("resend_in", 0)
    again = c.resend().ok(202)["challenge"]
    assert again["sent_count"] == 2 and "key" not in again
    assert "2nd PIN" in p.mail.wait(email, before + 1)["text"]
    # The first send plus four, then no more.
    for n in range(3, 6):
        c.advance_to("resend_in", 0)
        assert c.resend().ok(202)["challenge"]["sent_count"] == n
    assert c.look()["resend_in"] is None
    p.clock.advance(600)
    c.resend().refused("resend_exhausted")


def test_s_p4_a_new_pin_ends_the_old_one(p):
    c, email, before = start_sign_up(p)
    old = p.mail.pin(email, before)
    c.verify(other(old)).refused("pin_wrong")
    c.advance_to("resend_in", 0)
    assert c.resend().ok(202)["challenge"]["attempts_left"] == 4
    new = p.mail.pin(email, before + 1)
    r = c.verify(old).refused("pin_wrong")
    assert r["attempts_left"] == 3
    c.verify(new).ok(200)


def test_s_p5_five_wrong_tries_end_the_challenge(p):
    c, email, before = start_sign_up(p)
    pin = p.mail.pin(email, before)
    assert [c.verify(other(pin)).refused("pin_wrong")["attempts_left"] for _ in range(5)] == [4, 3, 2, 1, 0]
    c.verify(pin).refused("pin_exhausted")
    p.clock.advance(300)
    c.resend().refused("pin_exhausted")


def test_s_p5_a_hundred_parallel_guesses_get_five_comparisons(p):
    c, email, before = start_sign_up(p)
    pin = p.mail.pin(email, before)
    guesses = [f"{(int(pin) + 1 + n) % 1000000:06d}" for n in range(100)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        codes = [r.code for r in pool.map(c.verify, guesses)]
    assert codes.count("pin_wrong") == 5 and codes.count("pin_exhausted") == 95
    c.verify(pin).refused("pin_exhausted")


def test_s_p6_ten_wrong_tries_over_challenges_and_a_restart(p):
    account = p.sign_up()
    for n in range(2):
        c, before = start_log_in(p, account)
        pin = p.mail.pin(account.email, before)
        for _ in range(5):
            c.verify(other(pin)).refused("pin_wrong")
        if n == 0:
            p.restart_server()
    body = {"email": account.email, "password": account.password, "client": rest.CLIENT}
    r = rest.Api(p).post("/v1/sessions", body).refused("challenge_budget")
    assert r.status == 429 and 0 < int(r.headers["Retry-After"]) <= 86400
    # The owner who is signed in stays so, and may do other things that need a PIN.
    account.api.get("/v1/account").ok(200)
    assert p.step_up(account, "delete_hub").startswith("plsg_")
    p.clock.advance(86400)
    rest.Api(p).post("/v1/sessions", body).ok(202)


def test_s_p7_64_parallel_right_answers_make_one_session(p):
    account = p.sign_up()
    c, before = start_log_in(p, account)
    pin = p.mail.pin(account.email, before)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: c.verify(pin), range(64)))
    assert sum(r.status == 201 for r in replies) == 1
    assert {r.code for r in replies if r.status != 201} <= {"challenge_spent", "pin_exhausted"}
    assert len(account.api.get("/v1/account/clients").ok(200)["clients"]) == 2


def test_s_p8_pin_and_key_of_another_challenge_fail_and_count(p):
    a, email_a, before_a = start_sign_up(p)
    b, email_b, before_b = start_sign_up(p)
    pin_a, pin_b = p.mail.pin(email_a, before_a), p.mail.pin(email_b, before_b)
    assert b.verify(pin_a).refused("pin_wrong")["attempts_left"] == 4 if pin_a != pin_b else True
    assert a.verify(pin_a, key=b.key).refused("pin_wrong")["attempts_left"] == 4
    assert a.verify(pin_a, key="plck_x").refused("pin_wrong")["attempts_left"] == 3
    for wrong_key in (b.key, "plck_x"):
        a.look(key=wrong_key).refused("not_found")
        a.resend(key=wrong_key).refused("not_found")
    # A forgotten header is no guess.
    for call in (a.look, a.resend, lambda **how: a.verify(pin_a, **how)):
        assert "Challenge-Key" in call(key=None).refused("invalid_request")["detail"]
    assert a.look().ok(200)["attempts_left"] == 3
    a.verify(pin_a).ok(200)


def test_s_p8_a_step_up_pin_is_for_its_purpose_only(p):
    account = p.sign_up()
    before = p.mail.count(account.email)
    first = Challenge(p, account.api, account.api.post("/v1/step-up", {"purpose": "delete_hub"}).ok(202)["challenge"])
    pin = p.mail.pin(account.email, before)
    second = Challenge(p, account.api, account.api.post("/v1/step-up", {"purpose": "delete_account"}).ok(202)["challenge"])
    pin_2 = p.mail.pin(account.email, before + 1)
    if pin != pin_2:
        second.verify(pin).refused("pin_wrong")
    grant = first.verify(pin).ok(200)["grant"]
    account.api.delete("/v1/account", grant=grant).refused("step_up_required")
    account.api.get("/v1/account").ok(200)


def test_s_f2_no_message_to_a_phone_before_the_email_is_proved(p):
    c, _, _ = start_sign_up(p)
    phone = rest.new_phone()
    for channel in ("sms", "voice"):
        c.api.post(f"{c.path}/destination", {"phone": phone, "channel": channel}, key=c.key).refused("channel_refused")
        c.resend(channel).refused("channel_refused")
    assert p.sms.count(phone) == 0


def test_a_mistyped_number_can_be_mended_as_a_resend(p):
    c, email, before = start_sign_up(p)
    n = c.verify(p.mail.pin(email, before)).ok(200)["next"]["challenge"]
    assert n["channel"] is None and n["sent_to"] is None and n["sent_count"] == 0
    phone = Challenge(p, c.api, n)
    wrong, right = rest.new_phone(), rest.new_phone()
    send = lambda to, channel: c.api.post(f"{phone.path}/destination", {"phone": to, "channel": channel}, key=phone.key)  # noqa: E731
    send(wrong, "sms").ok(202)
    old = p.sms.pin(wrong)
    send(right, "voice").refused("resend_too_soon")
    phone.advance_to("resend_in", 0)
    assert send(right, "voice").ok(202)["challenge"]["sent_count"] == 2
    message = p.sms.wait(right)
    assert message["channel"] == "voice"
    new = p.sms.said(p.sms.heard(p, message))
    if old != new:
        phone.verify(old).refused("pin_wrong")
    phone.verify(new).ok(201)


def test_log_in_may_change_to_another_verified_destination(p):
    account = p.sign_up()
    c, before = start_log_in(p, account)
    p.mail.pin(account.email, before)
    texts = p.sms.count(account.phone)
    c.advance_to("resend_in", 0)
    r = c.resend("sms").ok(202)["challenge"]
    assert r["channel"] == "sms" and account.phone not in r["sent_to"] and r["sent_to"].endswith(account.phone[-2:])
    c.verify(p.sms.pin(account.phone, texts)).ok(201)


def test_s_p10_a_message_older_than_half_its_life_is_not_sent(p):
    email = rest.new_email()
    p.mail.refuse = "451 later"
    try:
        _, email, _ = start_sign_up(p, email)
        with p.db() as db:
            waits = lambda: db.execute("SELECT count(*) FROM outbox WHERE status = 'queued' AND attempts > 0").fetchone()[0]  # noqa: E731
            until(waits, "the refused message waits for its next try")
            p.clock.advance(1200)
            p.mail.refuse = None
            ended = lambda: db.execute("SELECT count(*) FROM outbox WHERE status IN ('queued', 'leased')").fetchone()[0] == 0  # noqa: E731
            until(ended, "nothing waits any more")
    finally:
        p.mail.refuse = None
    assert p.mail.count(email) == 0


def test_s_p10_no_pin_token_or_password_in_logs_or_rows(p):
    """Runs last in this file: by now many of each were made. What was sent is wiped, what was written is hashes."""
    secrets = {m["pin"] for m in p.mail.messages + p.sms.messages if m.get("pin")}
    secrets = {f'"{s}"' for s in secrets} | {f" {s} " for s in secrets} | {"a quiet porch at night"}
    tokens = set()
    for e in p.exchanges:
        for body in (e.reply, e.request):
            if isinstance(body, dict):
                tokens |= {v for v in body.values() if isinstance(v, str) and v[:5] in ("plat_", "plrt_", "plsg_")}
                tokens |= {c["key"] for c in [body.get("challenge"), (body.get("next") or {}).get("challenge")] if c and "key" in c}
    assert len(tokens) > 20
    found = []
    folder = os.path.join(p.dir, "log")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
            text = f.read()
        found += [(name, s) for s in secrets | tokens if s in text]
    assert not found
    with p.db() as db:
        assert db.execute("SELECT count(*) FROM outbox WHERE body IS NOT NULL AND status NOT IN ('queued', 'leased')").fetchone()[0] == 0
    dump = subprocess.run(["pg_dump", "--data-only", "--inserts", p.ready["db"]], capture_output=True, text=True, check=True).stdout
    assert not [s for s in tokens | {"a quiet porch at night"} if s in dump or s[5:] in dump]
    assert not [s for s in secrets if s in dump]
