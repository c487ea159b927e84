"""What the engines refuse before any capability is asked, as those see it who are refused (S-S8): none of these codes is seen by another integration test."""
import pytest
from lib.events import Events
from lib.porch import Porch
from lib.wait import until
from simhub import SimHub, make
from test_account_password import open_link, reset_link
from test_live_control import Sim


def test_s_s8_headers_that_are_too_large(porch):
    assert porch.api().get("/v1/status", headers={"X-Long": "a" * 20000}).refused("headers_too_large").status == 431


def test_s_s8_a_message_that_is_not_permitted_is_answered_and_ends_the_connection(porch, account):
    with SimHub(porch, make(porch, "hub")[0]) as hub:
        hub.send("status", wifi_rssi=-40)  # before its hello
        assert hub.expect("error")["code"] == "protocol_error"
        assert hub.closed() == "protocol_error" and hub.close_code == 4400
    with Events(porch, account.api.token) as events:
        events.send({"cursor": 1})  # without a type
        assert (events.closed(), events.close_reason) == (4400, "protocol_error")


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    """One whose clock may be moved."""
    porch = Porch(tmp_path_factory.mktemp("refusals") / "data")
    try:
        yield porch.start()
    finally:
        porch.close()


def test_s_s8_who_says_nothing_is_cut_after_five_seconds(p):
    with SimHub(p, make(p, "hub")[0]) as hub:
        p.clock.advance(6)
        assert hub.closed() == "too_slow" and hub.close_code == 4408


def test_s_s8_a_pin_proves_nothing_for_a_link_that_has_ended(p):
    """The link was opened in its last minute: its PIN lives on, and what it was to prove does not."""
    account = p.sign_up()
    token = reset_link(p, account)
    p.clock.advance(39 * 60)
    texts = p.sms.count(account.phone)
    challenge = open_link(p, token).ok(202)["challenge"]
    pin = p.sms.pin(account.phone, texts)
    p.clock.advance(2 * 60)
    with p.db() as db:
        until(lambda: not db.execute("SELECT 1 FROM password_reset").fetchall(), "the link is forgotten")
    api = p.api()
    assert api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]).refused("expired").status == 410


@pytest.fixture
def home(own_porch):
    """With a relay that answers what is asked for here, and nothing else."""
    h = Sim(own_porch())
    yield h
    h.close()


def test_s_s8_a_relay_that_does_not_answer_is_said(home):
    home.relay.answers("session.open")
    assert home.live().refused("relay_timeout").status == 504
