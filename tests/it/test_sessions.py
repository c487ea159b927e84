"""Tokens and grants in the hands of many at once, each on a connection of its own (S-S1 to S-S3); that the whole password counts (S-A1)."""
import base64
import concurrent.futures
import os
import re
import threading

from lib import rest
from lib.events import Events
from lib.wait import until

MANY = 24
PASSWORD = "a quiet porch at night"


def new_key():
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


def at_once(porch, n, call):
    """The replies of call(api, number), made by n threads: each has opened its connection before any of them goes."""
    gate = threading.Barrier(n)

    def one(number):
        api = rest.Api(porch)
        api.get("/v1/password-rules").ok(200)
        gate.wait(60)
        return call(api, number)
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def refresh(api, token, **more):
    return api.post("/v1/sessions/refresh", {"refresh_token": token, **more})


def told_of_reuse(porch, account):
    return sum(m["to"] == account.email and "signed out" in m["subject"] for m in porch.mail.messages)


def good(porch, replies):
    """How many of the access tokens in these replies still open the account."""
    return sum(rest.Api(porch).get("/v1/account", token=r["access_token"]).status == 200 for r in replies if r.status == 200)


# --- refresh tokens

def test_s_s3_of_many_uses_at_once_one_is_served_and_the_next_ends_the_session(porch, account):
    """Thief and owner hold the same token: whoever comes second ends what the first one got."""
    stolen = account.api.tokens["refresh_token"]
    with Events(porch, account.api.token) as events:
        replies = at_once(porch, MANY, lambda api, _: refresh(api, stolen))
        assert events.closed() == 4401
    codes = sorted(r.code or "ok" for r in replies)
    assert codes.count("ok") == 1 and codes.count("token_reused") == 1 and set(codes) == {"ok", "token_reused", "unauthenticated"}, codes
    assert good(porch, replies) == 0
    account.api.get("/v1/account").refused("unauthenticated")
    for r in replies:
        if r.status == 200:
            refresh(rest.Api(porch), r["refresh_token"]).refused("unauthenticated")
    until(lambda: told_of_reuse(porch, account), "the owner is told")
    assert told_of_reuse(porch, account) == 1


def test_s_s3_the_same_client_in_a_hurry_is_not_signed_out(porch):
    """An app whose parts refresh at once, with the client's key: each is answered, and what they got is good until one of them goes on."""
    key = new_key()
    account = porch.sign_up(client={"name": "Phone", "key": key})
    first = account.api.tokens["refresh_token"]
    replies = at_once(porch, 8, lambda api, _: refresh(api, first, client_key=key))
    assert [r.status for r in replies] == [200] * 8 and len({r["refresh_token"] for r in replies}) == 8
    assert good(porch, replies) == 8
    after = refresh(rest.Api(porch), replies[3]["refresh_token"], client_key=key).ok(200)
    # Two steps back is no lost reply, whoever asks.
    refresh(rest.Api(porch), first, client_key=key).refused("token_reused")
    assert good(porch, [after, *replies]) == 0


def test_s_s3_a_thief_in_the_hurry_has_no_key(porch):
    """The owner's app with its key, and somebody with a copy of the token and a key of his own, at once: the session ends, whoever was first."""
    key = new_key()
    account = porch.sign_up(client={"name": "Phone", "key": key})
    stolen = account.api.tokens["refresh_token"]
    replies = at_once(porch, 8, lambda api, n: refresh(api, stolen, client_key=new_key() if n % 2 else key))
    assert "token_reused" in {r.code for r in replies} and good(porch, replies) == 0
    account.api.get("/v1/account").refused("unauthenticated")


def test_s_s2_refreshes_on_two_nodes_are_one_chain(own_porch):
    p = own_porch(extra=["--nodes", "2"])
    account = p.sign_up()
    token = account.api.tokens["refresh_token"]
    for n in range(6):
        reply = refresh(p.node(n % 2).api(), token).ok(200)
        old, token = token, reply["refresh_token"]
    refresh(p.node(0).api(), old).refused("token_reused")
    for n in range(2):
        p.node(n).api().get("/v1/account", token=reply["access_token"]).refused("unauthenticated")
        refresh(p.node(n).api(), token).refused("unauthenticated")


def test_s_s1_a_token_in_a_url_opens_nothing_and_is_not_logged(porch, account):
    token = account.api.token
    for path in (f"/v1/account?access_token={token}", f"/v1/account?token={token}"):
        assert rest.Api(porch).get(path, check=False).status in (400, 401)
    assert token not in porch.logs(most=1 << 22)
    with porch.db() as db:
        tokens = [account.api.token, account.api.tokens["refresh_token"]]
        assert all(re.fullmatch(r"pl(at|rt)_[A-Za-z0-9_-]{43}", t) for t in tokens)  # 256 bits behind a prefix that a scanner knows
        rows = str(db.execute("SELECT * FROM session_token WHERE account_id = %s", [account.id]).fetchall())
        assert all(t[5:] not in rows and repr(base64.urlsafe_b64decode(t[5:] + "="))[2:-1] not in rows for t in tokens)


def test_a_grant_is_spent_once_however_many_use_it_at_once(porch, account):
    others = [porch.log_in(account) for _ in range(6)]
    grant = porch.step_up(account, "revoke_clients")
    replies = at_once(porch, 6, lambda api, n: api.delete(f"/v1/account/clients/{others[n].tokens['client_id']}", grant=grant, token=account.api.token))
    assert sorted(r.status for r in replies) == [204] + [403] * 5 and {r.code for r in replies if r.status == 403} == {"step_up_required"}
    assert sum(o.get("/v1/account").status == 200 for o in others) == 5


def test_a_revocation_meets_the_clients_own_refreshes(porch, account):
    """Whichever comes first, nothing that the client got is good when the revocation has been answered."""
    other = porch.log_in(account)
    grant = porch.step_up(account, "revoke_clients")
    got, token = [], [other.tokens["refresh_token"]]

    def work(api, number):
        if number == 0:
            return api.delete(f"/v1/account/clients/{other.tokens['client_id']}", grant=grant, token=account.api.token)
        for _ in range(20):
            reply = refresh(api, token[0])
            if reply.status != 200:
                return reply
            got.append(reply)
            token[0] = reply["refresh_token"]
        return reply
    revoked, _ = at_once(porch, 2, work)
    revoked.ok(204)
    assert good(porch, got) == 0
    refresh(rest.Api(porch), token[0]).refused("unauthenticated")


# --- sign-up and passwords

def test_of_many_who_sign_up_with_one_address_or_number_one_gets_it(porch):
    """All have proved the same e-mail and stand before the same phone number; the PINs go to one mailbox and one phone."""
    n, email, phone = 6, rest.new_email(), rest.new_phone()
    steps = []
    for i in range(n):
        api = rest.Api(porch)
        c = api.post("/v1/accounts", {"email": email, "password": f"{PASSWORD} {i}", "country": "US"}).ok(202)["challenge"]
        c = api.post(f"/v1/challenges/{c['id']}/verify", {"pin": porch.mail.pin(email, i)}, key=c["key"]).ok(200)["next"]["challenge"]
        api.post(f"/v1/challenges/{c['id']}/destination", {"phone": phone, "channel": "sms"}, key=c["key"]).ok(202)
        steps.append((c["id"], c["key"], porch.sms.pin(phone, i)))
    replies = at_once(porch, n, lambda api, i: api.post(f"/v1/challenges/{steps[i][0]}/verify", {"pin": steps[i][2]}, key=steps[i][1]))
    assert sorted(r.status for r in replies)[0] == 201 and {r.code for r in replies if r.status != 201} == {"email_taken"}, [(r.status, r.code) for r in replies]
    with porch.db() as db:
        assert db.execute("SELECT count(*) FROM account WHERE email = %s OR phone = %s", [email, phone]).fetchone() == (1,)




def test_s_a1_every_character_of_a_password_counts(porch):
    """128 code points in 256 bytes and more, blanks at both ends, one sign in two spellings: only the whole one opens."""
    password = " " + "\u00e4\U0001f438" * 63 + " "
    assert len(password) == 128
    account = porch.sign_up(password=password)
    for wrong in (password[:-1], password.strip(), password[:72], password + " ", password.replace("\u00e4", "a")):
        assert rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": wrong}).code in ("invalid_credentials", "password_refused")
    rest.Api(porch).post("/v1/sessions", {"email": account.email, "password": password.replace("\u00e4", "a\u0308")}).ok(202)
