"""How messages reach people: calls that wait for a key (S-P12), e-mail over TLS and nothing else, mail that a signature survives, texts in the reader's language, and an outbox
in which every message is accounted for."""
import base64
import email
import email.policy
import email.utils
import subprocess

import dkim
import pytest

from lib import rest
from lib.certs import Authority
from lib.sinks import MailSink
from lib.wait import until


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    from lib.porch import Porch
    folder = tmp_path_factory.mktemp("delivery")
    (folder / "messages" / "de-AT").mkdir(parents=True)
    (folder / "messages" / "de-AT" / "account_deleted.txt").write_text("[subject]\nBaba\n[email]\nIhr Konto ist gelöscht. Servus!\n", encoding="utf-8")
    porch = Porch(folder / "data", extra=["--set", f"notify.messages={folder}/messages", "--set", "notify.otp_domain=porch.example", "--set", "notify.from=Häuschen <post@porch.example>"])
    try:
        yield porch.start()
        assert porch.stop() == 0
    finally:
        porch.close()


# --- S-P12

class Call:
    """A log-in's challenge by voice: the call is there, nobody has pressed a key."""

    def __init__(self, porch, account):
        self.porch, before = porch, porch.sms.count(account.phone)
        self.api = porch.api()
        reply = self.api.post("/v1/sessions", {"email": account.email, "password": account.password, "client": rest.CLIENT, "channel": "voice"}).ok(202)
        self.challenge = reply["challenge"]
        self.message = porch.sms.wait(account.phone, before)

    def heard(self, **how):
        return self.porch.sms.heard(self.porch, self.message, **how)

    def verify(self, pin):
        return self.api.post(f"/v1/challenges/{self.challenge['id']}/verify", {"pin": pin}, key=self.challenge["key"])

    def row(self):
        with self.porch.db() as db:
            return db.execute("SELECT body FROM voice_call WHERE id = %s", (self.message["id"],)).fetchone()


def test_s_p12_a_call_says_the_digits_twice_and_only_after_the_key(p):
    call = Call(p, p.sign_up())
    m = call.message
    assert m["channel"] == "voice" and m["key"] == "1" and "press 1" in m["text"] and "pin" not in m
    again = call.heard(key="7").ok(200)
    assert again["text"] == m["text"] and again["hang_up"] is False
    pin = p.sms.said(call.heard())
    # Until then an answering machine had none of it, and neither has the database in clear.
    assert pin not in m["raw"].decode() and pin.encode() not in bytes(call.row()[0])
    # The same key again, because our answer was lost: the same answer.
    reply = call.heard().ok(200)
    assert p.sms.said(reply) == pin and reply["hang_up"] is True
    assert call.heard(event="ended").status == 204
    assert call.row() is None
    call.heard().refused("not_found")
    assert call.heard(event="ended").status == 204
    call.verify(pin).ok(201)


def test_s_p12_who_cannot_sign_hears_nothing(p):
    call = Call(p, p.sign_up())
    for how in ({"at": -302}, {"at": 302}, {"signed": lambda t, body: f"{t}.".encode() + body}, {"signed": lambda t, body: f"{t}.callback.".encode() + body.replace(b"key", b"kex")}):
        call.heard(**how).refused("unauthenticated")
    body = b'{"id": "%s", "event": "key", "key": "1"}' % call.message["id"].encode()
    for header in ("", "t=1", "v1=00", "t=x,v1=" + 64 * "0", f"t={int(p.clock.now())},v1={64 * '0'}"):
        p.api().call("POST", "/v1/voice-calls", body, headers={"Porchlight-Signature": header}, check=False).refused("unauthenticated")
    # What this server sent itself is no answer to itself.
    p.api().call("POST", "/v1/voice-calls", call.message["raw"], headers={"Porchlight-Signature": call.message["headers"]["Porchlight-Signature"]}, check=False).refused("unauthenticated")
    p.sms.heard(p, {"id": "01a1febe-acd2-7c59-abd2-9568e19d51d4"}).refused("not_found")
    call.verify(p.sms.said(call.heard())).ok(201)


def test_s_p12_a_question_that_was_caught_is_not_answered_to_who_asks_it_again(p):
    call, sent = Call(p, p.sign_up()), []
    asked, p.sms.asked = p.sms.asked, lambda porch, body, signature, **how: sent.append((body, signature)) or asked(porch, body, signature, **how)
    try:
        pin = p.sms.said(call.heard())
    finally:
        del p.sms.asked
    body, signature = sent[0]
    for _ in range(2):
        p.sms.asked(p, body, signature).refused("unauthenticated")
    # The provider itself asks again with a signature of its own; after 32 questions nobody listens any more.
    assert p.sms.said(call.heard()) == pin
    for _ in range(30):
        call.heard(key="7").ok(200)
    call.heard().refused("not_found")
    call.verify(pin).ok(201)


def test_s_p12_a_newer_pin_by_another_channel_ends_the_call(p):
    account = p.sign_up()
    call = Call(p, account)
    texts = p.sms.count(account.phone)
    p.clock.advance(90)
    reply = call.api.post(f"/v1/challenges/{call.challenge['id']}/resend", {"channel": "sms"}, key=call.challenge["key"]).ok(202)
    assert reply["challenge"]["channel"] == "sms"
    call.heard().refused("not_found")
    call.verify(p.sms.pin(account.phone, texts)).ok(201)


def test_s_p12_a_call_that_nobody_answers_is_forgotten(p):
    call = Call(p, p.sign_up())
    p.clock.advance(601)
    call.heard().refused("not_found")
    until(lambda: call.row() is None, "the words of the call are gone")


def test_a_call_is_tried_again_with_the_same_id(p):
    account = p.sign_up()
    texts = p.sms.count(account.phone)
    p.sms.refuse = 503
    try:
        challenge = p.api().post("/v1/sessions", {"email": account.email, "password": account.password, "client": rest.CLIENT, "channel": "voice"}).ok(202)["challenge"]
        with p.db() as db:
            tried = until(lambda: db.execute("SELECT id FROM outbox WHERE ref = %s AND status = 'queued' AND attempts = 1", (challenge["id"],)).fetchone(), "the provider was asked once")
    finally:
        p.sms.refuse = None
    p.clock.advance(6)
    message = p.sms.wait(account.phone, texts)
    assert message["id"] == str(tried[0]) == message["headers"]["Idempotency-Key"]
    p.sms.said(p.sms.heard(p, message))


# --- languages

def test_people_are_written_to_in_their_language(p):
    api, address, phone = p.api(), rest.new_email(), rest.new_phone()
    body = {"email": address, "password": "a quiet porch at night", "country": "AT"}
    api.post("/v1/accounts", dict(body, locale="no_such")).refused("invalid_request")
    challenge = api.post("/v1/accounts", body, headers={"Accept-Language": "de-AT,de;q=0.8,en;q=0.5"}).ok(202)["challenge"]
    mail = p.mail.wait(address)
    assert mail["subject"] == "Ihre Porchlight-PIN" and "zur Registrierung" in mail["text"] and mail["headers"]["Content-Language"] == "de"
    challenge = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": mail["pin"]}, key=challenge["key"]).ok(200)["next"]["challenge"]
    api.post(f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"}, key=challenge["key"]).ok(202)
    text = p.sms.wait(phone)
    assert "Ihre 1. Porchlight-PIN" in text["text"] and text["locale"] == "de" and text["segments"] == 1
    assert text["text"].splitlines()[-1] == f"@porch.example #{text['pin']}"
    api.take_tokens(api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": text["pin"]}, key=challenge["key"]).ok(201))
    assert api.get("/v1/account").ok(200)["locale"] == "de-AT"
    # Another language from now on, and nothing else of the account.
    assert api.patch("/v1/account", {"locale": "fr"}).ok(200)["country"] == "AT"
    api.patch("/v1/account", {"region": "eu"}).refused("invalid_request")
    mails = p.mail.count(address)
    api.post("/v1/step-up", {"purpose": "delete_account"}).ok(202)
    mail = p.mail.wait(address, mails)
    assert mail["subject"] == "Votre code PIN Porchlight" and "pour supprimer votre compte" in mail["text"]
    # The operator's own text, in a language of which they have no other.
    api.patch("/v1/account", {"locale": "de-at"}).ok(200)
    grant = rest.step_up(p, rest.Account(api, address, phone, ""), "delete_account")
    mails = p.mail.count(address)
    assert api.delete("/v1/account", grant=grant).status == 204
    assert p.mail.wait(address, mails)["text"].strip() == "Ihr Konto ist gelöscht. Servus!"


def test_texts_that_cannot_be_used_are_told_at_the_start(own_porch, tmp_path):
    (tmp_path / "messages" / "ja").mkdir(parents=True)
    (tmp_path / "messages" / "ja" / "hub_deleted.txt").write_text("[subject]\nA\n[email]\n{about} {pim}\n", encoding="utf-8")
    porch = own_porch(start=False, extra=["--set", f"notify.messages={tmp_path}/messages"])
    with pytest.raises(AssertionError, match=r"ja/hub_deleted.txt:4: there is no such placeholder here: pim"):
        porch.start()


# --- the mail's form

def test_mail_is_fit_for_a_signature(p, tmp_path):
    """As DKIM wants it (RFC 6376): one of each header in one order, own domain throughout, seven bits, short lines; and a signature over all of it holds."""
    mails = []
    for locale in "en", "de", "fr":
        address = rest.new_email()
        p.api().post("/v1/accounts", {"email": address, "password": "a quiet porch at night", "country": "US", "locale": locale}).ok(202)
        mails.append(p.mail.wait(address)["raw"])
    key, names = tmp_path / "dkim.key", None
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    for raw in mails:
        assert raw.isascii() and all(len(line) <= 998 for line in raw.split(b"\r\n")) and b"\n" not in raw.replace(b"\r\n", b"")
        parsed = email.message_from_bytes(raw, policy=email.policy.default)
        assert not parsed.defects and all(not parsed[h].defects for h in parsed.keys())
        assert names in (None, parsed.keys()) and len(set(parsed.keys())) == len(parsed.keys())
        names = parsed.keys()
        assert names == ["Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Language", "Auto-Submitted"]
        assert parsed["From"].addresses[0].display_name == "Häuschen" and parsed["From"].addresses[0].domain == "porch.example"
        assert parsed["Message-ID"].strip("<>").split("@")[1] == "porch.example" and parsed["Auto-Submitted"] == "auto-generated"
        assert abs(email.utils.parsedate_to_datetime(parsed["Date"]).timestamp() - p.clock.now()) < 600
        assert parsed.get_content_type() == "text/plain" and parsed.get_content_charset() == "utf-8" and "PIN" in parsed.get_content()
        signed = dkim.sign(raw, b"s1", b"porch.example", key.read_bytes(), include_headers=[n.lower().encode() for n in names]) + raw
        assert dkim.verify(signed, dnsfunc=lambda name, **_: record)
        # A server on the way that reads and writes it again changes nothing.
        assert dkim.verify(email.message_from_bytes(signed, policy=email.policy.SMTP.clone(refold_source="none")).as_bytes(), dnsfunc=lambda name, **_: record)
        assert not dkim.verify(signed.replace(b"PIN", b"Pin", 1), dnsfunc=lambda name, **_: record)
    assert {m["from"] for m in p.mail.messages} == {"post@porch.example"}


# --- SMTP and its TLS

class Mails:
    """A system whose e-mail goes to one port, on which a test puts one server after the other."""

    def __init__(self, own_porch, first, ca, *settings):
        self.first = first
        self.porch = own_porch(start=False, transports=False)
        self.porch.args += ["--set", f"notify.smtp_url={first.url}", "--set", f"notify.ca_file={ca.cert}", *(a for s in settings for a in ("--set", s))]
        self.porch.start()
        self.address, self.tries = rest.new_email(), 0
        self.porch.api().post("/v1/accounts", {"email": self.address, "password": "a quiet porch at night", "country": "US"}).ok(202)
        self.server = first

    def instead(self, **how):
        """Another server, and the time at which the mail is tried again has come."""
        self.server.close()
        self.server = MailSink(port=self.first.port, **how)
        self.tries = self.attempts()
        self.porch.clock.advance(5 * 2 ** self.tries)
        return self.server

    def attempts(self):
        with self.porch.db() as db:
            return db.execute("SELECT attempts FROM outbox").fetchone()[0]

    def refused(self):
        """It was tried, and nothing came."""
        with self.porch.db() as db:
            until(lambda: db.execute("SELECT 1 FROM outbox WHERE status = 'queued' AND attempts > %s", (self.tries,)).fetchone(), "it was tried, and waits")
        assert self.server.messages == []

    def taken(self):
        mail = self.server.wait(self.address)
        assert mail["tls"]
        self.server.close()


@pytest.fixture
def ca(tmp_path):
    return Authority(tmp_path)


def test_smtp_starttls_is_taken_or_nothing_is_sent(own_porch, ca, tmp_path):
    login = (b"porch", b"a secret of ours")
    (tmp_path / "other").mkdir()
    cert = ca.issue("mail", "IP:127.0.0.1")
    m = Mails(own_porch, MailSink(), ca, "notify.smtp_user=porch", "notify.smtp_password=a secret of ours")
    m.refused()  # no STARTTLS, and a password that would go in clear
    for wrong in (ca.issue("elsewhere", "IP:127.0.0.9,DNS:mail.example"), ca.issue("old", "IP:127.0.0.1", expired=True), Authority(tmp_path / "other", "Nobody").issue("mail", "IP:127.0.0.1")):
        m.instead(cert=wrong, login=login)
        m.refused()
    m.instead(cert=cert, login=(b"porch", b"another"))
    m.refused()
    m.instead(cert=cert, login=login)
    m.taken()


def test_smtp_without_a_password_goes_in_clear_only_where_that_is_permitted(own_porch, ca):
    m = Mails(own_porch, MailSink(), ca, "notify.smtp_tls=required")
    m.refused()
    m.instead(cert=ca.issue("elsewhere", "DNS:mail.example"))
    m.refused()
    m.instead(cert=ca.issue("mail", "IP:127.0.0.1"))
    m.taken()


def test_smtps_is_tls_from_the_first_byte(own_porch, ca):
    m = Mails(own_porch, MailSink(cert=ca.issue("elsewhere", "DNS:mail.example"), implicit=True), ca)
    m.refused()
    m.instead()  # a server in clear
    m.refused()
    m.instead(cert=ca.issue("mail", "IP:127.0.0.1"), implicit=True)
    m.taken()


# --- nothing lost

def test_every_message_that_was_queued_is_accounted_for(own_porch):
    """Of known numbers: sent, given up, too old, waiting. Their sum is what was asked for, at every moment of it."""
    porch = own_porch()
    account = porch.sign_up()  # one mail, one text
    asked = 2

    def ask(channel):
        nonlocal asked
        asked += 1
        account.api.post("/v1/step-up", {"purpose": "delete_hub", "channel": channel}).ok(202)

    def stands(**want):
        def now():
            states = porch.ctl("status")["outbox"]
            assert states.pop("total") == sum(states.values()) == asked
            return {s: n for s, n in states.items() if n} == want
        until(now, f"{asked} messages stand as {want}")
    stands(sent=2)
    for _ in range(3):
        ask("email")
    stands(sent=5)
    porch.sms.refuse = 400
    ask("sms")
    ask("voice")
    stands(sent=5, dead=2)
    porch.sms.refuse = 503
    ask("sms")
    ask("sms")
    stands(sent=5, dead=2, queued=2)
    porch.clock.advance(20 * 60)
    stands(sent=5, dead=2, expired=2)
    porch.clock.advance(3600)
    stands(done=5, dead=2, expired=2)

    def measured():
        lines = dict(line.split() for line in porch.api().call("GET", "/metrics", check=False).body.splitlines() if line.startswith("porchlight_outbox_"))
        return [float(lines[f"porchlight_outbox_{s}"]) for s in ("done", "dead", "expired", "messages")] == [5, 2, 2, asked]
    until(measured, "the gauges say so too")
