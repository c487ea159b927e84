"""What strangers cannot do to the service or to its people: guess passwords (S-A6), spend its money on messages (S-F3, S-F4), on one node or on many (S-F6)."""
import concurrent.futures
import itertools

import pytest

from lib import rest
from lib.wait import until
from test_factors import ORIGIN, RP, add_passkey

HERE, ELSEWHERE = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "203.0.113.9"}
_number = itertools.count(100)


def settings(**values):
    return ["--set", "http.trusted_proxies=127.0.0.1"] + [a for name, v in values.items() for a in ("--set", f"limit.{name}={v}")]


def try_password(porch, email, password, headers, check=True):
    return rest.Api(porch).post("/v1/sessions", {"email": email, "password": password, "client": rest.CLIENT}, headers=headers, check=check)


# --- S-A6

@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    from lib.porch import Porch
    p = Porch(tmp_path_factory.mktemp("guarded") / "data", extra=settings(wrong_of_pair=4))
    try:
        yield p.start()
        assert p.stop() == 0
    finally:
        p.close()


@pytest.mark.parametrize("known", [True, False], ids=["an account's", "nobody's"])
def test_s_a6_wrong_passwords_cost_a_growing_wait(guarded, known):
    account = guarded.sign_up()
    email = account.email if known else rest.new_email()
    for _ in range(5):
        try_password(guarded, email, "not the password", HERE).refused("invalid_credentials")
    waits = []
    for _ in range(12):
        refused = try_password(guarded, email, "not the password", HERE).refused("rate_limited")
        waits.append(int(refused.headers["Retry-After"]))
        guarded.clock.advance(waits[-1])
        try_password(guarded, email, "not the password", HERE).refused("invalid_credentials")
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    if known:
        # Not even with the right one from there; from anywhere else at once, and who is signed in notices nothing.
        try_password(guarded, email, account.password, HERE).refused("rate_limited")
        try_password(guarded, email, account.password, ELSEWHERE).ok(202)
        refresh(account)
        account.api.get("/v1/account", headers=HERE).ok(200)
        account.api.post("/v1/step-up", {"purpose": "delete_hub"}, headers=HERE).ok(202)


def test_s_a6_a_right_password_takes_its_try_back(guarded):
    account = guarded.sign_up()
    for _ in range(3):
        for _ in range(4):
            try_password(guarded, account.email, "not the password", HERE).refused("invalid_credentials")
        try_password(guarded, account.email, account.password, HERE).ok(202)


def test_s_a6_of_many_guesses_at_once_few_are_compared(guarded):
    account = guarded.sign_up()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda n: try_password(guarded, account.email, f"guess number {n}", HERE).code, range(48)))
    # One that found the hashing gate full was not compared.
    assert codes.count("invalid_credentials") <= 5 and set(codes) <= {"invalid_credentials", "rate_limited", "overloaded"}


def test_s_a6_an_address_prefix_pays_for_all_its_guesses(own_porch):
    porch = own_porch(extra=settings(wrong_of_prefix=6) + ["--set", f"passkey.rp_id={RP}", "--set", f"passkey.origins={ORIGIN}"])
    account = porch.sign_up()
    device, _ = add_passkey(porch, account)
    for n in range(7):
        try_password(porch, rest.new_email(), "not the password", {"X-Forwarded-For": f"198.51.100.{n}"}).refused("invalid_credentials")
    assert int(try_password(porch, account.email, account.password, HERE).refused("rate_limited").headers["Retry-After"]) == 1
    try_password(porch, account.email, account.password, ELSEWHERE).ok(202)
    # A passkey proves itself: strangers' failures at its address are nothing to it.
    options = rest.Api(porch).post("/v1/sessions/passkey-options", headers=HERE).ok(200)["public_key"]
    rest.Api(porch).post("/v1/sessions/passkey", {"credential": device.use(options), "client": rest.CLIENT}, headers=HERE).ok(201)
    # Its own success takes back its own try and nothing more.
    porch.clock.advance(1)
    try_password(porch, account.email, account.password, HERE).ok(202)
    try_password(porch, rest.new_email(), "not the password", HERE).refused("invalid_credentials")
    assert int(try_password(porch, account.email, account.password, HERE).refused("rate_limited").headers["Retry-After"]) == 2


# --- S-F3

def ask(account, channel="sms", headers=HERE, api=None):
    return (api or account.api).post("/v1/step-up", {"purpose": "delete_hub", "channel": channel}, headers=headers)


@pytest.mark.parametrize("limit,most,wait", [({"number_day": 4}, 4, 6 * 3600), ({"account_day": 3}, 3, 8 * 3600), ({"block_hour": 3}, 3, 1200), ({"country_hour": 3}, 3, 1200),
                                             ({"address_hour": 3}, 3, 1200), ({"money_day": 40, "sms_cost": 10}, 3, 6 * 3600)], ids=lambda v: str(v))
def test_s_f3_each_limit_ends_messages_to_phones(own_porch, limit, most, wait):
    porch = own_porch(extra=settings(**limit))
    account = porch.sign_up()  # its own text cost money, too; to number, block and country it went as a stranger's
    texts = porch.sms.count(account.phone)
    for _ in range(most):
        ask(account).ok(202)
    refused = ask(account).refused("rate_limited")
    # What flowed back since the first of them is little.
    assert refused.status == 429 and wait - 120 <= int(refused.headers["Retry-After"]) <= wait
    porch.sms.wait(account.phone, texts + most - 1)
    assert porch.sms.count(account.phone) == texts + most
    porch.clock.advance(int(refused.headers["Retry-After"]))
    account.api.take_tokens(account.api.post("/v1/sessions/refresh", {"refresh_token": account.api.tokens["refresh_token"]}).ok(200))
    ask(account).ok(202)


def test_s_f3_a_limit_of_one_leaves_the_others_alone(own_porch):
    porch = own_porch(extra=settings(number_day=2, address_hour=7))
    account, other = porch.sign_up(), porch.sign_up()
    for _ in range(2):
        ask(account).ok(202)
    ask(account).refused("rate_limited")
    ask(other).ok(202)
    ask(account, "email").ok(202)
    for _ in range(3):
        ask(account, "email").ok(202)
    ask(other, "email").refused("rate_limited")  # the network's
    ask(other, "email", ELSEWHERE).ok(202)


def test_s_f3_e_mail_is_bounded_too(own_porch):
    porch = own_porch(extra=settings(email_day=3))
    account = porch.sign_up()
    for _ in range(3):
        ask(account, "email").ok(202)
    ask(account, "email").refused("rate_limited")
    ask(account, "sms").ok(202)


def name_a_number(porch, phone):
    """What a stranger can do: prove an e-mail of his own, then name somebody's number."""
    api, email = porch.api(), rest.new_email()
    challenge = api.post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US"}, headers=ELSEWHERE).ok(202)["challenge"]
    challenge = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(email)}, key=challenge["key"]).ok(200)["next"]["challenge"]
    return api.post(f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"}, key=challenge["key"], headers=ELSEWHERE)


@pytest.mark.parametrize("limit", [{"number_day": 3}, {"block_hour": 3}, {"country_hour": 3}, {"new_money_day": 30, "sms_cost": 10}], ids=lambda v: next(iter(v)))
def test_s_f3_a_stranger_does_not_spend_what_an_owner_has(own_porch, limit):
    porch = own_porch(extra=settings(**limit))
    owner = porch.sign_up()
    asked = [name_a_number(porch, owner.phone).code for _ in range(5)]
    assert asked.count("rate_limited") >= 2 and set(asked) == {None, "rate_limited"}
    for _ in range(3):
        ask(owner).ok(202)
    try_password(porch, owner.email, owner.password, HERE).ok(202)  # the PIN goes by e-mail


def test_s_f3_sign_ups_with_an_address_leave_its_owner_their_e_mails(own_porch):
    porch = own_porch(extra=settings(email_day=3))
    owner = porch.sign_up()
    asked = [porch.api().post("/v1/accounts", {"email": owner.email, "password": "a quiet porch at night", "country": "US"}, headers=ELSEWHERE).code for _ in range(5)]
    assert asked == [None, None] + ["rate_limited"] * 3  # its own sign-up was the first
    for _ in range(3):
        try_password(porch, owner.email, owner.password, HERE).ok(202)


def test_s_f3_a_country_is_what_the_number_says(own_porch):
    """+1 is twenty-five countries, and three digits of +4x are none."""
    porch = own_porch(extra=settings(country_hour=2))
    for phone in "+12025550141", "+13035550142":
        name_a_number(porch, phone).ok(202)
    name_a_number(porch, "+14155550143").refused("rate_limited")
    name_a_number(porch, "+14165550144").ok(202)   # Canada
    name_a_number(porch, "+18765550145").ok(202)   # Jamaica
    name_a_number(porch, "+436641234567").ok(202)
    name_a_number(porch, "+436991234567").ok(202)
    name_a_number(porch, "+43720123456").refused("rate_limited")  # one country, whatever stands behind its code


# --- S-F4

def household(porch, block):
    """An account whose number is in that block of ten thousand."""
    return porch.sign_up(phone=f"{block}{next(_number):04d}")


def test_s_f4_a_block_of_numbers_whose_pins_do_not_come_back_is_stopped(own_porch):
    porch = own_porch(extra=settings())
    block = "+1202555"
    account, far = household(porch, block), household(porch, "+1303555")
    for _ in range(14):
        ask(account).ok(202)
    ask(account).ok(202)  # people need time to answer
    porch.clock.advance(301)
    ask(account).ok(202)  # one of sixteen came back: this is the last
    wait = int(ask(account).refused("rate_limited").headers["Retry-After"])
    assert wait == 3600
    ask(far).ok(202)
    ask(account, "email").ok(202)
    porch.clock.advance(3600)
    refresh(account)
    for _ in range(10):
        ask(account).ok(202)
    porch.clock.advance(301)
    ask(account).ok(202)
    assert int(ask(account).refused("rate_limited").headers["Retry-After"]) == 7200  # and doubling


def refresh(account):
    account.api.take_tokens(account.api.post("/v1/sessions/refresh", {"refresh_token": account.api.tokens["refresh_token"]}).ok(200))


def test_s_f4_who_answers_keeps_the_block_open(own_porch):
    porch = own_porch(extra=settings())
    accounts = [household(porch, "+1202777") for _ in range(3)]  # three answered
    for _ in range(12):
        ask(accounts[0]).ok(202)
    porch.clock.advance(301)
    for _ in range(3):
        ask(accounts[1]).ok(202)


def test_s_f4_a_stranger_stops_no_number_that_is_proved(own_porch):
    porch = own_porch(extra=settings())
    block = "+1202888"
    owner = household(porch, block)
    for _ in range(11):
        name_a_number(porch, owner.phone).ok(202)
    porch.clock.advance(301)
    name_a_number(porch, f"{block}0000").ok(202)
    name_a_number(porch, f"{block}0001").refused("rate_limited")
    refresh(owner)
    for _ in range(4):
        ask(owner).ok(202)
    # Four that nobody answered are bad luck; a fifth is a record, and that number is stopped with its block.
    ask(owner).ok(202)
    porch.clock.advance(301)
    ask(owner).refused("rate_limited")
    answered = ask(owner, "email").ok(202)["challenge"]
    assert answered["sent_to"]


# --- S-A6: the table of wrong passwords

def test_s_a6_wrong_passwords_take_a_bounded_room(own_porch):
    porch = own_porch(extra=settings(failures_kept=1000))
    with porch.db() as db:
        # Each row is a call that was hashed; here are many at once, of which the ones longest ago are the least use.
        db.execute("INSERT INTO limit_failure SELECT decode(md5(n::text), 'hex'), 1, timestamptz 'epoch', now() - n * interval '1 second' FROM generate_series(1, 5000) n")
        try_password(porch, rest.new_email(), "not the password", HERE).refused("invalid_credentials")
        porch.clock.advance(61)
        until(lambda: db.execute("SELECT count(*) FROM limit_failure").fetchone()[0] <= 1000, "the table is cut back")
        assert db.execute("SELECT count(*) FROM limit_failure WHERE id = decode(md5('5000'), 'hex')").fetchone()[0] == 0


# --- S-F6

def test_s_f6_four_nodes_send_no_more_than_one(own_porch):
    porch = own_porch(extra=settings(number_day=8) + ["--nodes", "4"])
    account = porch.sign_up()
    apis = [porch.node(n).api() for n in range(4)]
    for api in apis:
        api.token = account.api.token
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: ask(account, api=apis[n % 4]).status, range(40)))
    assert replies.count(202) == 8 and replies.count(429) == 32
