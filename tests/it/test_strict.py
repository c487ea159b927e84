"""The strict profile (S-P2): its numbers are read from docs/operators.md, and the system keeps each of them."""
import os
import re
import subprocess

import pytest
from lib import rest
from lib.openapi import ROOT
from lib.porch import Porch, program
from lib.wait import until


def chapter():
    with open(os.path.join(ROOT, "docs/operators.md"), encoding="utf-8") as f:
        return f.read().split("### The strict profile\n", 1)[1].split("\nMore than", 1)[0]


SETTING = re.search(r"^```\n(\S+) = (\S+)\n```$", chapter(), re.M).groups()
ROWS = {name: (default, strict) for name, default, strict in re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", chapter(), re.M)[1:]}


def seconds(row):
    return int(re.fullmatch(r"(\d+) min", ROWS[row][1]).group(1)) * 60


GOOD, GIVEN_UP, LINK = seconds("a PIN is good for"), seconds("a PIN that was not handed over is given up after"), seconds("a link that resets a password is good for")


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    porch = Porch(tmp_path_factory.mktemp("strict") / "data", extra=["--set", "=".join(SETTING)])
    try:
        yield porch.start()
        assert porch.stop() == 0
    finally:
        porch.close()


def start(p, email=None):
    """(path, key, first answer, e-mail) of a sign-up."""
    email = email or rest.new_email()
    c = rest.Api(p).post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US"}).ok(202)["challenge"]
    return f"/v1/challenges/{c['id']}", c["key"], c, email


def left(p, path, key, member, wanted):
    """Moves the clock until so many seconds are left."""
    p.clock.advance(rest.Api(p).get(path, key=key).ok(200)[member] - wanted)


def test_the_document_says_ten_minutes():
    assert SETTING == ("pin.life", "10m") and (GOOD, GIVEN_UP, LINK) == (600, 300, 600)
    assert [strict for _, strict in ROWS.values()][3:] == ["the same", "the same"] and len(ROWS) == 5


def test_s_p2_strict_good_before_ten_minutes_dead_after(p):
    path, key, first, email = start(p)
    message = p.mail.wait(email)
    assert GOOD - 10 <= first["expires_in"] <= GOOD and f"{GOOD // 60} minutes" in message["text"]
    left(p, path, key, "expires_in", 10)
    rest.Api(p).post(f"{path}/verify", {"pin": message["pin"]}, key=key).ok(200)
    path, key, _, email = start(p)
    pin = p.mail.pin(email)
    left(p, path, key, "expires_in", 0)
    rest.Api(p).post(f"{path}/verify", {"pin": pin}, key=key).refused("pin_expired")


def test_s_p3_strict_changes_no_wait_and_no_count(p):
    path, key, first, email = start(p)
    api = rest.Api(p)
    assert first["attempts_left"] == 5
    waits, pin = [first["resend_in"]], p.mail.pin(email)
    for n in range(1, 5):
        left(p, path, key, "resend_in", 0)
        again = api.post(f"{path}/resend", {}, key=key).ok(202)["challenge"]
        assert GOOD - 10 <= again["expires_in"] <= GOOD  # each has a life of its own
        waits.append(again["resend_in"])
        pin = p.mail.pin(email, n)
    assert waits[4] is None and all(w - 10 <= got <= w for got, w in zip(waits, (90, 180, 300, 600)))
    wrong = f"{(int(pin) + 1) % 1000000:06d}"
    assert [api.post(f"{path}/verify", {"pin": wrong}, key=key).refused("pin_wrong")["attempts_left"] for _ in range(5)] == [4, 3, 2, 1, 0]
    api.post(f"{path}/verify", {"pin": pin}, key=key).refused("pin_exhausted")


def test_s_p10_strict_gives_a_message_up_after_half_the_life(p):
    p.mail.refuse = "451 later"
    try:
        _, _, _, email = start(p)
        with p.db() as db:
            until(lambda: db.execute("SELECT count(*) FROM outbox WHERE status = 'queued' AND attempts > 0").fetchone()[0], "the refused message waits for its next try")
            p.clock.advance(GIVEN_UP)
            p.mail.refuse = None
            until(lambda: db.execute("SELECT count(*) FROM outbox WHERE status IN ('queued', 'leased')").fetchone()[0] == 0, "nothing waits any more")
    finally:
        p.mail.refuse = None
    assert p.mail.count(email) == 0


def test_s_a8_strict_a_links_life(p):
    account, api = p.sign_up(), rest.Api(p)

    def link():
        mails = p.mail.count(account.email)
        api.post("/v1/password-resets", {"email": account.email}).ok(202)
        text = p.mail.wait(account.email, mails, which=lambda m: "#plpr_" in m["text"])["text"]
        assert f"{LINK // 60} minutes" in text
        return re.search(r"#(plpr_[A-Za-z0-9_-]{43})", text).group(1)
    token = link()
    p.clock.advance(LINK - 20)
    api.post(f"/v1/password-resets/{token}/open", {}).ok(202)
    token = link()
    p.clock.advance(LINK)
    api.post(f"/v1/password-resets/{token}/open", {}).refused("not_found")


@pytest.mark.parametrize("life", ["9m", "599s", "41m"])
def test_what_lies_outside_is_refused_at_the_start(tmp_path, life):
    conf = tmp_path / "porchlight.conf"
    conf.write_text(f"pin.life = {life}\n")
    said = subprocess.run([program("porchlightd"), "--config", str(conf), "--check"], capture_output=True, text=True, timeout=60)
    assert said.returncode != 0 and "pin.life" in said.stderr, said
    conf.write_text("pin.life = 10m\n")
    assert subprocess.run([program("porchlightd"), "--config", str(conf), "--check"], capture_output=True, text=True, timeout=60).returncode == 0
