"""Operators as persons: who becomes an admin and how (S-A9), what stands in the log, and that no admin sees or sets a password or a PIN (S-A10)."""
import base64
import concurrent.futures
import http.client
import json
import os
import re
import socket
import stat
import subprocess

import pytest

from lib import codes, rest
from lib.openapi import ROOT
from lib.porch import BUILD, Porch, program
from lib.wait import until
from test_docs import blocks
from test_http import server_args

HOUR = 3600
WRONG = 12  # refused tokens a minute from loopback
ID = "01890000-0000-7000-8000-000000000000"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def admin_routes():
    """Of the code: (method, path, the line)."""
    rows = []
    for name in ("admin.c", "admin_people.c"):
        with open(os.path.join(ROOT, "server/admin", name), encoding="utf-8") as f:
            rows += re.findall(r'\{ HTTP_(\w+), "(/admin/[^"]+)"(.*)', f.read())
    assert len(rows) >= 18
    return rows


class Operators:
    """Calls of the admin API: at the socket as the machine's owner, or over TCP by a credential."""

    def __init__(self, porch, at="localhost"):
        self.porch, self.at = porch, at

    def call(self, method, path, body=None, credential=None, socket_path=None):
        """(status, reply). Without credential and socket: over TCP, as nobody."""
        conn = http.client.HTTPConnection(self.at, timeout=20)
        if socket_path:
            conn.sock = socket.socket(socket.AF_UNIX)
            conn.sock.connect(socket_path)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            headers |= {"Authorization": f"Bearer {credential}"} if credential else {}
            conn.request(method, path, None if body is None else json.dumps(body), headers)
            reply = conn.getresponse()
            text = reply.read().decode()
            answer = json.loads(text) if text else None
            codes.in_reply(method, path, reply.status, answer)
            return reply.status, answer
        finally:
            conn.close()

    def machine(self, method, path, body=None):
        return self.call(method, path, body, socket_path=self.porch.ready["admin"].removeprefix("unix:"))

    def invite(self, name):
        status, reply = self.machine("POST", "/admin/v1/admins", {"name": name})
        assert status == 201 and re.fullmatch(r"plai_[\w-]{43}", reply["token"]), (status, reply)  # S-S1: 256 bits behind a prefix
        return reply["token"]

    def accept(self, token):
        return self.call("POST", "/admin/v1/admins/accept", {"token": token})

    def new(self, name):
        """A new admin's credential."""
        status, reply = self.accept(self.invite(name))
        assert status == 201 and reply["name"] == name and re.fullmatch(r"plad_[\w-]{43}", reply["credential"]), (status, reply)
        return reply["credential"]

    def state(self, name):
        return next((a["state"] for a in self.machine("GET", "/admin/v1/admins")[1]["admins"] if a["name"] == name), None)

    def log(self):
        """(action, detail), newest first."""
        return [(row["action"], row["detail"]) for row in self.machine("GET", "/admin/v1/log")[1]["log"]]


@pytest.fixture(scope="module")
def ops(tmp_path_factory):
    """A system of this file's own, with the admin API on loopback; its messages stay in the outbox."""
    at = f"127.0.0.1:{free_port()}"
    p = Porch(tmp_path_factory.mktemp("admins") / "data", transports=False,
              extra=["--set", f"admin.tcp={at}", "--set", f"http.rate.auth.address={WRONG}", "--set", "oauth.issuer=http://127.0.0.1:9"])
    try:
        p.start()
        o = Operators(p, at)
        with p.db() as db:
            tables = [r[0] for r in db.execute("""SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'
                                                  AND (column_name = 'account_id' OR table_name LIKE 'admin%')""").fetchall()]
            assert {"account", "client", "session", "session_token", "admin", "admin_invitation"} <= set(tables)
            o.somebody = [t for t in tables if db.execute(f"SELECT 1 FROM {t} LIMIT 1").fetchone()]
        yield o
        assert p.stop() == 0
    finally:
        p.close()


@pytest.fixture(autouse=True)
def rested(ops):
    """No test finds the bucket of wrong tokens as another one left it."""
    ops.porch.clock.advance(120)


def is_401(answer):
    return answer[0] == 401 and answer[1]["code"] == "unauthenticated"


def test_s_a9_nobody_is_an_admin_by_default_and_nobody_becomes_one_over_tcp(ops):
    assert ops.somebody == []
    for email, password in (("admin@example.com", "admin"), ("admin@localhost", "porchlight"), ("demo@porchlight.example", "demo"), ("root@localhost", "changeme1")):
        assert rest.Api(ops.porch).post("/v1/sessions", {"email": email, "password": password}).code in ("invalid_credentials", "invalid_request", "password_refused")
    for method, path, _ in admin_routes():
        if path != "/admin/v1/admins/accept":
            assert is_401(ops.call(method, path.replace("{id}", ID).replace("{name}", "alice"), {} if method == "POST" else None)), path
    assert is_401(ops.accept("plai_" + "A" * 43))
    assert ops.machine("GET", "/admin/v1/status")[0] == 200


def test_s_a9_an_invitation_makes_one_admin_and_then_never_another(ops):
    token = ops.invite("alice")
    assert ops.state("alice") == "invited"
    assert is_401(ops.call("GET", "/admin/v1/status", credential=token))  # it opens nothing by itself
    assert ops.accept(token)[0] == 201
    assert ops.state("alice") == "active" and is_401(ops.accept(token))
    assert ops.machine("POST", "/admin/v1/admins", {"name": "alice"})[1]["code"] == "admin_name_taken"
    for name in ("Alice", "al ice", "-a", "machine", "", "a" * 33, "al/ice", "älice"):
        assert ops.machine("POST", "/admin/v1/admins", {"name": name})[1]["code"] == "invalid_request", name


def test_s_a9_a_token_dies_after_an_hour_or_when_the_name_is_invited_anew(ops):
    before, token = ops.invite("late"), ops.invite("late")
    assert is_401(ops.accept(before))
    ops.porch.clock.advance(HOUR)
    assert is_401(ops.accept(token))
    token = ops.invite("late")
    ops.porch.clock.advance(HOUR - 5)
    assert ops.accept(token)[0] == 201


def test_s_a9_two_who_accept_one_token_at_once_make_exactly_one_admin(ops):
    """Sixteen, over both listeners, which have threads of their own."""
    ops.porch.clock.advance(120)
    token, path = ops.invite("twin"), ops.porch.ready["admin"].removeprefix("unix:")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: ops.call("POST", "/admin/v1/admins/accept", {"token": token}, socket_path=path if i % 4 else None), range(16)))
    assert sorted(a[0] for a in answers) == [201] + [401] * 15, answers
    with ops.porch.db() as db:
        assert db.execute("SELECT count(*) FROM admin WHERE name = 'twin'").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM admin_invitation WHERE name = 'twin'").fetchone() == (0,)


def test_s_a9_tokens_and_credentials_are_kept_as_hashes_only(ops):
    token, credential = ops.invite("hashed"), ops.new("kept")
    with ops.porch.db() as db:
        rows = str(db.execute("SELECT to_jsonb(a)::text FROM admin a").fetchall() + db.execute("SELECT to_jsonb(i)::text FROM admin_invitation i").fetchall() +
                   db.execute("SELECT detail FROM audit").fetchall())
    for secret in (token, credential):
        assert secret not in rows and base64.urlsafe_b64decode(secret[5:] + "=").hex() not in rows and secret not in ops.porch.logs(most=1 << 20)


def test_s_a9_a_revocation_is_in_force_at_once_and_ends_what_he_had_invited(ops):
    credential = ops.new("rogue")
    status, invited = ops.call("POST", "/admin/v1/admins", {"name": "rogues-friend"}, credential)
    assert status == 201
    other = ops.new("other")
    assert ops.call("DELETE", "/admin/v1/admins/rogue", credential=other) == (200, {"revoked": ["rogue"], "brought_in": []})
    assert is_401(ops.call("GET", "/admin/v1/status", credential=credential)) and is_401(ops.call("GET", "/admin/v1/hubs", credential=credential))
    assert is_401(ops.accept(invited["token"])) and ops.state("rogues-friend") is None and ops.state("rogue") == "revoked"
    assert ops.call("DELETE", "/admin/v1/admins/rogue", credential=other)[0] == 404
    assert ops.machine("POST", "/admin/v1/admins", {"name": "rogue"})[1]["code"] == "admin_name_taken"
    ops.invite("unwanted")
    assert ops.call("DELETE", "/admin/v1/admins/unwanted", credential=other)[0] == 200 and ops.state("unwanted") is None


def brings_in(ops, name, credential):
    status, reply = ops.call("POST", "/admin/v1/admins", {"name": name}, credential)
    assert status == 201
    return ops.accept(reply["token"])[1]["credential"]


def test_s_a9_whom_a_revoked_admin_brought_in_is_named_and_goes_with_him(ops):
    first = ops.new("mole")
    second = brings_in(ops, "moles-friend", first)
    third = brings_in(ops, "friends-friend", second)
    listed = {a["name"]: a["invited_by"] for a in ops.machine("GET", "/admin/v1/admins")[1]["admins"]}
    assert (listed["mole"], listed["moles-friend"], listed["friends-friend"]) == ("machine", "mole", "moles-friend")
    honest = brings_in(ops, "honest", third)
    brought = ["friends-friend", "honest", "moles-friend"]
    # One by one: the others stay, and the answer says who they are.
    assert ops.call("DELETE", "/admin/v1/admins/moles-friend", credential=honest) == (200, {"revoked": ["moles-friend"], "brought_in": ["friends-friend", "honest"]})
    assert ops.call("DELETE", "/admin/v1/admins/mole", credential=honest) == (200, {"revoked": ["mole"], "brought_in": ["friends-friend", "honest"]})
    assert ops.call("GET", "/admin/v1/status", credential=third)[0] == 200
    # All of them, also of one who was revoked before; who calls stays.
    pending = ops.call("POST", "/admin/v1/admins", {"name": "still-to-come"}, third)[1]["token"]
    assert ops.call("DELETE", "/admin/v1/admins/mole?with_invited=true", credential=honest) == (200, {"revoked": ["friends-friend"], "brought_in": ["honest"]})
    assert is_401(ops.call("GET", "/admin/v1/status", credential=third)) and is_401(ops.accept(pending))
    assert [d["name"] for a, d in ops.log()[:4] if a == "admin.revoked"] == ["friends-friend", "mole", "moles-friend"]
    done = subprocess.run([program("porchctl"), "--dir", ops.porch.dir, "admin", "revoke", "mole", "--with-invited"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "revoked     honest\n") and [ops.state(n) for n in brought] == ["revoked"] * 3
    assert ops.machine("DELETE", "/admin/v1/admins/mole")[0] == 404


def test_s_a9_nobody_is_brought_in_unseen_while_his_inviter_is_revoked(ops):
    """The invitation is accepted and the inviter revoked at the same moment: either the token is worth nothing, or the new admin goes, too."""
    for n in range(4):
        credential = ops.new(f"inviter-{n}")
        token = ops.call("POST", "/admin/v1/admins", {"name": f"unseen-{n}"}, credential)[1]["token"]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            accepted = pool.submit(ops.accept, token)
            revoked = pool.submit(ops.machine, "DELETE", f"/admin/v1/admins/inviter-{n}?with_invited=true")
        assert revoked.result()[0] == 200 and accepted.result()[0] in (201, 401)
        assert ops.state(f"unseen-{n}") in (None, "revoked")


def test_s_a9_a_call_that_has_begun_is_not_done_for_who_is_revoked_meanwhile(ops):
    """The revocation has the row: the call that was let in waits for it, and is refused."""
    credential = ops.new("racer")
    with ops.porch.db() as db, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with db.transaction():
            db.execute("UPDATE admin SET revoked_at = now() WHERE name = 'racer'")
            call = pool.submit(ops.call, "POST", "/admin/v1/relays", {"name": "racers", "public_key": "ab" * 32}, credential)
            until(lambda: db.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone(), "the call waits for the row")
        assert is_401(call.result())
        assert db.execute("SELECT count(*) FROM relay WHERE name = 'racers'").fetchone() == (0,)


def test_s_a9_the_last_admin_is_revoked_on_the_machine_only(ops):
    last = ops.new("last")
    for a in ops.machine("GET", "/admin/v1/admins")[1]["admins"]:
        if a["name"] != "last" and a["state"] == "active":
            assert ops.call("DELETE", f"/admin/v1/admins/{a['name']}", credential=last)[0] == 200
    status, reply = ops.call("DELETE", "/admin/v1/admins/last", credential=last)
    assert (status, reply["code"]) == (403, "forbidden") and ops.state("last") == "active"
    assert ops.machine("DELETE", "/admin/v1/admins/last")[0] == 200 and ops.state("last") == "revoked"


def test_wrong_tokens_are_counted_and_right_ones_go_on(ops):
    credential = ops.new("patient")
    ops.porch.clock.advance(120)
    answers = [ops.call("GET", "/admin/v1/hubs", credential=f"plad_{i:043}") for i in range(WRONG + 3)]
    assert [a[0] for a in answers] == [401] * WRONG + [429] * 3 and len({json.dumps({**a[1], "instance": ""}) for a in answers[:WRONG]}) == 1
    assert ops.accept("plai_" + "A" * 43)[0] == 429
    assert ops.call("GET", "/admin/v1/hubs", credential=credential)[0] == 200


def test_admin_listeners_take_no_address_that_others_reach(ops, tmp_path):
    changed = {"--http": "127.0.0.1:0", "--ws": "127.0.0.1:0", "--admin": f"unix:{tmp_path}/a.sock"}
    for setting, said in (("admin.tcp=0.0.0.0:0", "not loopback"), ("admin.listen=127.0.0.1:0", "unix:/")):
        args = [*server_args(ops.porch)[1:], *[w for pair in changed.items() for w in pair], "--set", "http.insecure_behind_proxy=true", "--set", setting]
        done = subprocess.run([program("porchlightd"), *args], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and said in done.stderr, (setting, done.stderr)


CHANGES = {  # every route of the admin API that changes something: (path as called, body, action)
    ("POST", "/admin/v1/inventory"): (None, {"devices": [{"serial": "PLH9ADMN0001", "kind": "hub", "model": "H1", "public_key": "cd" * 32}]}, "inventory.imported"),
    ("POST", "/admin/v1/relays"): (None, {"name": "third", "public_key": "ef" * 32}, "relay.enrolled"),
    ("DELETE", "/admin/v1/relays/{id}"): ("id", None, "relay.revoked"),
    ("POST", "/admin/v1/oauth-clients"): (None, {"name": "Assistant", "redirect_uris": ["https://assistant.example/back"]}, "service.registered"),
    ("DELETE", "/admin/v1/oauth-clients/{id}"): ("client_id", None, "service.removed"),
    ("POST", "/admin/v1/admins"): (None, {"name": "guest"}, "admin.invited"),
    ("POST", "/admin/v1/admins/accept"): (None, "token", "admin.accepted"),
    ("DELETE", "/admin/v1/admins/{name}"): ("name", None, "admin.revoked"),
}


def test_the_log_names_who_did_what(ops):
    credential, known = ops.new("carol"), {}
    assert ops.log()[:2] == [("admin.accepted", {"by": "carol", "name": "carol"}), ("admin.invited", {"by": "machine", "name": "carol"})]
    changing = [(m, p) for m, p, _ in admin_routes() if m != "GET"]
    assert set(changing) == set(CHANGES), "a route that changes something is in no log, or in none that is looked at here"
    for method, path in CHANGES:
        argument, body, action = CHANGES[method, path]
        status, reply = ops.call(method, re.sub(r"\{\w+\}", known.get(argument, ""), path), {"token": known["token"]} if body == "token" else body, credential)
        assert status < 300, (path, status, reply)
        known |= reply or {}
        assert ops.log()[0][0] == action and ops.log()[0][1]["by"] == ("guest" if action == "admin.accepted" else "carol"), ops.log()[0]
    chain = ops.call("GET", "/admin/v1/audit/admins", credential=credential)[1]
    assert chain["whole"] and chain["rows"] == len(ops.log())
    used = [a["used_at"] for a in ops.machine("GET", "/admin/v1/admins")[1]["admins"] if a["name"] == "carol"]
    ops.porch.clock.advance(60)
    assert ops.call("GET", "/admin/v1/status", credential=credential)[0] == 200
    assert used[0] and [a["used_at"] > used[0] for a in ops.machine("GET", "/admin/v1/admins")[1]["admins"] if a["name"] == "carol"] == [True]
    # A row that somebody changed in the database is found.
    with ops.porch.db() as db:
        assert db.execute("SELECT count(*) FROM audit WHERE action = 'admin.accepted' AND actor_id = (SELECT id FROM admin WHERE name = 'carol')").fetchone() == (1,)


SECRET_COLUMN = re.compile(r"password|pin|secret|hash|token|key|seed|salt|sealed|body|code", re.I)


def secrets_in(db):
    """(table.column, value as it might be shown) of every column of the database that may hold a secret, by its name or because it is bytes."""
    columns = db.execute("""SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
                            AND data_type IN ('bytea', 'text')""").fetchall()
    for table, column, kind in columns:
        if table in ("audit", "audit_head", "migration") or not (kind == "bytea" or SECRET_COLUMN.search(column)):
            continue
        for (value,) in db.execute(f'SELECT DISTINCT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL').fetchall():
            if kind == "text" and len(value) >= 12:
                yield f"{table}.{column}", value
            elif kind == "bytea" and len(value) >= 8:
                for text in (value.hex(), base64.b64encode(value).decode().rstrip("="), base64.urlsafe_b64encode(value).decode().rstrip("=")):
                    yield f"{table}.{column}", text


def standing(db):
    """What passwords, PINs and second factors are made of, table by table."""
    return {t: db.execute(f"SELECT md5(string_agg(x::text, ',' ORDER BY x::text)) FROM {t} x").fetchone()
            for t in ("account", "signup", "challenge", "outbox", "factor_totp", "factor_recovery", "factor_passkey", "password_reset", "session_token", "step_up_grant")}


def test_s_a10_no_route_shows_an_admin_a_password_or_a_pin_or_sets_one(ops):
    """Every route of the admin API with every secret column of the database beside it. A PIN lies in the outbox, for which no provider is configured: the machine's
    owner sees it there, an admin does not. Bodies are strict, so a member that a route does not take is refused."""
    api, email = rest.Api(ops.porch), rest.new_email()
    api.post("/v1/accounts", {"email": email, "password": "five small whales in rain", "country": "US"}).ok(202)
    waiting = [m for m in ops.machine("GET", "/admin/v1/outbox")[1]["messages"] if m["pin"]]
    assert waiting
    credential = ops.new("curious")
    shown = ""
    for method, path, _ in admin_routes():
        where = path.replace("{id}", ID).replace("{name}", "nobody")
        if method == "GET":
            shown += json.dumps(ops.call(method, where, credential=credential)[1])
    with ops.porch.db() as db:
        held = list(secrets_in(db))
        assert {"signup.password_hash", "admin.credential_hash"} <= {where for where, _ in held}, {where for where, _ in held}
        for where, text in held + [("the outbox", m[k]) for m in waiting for k in ("pin", "text")]:
            assert text not in shown, f"{where} is shown to an admin"
        before = standing(db)
        for method, path, _ in admin_routes():
            where = path.replace("{id}", ID).replace("{name}", "nobody")
            for member in ("password", "pin", "password_hash", "pin_hash", "new_password"):
                body = {**(CHANGES[method, path][1] if isinstance(CHANGES.get((method, path), (0, 0))[1], dict) else {}), member: "123456"}
                status, reply = ops.call(method, where, body, credential)
                assert status in (400, 401, 429), (method, path, member, status, reply)
        assert standing(db) == before


def test_porchctl_as_the_document_shows_it(ops, tmp_path):
    """docs/operators.md, Admins, pasted; then what porchctl refuses."""
    (text,) = [t for _, language, t, _ in blocks("docs/operators.md") if language == "sh" and "admin invite alice" in t]
    text = text.replace("127.0.0.1:8090", ops.at).replace("alice", "ada").replace("bob", "grace")
    script = f'set -eu -o pipefail\nporchctl() {{ {BUILD}/server/porchctl --dir {ops.porch.dir} "$@"; }}\n{text}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ada +active", done.stdout, re.M) and re.search(r"^grace +revoked", done.stdout, re.M) and '"by":"ada"' in done.stdout.replace(" ", "")
    assert stat.S_IMODE(os.stat(tmp_path / "ada.json").st_mode) == 0o600
    ada = json.load(open(tmp_path / "ada.json", encoding="utf-8"))
    assert (ada["admin"], ada["name"]) == (ops.at, "ada") and ada["credential"] not in done.stdout + done.stderr

    def ctl(*words, stdin=""):
        done = subprocess.run([program("porchctl"), "--dir", "/nonexistent", *words], cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr
    assert "exists" in ctl("admin", "accept", ops.at, "ada.json", stdin="x")[1]
    code, said = ctl("admin", "accept", ops.at, "new.json", stdin="plai_" + "A" * 43 + "\n")
    assert code == 1 and "makes nobody an admin" in said and not os.path.exists(tmp_path / "new.json")
    assert ctl("hubs", "--as", "grace.json")[0] == 1 and ctl("hubs", "--as", "ada.json")[0] == 0
    # Neither token nor credential goes over plain HTTP to another machine.
    for other in ("192.0.2.1:80", "elsewhere.example:80", "127.0.0.1:80@elsewhere.example:80", "localhost:8090", "[2001:db8::1]:80", "127.0.0.1", "0.0.0.0:80", ""):
        code, said = ctl("admin", "accept", other, "other.json", stdin="plai_" + "A" * 43 + "\n")
        assert code == 1 and "ssh -L" in said and not os.path.exists(tmp_path / "other.json"), (other, said)
        (tmp_path / "there.json").write_text(json.dumps({**ada, "admin": other}))
        os.chmod(tmp_path / "there.json", 0o600)
        code, said = ctl("hubs", "--as", "there.json")
        assert code == 1 and "ssh -L" in said, (other, said)
    # At the socket, too, by name.
    (tmp_path / "here.json").write_text(json.dumps({**ada, "admin": ops.porch.ready["admin"]}))
    os.chmod(tmp_path / "here.json", 0o600)
    assert ctl("admin", "invite", "hopper", "--as", "here.json")[0] == 0 and ops.log()[0] == ("admin.invited", {"by": "ada", "name": "hopper"})
    os.chmod(tmp_path / "ada.json", 0o640)
    assert "read by others" in ctl("hubs", "--as", "ada.json")[1]


# --- beside apps

def test_s_a9_an_operator_is_who_can_open_the_socket_and_nobody_over_the_network(porch, account):
    path = porch.ready["admin"].removeprefix("unix:")
    assert stat.S_ISSOCK(os.stat(path).st_mode) and stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.stat(path).st_uid == os.getuid()
    assert Operators(porch).machine("GET", "/admin/v1/status")[0] == 200
    for method, where, _ in admin_routes():
        for token in (None, account.api.token):
            r = account.api.call(method, where.replace("{id}", account.id), token=token, check=False)
            assert r.status in (404, 405), (where, r.status, r.body)


def test_s_a10_an_operator_sees_no_secret_of_an_account_and_can_set_none(porch, account):
    """A message that waits for its provider has a PIN in it; a client's tokens and the password's hash stand in rows. The admin API gives none of them, and takes none."""
    porch.mail.refuse = "451 later"
    try:
        api = rest.Api(porch)
        api.post("/v1/sessions", {"email": account.email, "password": account.password}).ok(202)
        waits = until(lambda: [m for m in porch.ctl("outbox")["messages"] if m["to"].endswith(account.email.split("@")[1]) and m["attempts"]], "the message waits for its next try")
        assert all(m.get("pin") is None and m.get("text") is None for m in waits), waits
        shown = json.dumps([Operators(porch).machine("GET", where.replace("{id}", account.id)) for method, where, _ in admin_routes() if method == "GET"])
    finally:
        porch.mail.refuse = None
    assert account.id in shown  # it looked at this account
    for secret in (account.password, account.api.token, account.api.tokens["refresh_token"], "$argon2id", account.phone):
        assert secret not in shown
    assert re.search(r'argon2|token_hash|pin_hash|"password', shown) is None
    for body in ({"password": account.password}, {"pin": "123456"}):
        for where in (f"/admin/v1/accounts/{account.id}", f"/admin/v1/accounts/{account.id}/password", "/admin/v1/accounts"):
            assert Operators(porch).machine("POST", where, body)[0] in (404, 405)
