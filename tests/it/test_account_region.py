"""Where people and phones are: the proposal of the sign-up form, normal forms and refused kinds of phone numbers (S-F5)."""
import subprocess

import pytest

from lib import mmdb, rest


def phone_step(p):
    """A sign-up that waits for its phone number."""
    api, email = rest.Api(p), rest.new_email()
    c = api.post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "AT"}).ok(202)["challenge"]
    c = api.post(f"/v1/challenges/{c['id']}/verify", {"pin": p.mail.pin(email)}, key=c["key"]).ok(200)["next"]["challenge"]
    return lambda phone, channel="sms": api.post(f"/v1/challenges/{c['id']}/destination", {"phone": phone, "channel": channel}, key=c["key"])


def test_the_country_is_proposed_from_the_address_else_from_the_language(own_porch, tmp_path):
    mmdb.write(tmp_path / "where.mmdb", {"127.0.0.0/8": "AT", "192.0.2.0/24": "NZ", "203.0.113.0/25": "QQ"})
    p = own_porch(extra=["--set", f"account.geo_database={tmp_path}/where.mmdb", "--set", "http.trusted_proxies=127.0.0.1"])

    def proposed(address=None, language="pt-BR"):
        headers = {"Accept-Language": language, **({"X-Forwarded-For": address} if address else {})}
        return rest.Api(p).get("/v1/regions", headers=headers).ok(200)["proposed"]
    assert proposed() == {"country": "AT", "region": "eu"}
    assert proposed("192.0.2.77") == {"country": "NZ", "region": "ap"}
    # Not in the database, a country that is none, an address of another family: the language.
    for address in ("198.51.100.1", "203.0.113.9", "2001:db8::1"):
        assert proposed(address) == {"country": "BR", "region": "us"}
    assert proposed("198.51.100.1", "tlh") == {"country": None, "region": None}


def test_a_database_of_addresses_that_is_none_is_told_at_the_start(own_porch, tmp_path):
    (tmp_path / "bad.mmdb").write_bytes(b"no database")
    p = own_porch(start=False, extra=["--set", f"account.geo_database={tmp_path}/bad.mmdb"])
    done = subprocess.run([*p.args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and "account.geo_database" in done.stdout + done.stderr + p.logs(), done


def test_a_phone_has_one_normal_form_and_one_account(porch):
    number = rest.new_phone()
    account = porch.sign_up(phone=number)
    # The same number as people also write it in other countries: with the trunk digit that is not dialled from abroad.
    step = phone_step(porch)
    sent = step("+4306641234567").ok(202)["challenge"]
    assert sent["sent_to"] == "+43********67" and porch.sms.wait("+436641234567")["pin"]
    assert account.api.get("/v1/account").ok(200)["phone"] == number


@pytest.mark.parametrize("phone, code", [
    ("+19002530000", "phone_refused"), ("+43900123456", "phone_refused"), ("+491801234567", "phone_refused"), ("+449091234567", "phone_refused"),
    ("+12020100000", "invalid_request"), ("+99912345678", "invalid_request"), ("+4366412345678901", "invalid_request")])
def test_s_f5_premium_numbers_and_what_is_none_are_refused(porch, account, phone, code):
    sent = len(porch.sms.messages)
    r = phone_step(porch)(phone).refused(code)
    assert code != "invalid_request" or r["detail"].startswith("phone")
    account.api.post("/v1/account/phone", {"phone": phone}, grant=porch.step_up(account, "change_phone")).refused(code)
    assert not [m for m in porch.sms.messages[sent:] if m["to"] == phone]


def test_s_f5_countries_are_allowed_by_configuration(own_porch):
    p = own_porch(extra=["--set", "account.phone_countries=AT US"])
    account = p.sign_up()
    step = phone_step(p)
    step("+16135550123").refused("country_refused")
    account.api.post("/v1/account/phone", {"phone": "+491711234567"}, grant=p.step_up(account, "change_phone")).refused("country_refused")
    step("+436641234567").ok(202)
