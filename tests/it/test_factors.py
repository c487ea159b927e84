"""What stands beside PINs: authenticator apps (S-P13, codes by oathtool), recovery codes (S-P14), passkeys (a device in software, tests/it/lib/passkey.py, and Chromium's)."""
import concurrent.futures
import json
import re
import subprocess

import pytest

from lib import passkey, rest
from lib.browser import Chromium, Page

RP, ORIGIN = "cloud.example", "https://app.cloud.example"


@pytest.fixture(scope="module")
def keys_porch(tmp_path_factory):
    from lib.porch import Porch
    p = Porch(tmp_path_factory.mktemp("keys") / "data", extra=("--set", f"passkey.rp_id={RP}", "--set", f"passkey.origins={ORIGIN} android:apk-key-hash:abc"))
    try:
        yield p.start()
        assert p.stop() == 0
    finally:
        p.close()


def grant(porch, account, purpose="change_factors"):
    mails = porch.mail.count(account.email)
    challenge = account.api.post("/v1/step-up", {"purpose": purpose, "channel": "email"}).ok(202)["challenge"]
    pin = porch.mail.pin(account.email, mails)
    return account.api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]).ok(200)["grant"]


def code(porch, secret, steps=0):
    """What an authenticator app shows `steps` steps from now, by another implementation of RFC 6238."""
    now = subprocess.run(["date", "-u", "-d", f"{porch.clock.offset + steps * 30} seconds", "+%Y-%m-%d %H:%M:%S UTC"], capture_output=True, text=True, check=True).stdout.strip()
    return subprocess.run(["oathtool", "--totp", "-b", "-N", now, secret], capture_output=True, text=True, check=True).stdout.strip()


def with_app(porch):
    """An account with an authenticator app; its secret and its recovery codes."""
    account = porch.sign_up()
    made = account.api.post("/v1/account/factors/totp", grant=grant(porch, account)).ok(201)
    assert re.fullmatch(r"otpauth://totp/Porchlight:[^?]+\?secret=[A-Z2-7]{32}&issuer=Porchlight", made["uri"]) and made["secret"] in made["uri"]
    confirmed = account.api.post("/v1/account/factors/totp/confirm", {"code": code(porch, made["secret"])}).ok(200)
    assert confirmed["totp"] is True and confirmed["recovery_codes_left"] == 10 and len(set(confirmed["recovery_codes"])) == 10
    porch.clock.advance(30)  # the step of the confirmation is spent
    return account, made["secret"], confirmed["recovery_codes"]


def log_in(porch, account, **more):
    """A challenge of a new client."""
    reply = rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": account.password, "client": rest.CLIENT, **more}).ok(202)
    return reply.body, f"/v1/challenges/{reply['challenge']['id']}", reply["challenge"]["key"]


# --- authenticator app

def test_s_p13_log_in_with_an_authenticator_app(porch):
    account, secret, _ = with_app(porch)
    mails, texts = porch.mail.count(account.email), porch.sms.count(account.phone)
    body, path, key = log_in(porch, account)
    assert body["methods"] == ["email", "sms", "voice", "totp", "recovery_code"] and body["challenge"]["sent_count"] == 0
    api = rest.Api(porch)
    assert api.get(path, key=key).ok(200)["methods"] == body["methods"]
    shown = code(porch, secret)
    api.take_tokens(api.post(f"{path}/verify", {"totp": shown}, key=key).ok(201))
    assert api.get("/v1/account").ok(200)["email"] == account.email
    # The step is spent, for every challenge.
    _, path, key = log_in(porch, account)
    refused = api.post(f"{path}/verify", {"totp": shown}, key=key).refused("pin_wrong")
    assert refused["attempts_left"] == 4
    porch.clock.advance(30)
    api.post(f"{path}/verify", {"totp": code(porch, secret)}, key=key).ok(201)
    # Nothing was sent for it but the notice of the app.
    sent = [m for m in porch.mail.messages if m["to"] == account.email][mails:]
    assert all(m["pin"] is None for m in sent) and porch.sms.count(account.phone) == texts


def test_who_has_an_app_may_still_ask_for_a_pin(porch):
    account, _, _ = with_app(porch)
    _, path, key = log_in(porch, account)
    api, mails = rest.Api(porch), porch.mail.count(account.email)
    assert api.post(f"{path}/resend", {"channel": "email"}, key=key).ok(202)["challenge"]["sent_count"] == 1
    api.post(f"{path}/verify", {"pin": porch.mail.pin(account.email, mails)}, key=key).ok(201)
    mails = porch.mail.count(account.email)
    body, path, key = log_in(porch, account, channel="email")  # asked for at once
    assert body["challenge"]["sent_count"] == 1
    api.post(f"{path}/verify", {"pin": porch.mail.pin(account.email, mails)}, key=key).ok(201)


def test_s_p5_codes_are_counted_as_pins_are(porch):
    account, secret, codes = with_app(porch)
    _, path, key = log_in(porch, account)
    api = rest.Api(porch)
    answers = [{"totp": "000000"}, {"recovery_code": "0000-0000-0000-0000"}, {"pin": "000000"}, {"totp": "000001"}, {"recovery_code": codes[0][:-1] + ("0" if codes[0][-1] != "0" else "1")}]
    replies = [api.post(f"{path}/verify", a, key=key) for a in answers]
    assert [r.code for r in replies] == ["pin_wrong", "pin_wrong", "pin_expired", "pin_wrong", "pin_wrong"]  # no PIN was sent
    assert replies[-1]["attempts_left"] == 1
    api.post(f"{path}/verify", {"totp": "000002"}, key=key).refused("pin_wrong")
    api.post(f"{path}/verify", {"totp": code(porch, secret)}, key=key).refused("pin_exhausted")
    api.post(f"{path}/verify", {"recovery_code": codes[0]}, key=key).refused("pin_exhausted")


def test_s_p5_a_hundred_codes_in_parallel_get_five_comparisons(porch):
    account, secret, _ = with_app(porch)
    _, path, key = log_in(porch, account)
    right = code(porch, secret)
    wrong = [f"{n:06d}" for n in range(101) if f"{n:06d}" != right][:100]
    api = rest.Api(porch)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda c: api.post(f"{path}/verify", {"totp": c}, key=key).code, wrong))
    assert sorted(set(replies)) == ["pin_exhausted", "pin_wrong"] and replies.count("pin_wrong") == 5


def test_s_p7_of_many_right_codes_one_makes_a_session(porch):
    account, secret, _ = with_app(porch)
    _, path, key = log_in(porch, account)
    right, api = code(porch, secret), rest.Api(porch)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: api.post(f"{path}/verify", {"totp": right}, key=key), range(32)))
    assert [r.status for r in replies].count(201) == 1
    assert {r.code for r in replies if r.status != 201} <= {"challenge_spent", "pin_wrong", "pin_exhausted"}


def test_s_p8_a_code_answers_only_with_the_challenges_key(porch):
    account, secret, _ = with_app(porch)
    _, path, _ = log_in(porch, account)
    _, _, other_key = log_in(porch, account)
    rest.Api(porch).post(f"{path}/verify", {"totp": code(porch, secret)}, key=other_key).refused("pin_wrong")


def test_step_up_by_code_and_what_does_not_answer(porch):
    account, secret, codes = with_app(porch)
    asked = account.api.post("/v1/step-up", {"purpose": "change_factors"}).ok(202)
    assert asked["challenge"]["sent_count"] == 0 and "totp" in asked["methods"]
    path, key = f"/v1/challenges/{asked['challenge']['id']}", asked["challenge"]["key"]
    account.api.post(f"{path}/verify", {}, key=key).refused("invalid_request")
    account.api.post(f"{path}/verify", {"totp": "123456", "pin": "123456"}, key=key).refused("invalid_request")
    got = account.api.post(f"{path}/verify", {"totp": code(porch, secret)}, key=key).ok(200)["grant"]
    account.api.post("/v1/account/factors/totp", grant=got).refused("factor_exists")
    got = grant(porch, account)
    account.api.delete("/v1/account/factors/totp", grant=got).ok(204)
    account.api.post("/v1/account/factors/totp/confirm", {"code": "123456"}).refused("not_found")
    assert account.api.get("/v1/account/factors").ok(200).body == {"totp": False, "recovery_codes_left": 10, "passkeys": []}
    account.api.delete("/v1/account/factors/totp", grant=grant(porch, account)).refused("not_found")
    account.api.post("/v1/account/factors/recovery-codes").refused("step_up_required")
    # An address is proved by a PIN only.
    api = rest.Api(porch)
    challenge = api.post("/v1/accounts", {"email": rest.new_email(), "password": account.password, "country": "US"}).ok(202)["challenge"]
    api.post(f"/v1/challenges/{challenge['id']}/verify", {"recovery_code": codes[0]}, key=challenge["key"]).refused("channel_refused")


def test_s_s6_a_deleted_account_leaves_no_factors(porch):
    account, _, _ = with_app(porch)
    account.api.delete("/v1/account", grant=grant(porch, account, "delete_account")).ok(204)
    with porch.db() as db:
        for table in ("factor_totp", "factor_recovery", "factor_passkey", "passkey_credential"):
            assert db.execute(f"SELECT count(*) FROM {table} WHERE account_id = %s", [account.id]).fetchone() == (0,)


# --- recovery codes

def test_s_p14_a_recovery_code_signs_in_once_and_the_owner_is_told(porch):
    account, _, codes = with_app(porch)
    _, path, key = log_in(porch, account)
    api = rest.Api(porch)
    mails = porch.mail.count(account.email)
    api.take_tokens(api.post(f"{path}/verify", {"recovery_code": codes[3].lower().replace("-", " ")}, key=key).ok(201))
    assert "9 are left" in porch.mail.wait(account.email, mails)["text"]
    assert api.get("/v1/account/factors").ok(200)["recovery_codes_left"] == 9
    _, path, key = log_in(porch, account)
    api.post(f"{path}/verify", {"recovery_code": codes[3]}, key=key).refused("pin_wrong")
    new = account.api.post("/v1/account/factors/recovery-codes", grant=grant(porch, account)).ok(201)["recovery_codes"]
    api.post(f"{path}/verify", {"recovery_code": codes[4]}, key=key).refused("pin_wrong")
    api.post(f"{path}/verify", {"recovery_code": new[0]}, key=key).ok(201)


# --- passkeys

def add_passkey(porch, account, name="Phone", algorithm=-7, origin=ORIGIN):
    device = passkey.Device(RP, origin, algorithm)
    options = account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"]
    assert options["rp"] == {"id": RP, "name": "Porchlight"} and options["authenticatorSelection"]["userVerification"] == "required"
    body = {"name": name, "credential": device.make(options)}
    return device, account.api.post("/v1/account/factors/passkeys", body, grant=grant(porch, account)).ok(201)["id"]


def sign_in(porch, device, **how):
    api = rest.Api(porch)
    options = api.post("/v1/sessions/passkey-options").ok(200)["public_key"]
    assert options["rpId"] == RP and options["allowCredentials"] == []
    return api, api.post("/v1/sessions/passkey", {"credential": device.use(options, **how), "client": rest.CLIENT})


@pytest.mark.parametrize("algorithm", [-7, -8, -257])
def test_a_passkey_signs_in_alone(keys_porch, algorithm):
    account = keys_porch.sign_up()
    device, _ = add_passkey(keys_porch, account, algorithm=algorithm)
    api, reply = sign_in(keys_porch, device)
    api.take_tokens(reply.ok(201))
    assert api.get("/v1/account").ok(200)["account_id"] == account.id
    factors = api.get("/v1/account/factors").ok(200)
    assert factors["passkeys"][0]["last_used_at"] and factors["passkeys"][0]["name"] == "Phone"


def test_passkeys_need_a_name_for_the_service(porch, account):
    account.api.post("/v1/account/factors/passkeys/options").refused("not_offered")
    rest.Api(porch).post("/v1/sessions/passkey-options").refused("not_offered")


@pytest.mark.parametrize("how,field", [
    ({"break_signature": True}, "signature"), ({"flags": passkey.UP}, "verify"), ({"flags": passkey.UV}, "verify"), ({"rp_id": "evil.example"}, "another service"),
    ({"origin": "https://evil.example"}, "origins"), ({"crossOrigin": True}, "origins"), ({"kind": "webauthn.create"}, "another kind"), ({"challenge": passkey.b64(bytes(32))}, "not asked"),
], ids=lambda v: str(v)[:30])
def test_an_answer_that_proves_nothing_is_refused(keys_porch, how, field):
    account = keys_porch.sign_up()
    device, _ = add_passkey(keys_porch, account)
    _, reply = sign_in(keys_porch, device, **how)
    assert field in reply.refused("passkey_refused")["detail"]
    _, reply = sign_in(keys_porch, device)
    reply.ok(201)  # and harmed nothing


@pytest.mark.parametrize("how,field", [({"flags": passkey.UP}, "verify"), ({"rp_id": "evil.example"}, "another service"), ({"origin": "https://evil.example"}, "origins"),
                                       ({"kind": "webauthn.get"}, "another kind"), ({"challenge": passkey.b64(bytes(32))}, "not asked")], ids=lambda v: str(v)[:30])
def test_a_new_passkey_that_proves_nothing_is_refused(keys_porch, how, field):
    account = keys_porch.sign_up()
    device = passkey.Device(RP, ORIGIN)
    options = account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"]
    reply = account.api.post("/v1/account/factors/passkeys", {"name": "Phone", "credential": device.make(options, **how)}, grant=grant(keys_porch, account))
    assert field in reply.refused("passkey_refused")["detail"]
    assert account.api.get("/v1/account/factors").ok(200)["passkeys"] == []


def test_a_question_is_answered_once_and_within_five_minutes(keys_porch):
    account = keys_porch.sign_up()
    device, _ = add_passkey(keys_porch, account)
    api = rest.Api(keys_porch)
    ask = lambda: api.post("/v1/sessions/passkey-options").ok(200)["public_key"]  # noqa: E731
    options = ask()
    api.post("/v1/sessions/passkey", {"credential": device.use(options)}).ok(201)
    assert "answered before" in api.post("/v1/sessions/passkey", {"credential": device.use(options)}).refused("passkey_refused")["detail"]
    options = ask()
    keys_porch.clock.advance(301)
    assert "five minutes" in api.post("/v1/sessions/passkey", {"credential": device.use(options)}).refused("passkey_refused")["detail"]
    # A question for a new passkey is none for signing in.
    making = account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"]
    api.post("/v1/sessions/passkey", {"credential": device.use(making)}).refused("passkey_refused")
    options, answer = ask(), None
    answer = {"credential": device.use(options)}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: api.post("/v1/sessions/passkey", answer).status, range(16)))
    assert replies.count(201) == 1


def test_a_copied_passkey_is_refused_and_its_owner_told(keys_porch):
    account = keys_porch.sign_up()
    device, _ = add_passkey(keys_porch, account)
    sign_in(keys_porch, device)[1].ok(201)
    mails = keys_porch.mail.count(account.email)
    device.count = 0  # the copy has not seen the use
    assert "copied" in sign_in(keys_porch, device)[1].refused("passkey_refused")["detail"]
    assert "copied" in keys_porch.mail.wait(account.email, mails)["text"]
    device.count, device.counts = 50, True
    sign_in(keys_porch, device)[1].ok(201)
    synced, _ = add_passkey(keys_porch, account, "Tablet")
    synced.counts = False  # devices that share keys keep no counter
    for _ in range(2):
        sign_in(keys_porch, synced)[1].ok(201)


def test_a_passkey_answers_a_challenge_of_its_account_only(keys_porch):
    account, other = keys_porch.sign_up(), keys_porch.sign_up()
    device, _ = add_passkey(keys_porch, account)
    stranger, _ = add_passkey(keys_porch, other)
    body, path, key = log_in(keys_porch, account)
    assert "passkey" in body["methods"] and body["challenge"]["sent_count"] == 0
    api = rest.Api(keys_porch)
    options = api.post(f"{path}/passkey-options", key=key).ok(200)["public_key"]
    assert [c["id"] for c in options["allowCredentials"]] == [passkey.b64(device.id)]
    assert api.post(f"{path}/verify", {"passkey": stranger.use(options)}, key=key).refused("passkey_refused")["attempts_left"] == 4
    elsewhere = api.post("/v1/sessions/passkey-options").ok(200)["public_key"]
    api.post(f"{path}/verify", {"passkey": device.use(elsewhere)}, key=key).refused("passkey_refused")
    api.post(f"{path}/verify", {"passkey": device.use(options)}, key=key).ok(201)
    challenge = api.post("/v1/accounts", {"email": rest.new_email(), "password": account.password, "country": "US"}).ok(202)["challenge"]
    api.post(f"/v1/challenges/{challenge['id']}/passkey-options", key=challenge["key"]).refused("channel_refused")


def test_passkeys_are_named_removed_and_bounded(keys_porch):
    account, other = keys_porch.sign_up(), keys_porch.sign_up()
    device, first = add_passkey(keys_porch, account)
    account.api.patch(f"/v1/account/factors/passkeys/{first}", {"name": "Old phone"}).ok(200)
    other.api.patch(f"/v1/account/factors/passkeys/{first}", {"name": "Mine"}).refused("not_found")
    other.api.delete(f"/v1/account/factors/passkeys/{first}", grant=grant(keys_porch, other)).refused("not_found")
    # The same key once more, by anybody.
    options = other.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"]
    other.api.post("/v1/account/factors/passkeys", {"name": "Mine", "credential": device.make(options)}, grant=grant(keys_porch, other)).refused("factor_exists")
    account.api.delete(f"/v1/account/factors/passkeys/{first}", grant=grant(keys_porch, account)).ok(204)
    sign_in(keys_porch, device)[1].refused("passkey_refused")
    for n in range(20):
        add_passkey(keys_porch, account, f"Device {n}")
    device = passkey.Device(RP, ORIGIN)
    options = account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"]
    assert len(options["excludeCredentials"]) == 20
    account.api.post("/v1/account/factors/passkeys", {"name": "One more", "credential": device.make(options)}, grant=grant(keys_porch, account)).refused("factor_exists")
    assert len(account.api.get("/v1/account/factors").ok(200)["passkeys"]) == 20


@pytest.mark.parametrize("credential", [{}, {"id": "AA"}, {"id": "AA", "response": {}}, [], 7, {"id": "AA", "response": {"clientDataJSON": "e30", "authenticatorData": "AA", "signature": "AA"}},
                                        {"id": "AA", "response": {"clientDataJSON": "####", "authenticatorData": "AA", "signature": "AA"}}], ids=str)
def test_malformed_credentials_are_refused_with_a_code(keys_porch, credential):
    reply = rest.Api(keys_porch).post("/v1/sessions/passkey", {"credential": credential}, check=False)
    assert reply.code in ("invalid_request", "passkey_refused")


def test_chromium_makes_a_passkey_and_signs_in_with_it(own_porch):
    """What docs/app-developers-signing-in.md says of navigator.credentials, in a real browser with a device of its own making."""
    with Page("<!doctype html><title>sign in</title>") as page:
        origin = page.origin.replace("127.0.0.1", "localhost")  # an address is no name that passkeys could be for
        porch = own_porch(extra=("--set", "passkey.rp_id=localhost", "--set", f"passkey.origins={origin}"))
        account = porch.sign_up()
        with Chromium(origin + "/") as chromium:
            chromium.protocol("WebAuthn.enable")
            chromium.protocol("WebAuthn.addVirtualAuthenticator", options={"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
                                                                            "isUserVerified": True, "automaticPresenceSimulation": True})

            def ask(kind, options):
                call = {"create": "Creation", "get": "Request"}[kind]
                return chromium.run(f"navigator.credentials.{kind}({{ publicKey: PublicKeyCredential.parse{call}OptionsFromJSON({json.dumps(options)}) }}).then((c) => c.toJSON())")

            made = ask("create", account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"])
            account.api.post("/v1/account/factors/passkeys", {"name": "Chromium", "credential": made}, grant=grant(porch, account)).ok(201)
            api = rest.Api(porch)
            for _ in range(2):  # its counter rises
                used = ask("get", api.post("/v1/sessions/passkey-options").ok(200)["public_key"])
                api.take_tokens(api.post("/v1/sessions/passkey", {"credential": used, "client": rest.CLIENT}).ok(201))
            assert api.get("/v1/account").ok(200)["account_id"] == account.id
            body, path, key = log_in(porch, account)
            used = ask("get", api.post(f"{path}/passkey-options", key=key).ok(200)["public_key"])
            api.post(f"{path}/verify", {"passkey": used}, key=key).ok(201)
