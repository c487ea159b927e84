"""What strangers cannot do to the service or to its people: guess passwords (S-A6), spend its money on messages (S-F3, S-F4), on one node or on many (S-F6)."""
import concurrent.futures
import itertools

import pytest

from lib import rest
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


@pytest.mark.parametrize("limit,most,wait", [({"number_day": 4}, 3, 6 * 3600), ({"account_day": 3}, 3, 8 * 3600), ({"block_hour": 3}, 2, 1200), ({"country_hour": 3}, 2, 1200),
                                             ({"address_hour": 3}, 3, 1200), ({"money_day": 40, "sms_cost": 10}, 3, 6 * 3600)], ids=lambda v: str(v))
def test_s_f3_each_limit_ends_messages_to_phones(own_porch, limit, most, wait):
    porch = own_porch(extra=settings(**limit))
    account = porch.sign_up()  # its own text was the first to its number, block, country, and cost money
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
    porch = own_porch(extra=settings(number_day=2, address_hour=6))
    account, other = porch.sign_up(), porch.sign_up()
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
    for _ in range(2):
        ask(account, "email").ok(202)
    ask(account, "email").refused("rate_limited")
    ask(account, "sms").ok(202)


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


# --- S-F6

def test_s_f6_four_nodes_send_no_more_than_one(own_porch):
    porch = own_porch(extra=settings(number_day=9) + ["--nodes", "4"])
    account = porch.sign_up()
    apis = [porch.node(n).api() for n in range(4)]
    for api in apis:
        api.token = account.api.token
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: ask(account, api=apis[n % 4]).status, range(40)))
    assert replies.count(202) == 8 and replies.count(429) == 32
