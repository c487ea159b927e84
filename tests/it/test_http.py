"""The REST engine against the real server and a real PostgreSQL: idempotency, rates over several nodes, ETags, lists, CORS, TLS."""
import concurrent.futures
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid

import pytest
import requests
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lib import rest
from lib.household import Household
from lib.porch import program
from lib.wait import until


def new_key():
    return uuid.uuid4().hex


def parallel(n, call):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        gate = threading.Barrier(n)
        return [f.result() for f in [pool.submit(lambda i=i: (gate.wait(30), call(i))[1]) for i in range(n)]]


# --- S-S9: idempotency

def test_s_s9_fifty_parallel_posts_with_one_key_make_one_row_and_one_answer(porch, account):
    key = new_key()
    replies = parallel(50, lambda i: account.api.post("/v1/systems", {"name": "Cabin"}, idempotency=key))
    assert {r.status for r in replies} == {201}
    assert len({json.dumps(r.body, sort_keys=True) for r in replies}) == 1
    assert len({r.headers["Location"] for r in replies}) == 1
    assert [r.headers.get("Idempotency-Replayed") for r in replies].count("true") == 49
    assert [s["name"] for s in account.api.get("/v1/systems").ok(200)["systems"]] == ["Cabin"]


def test_s_s9_another_request_with_the_same_key_is_refused(account, other_account):
    key = new_key()
    made = account.api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).ok(201)
    account.api.post("/v1/systems", {"name": "Boat"}, idempotency=key).refused("idempotency_conflict")
    account.api.post("/v1/step-up", {"purpose": "delete_hub"}, idempotency=key).refused("idempotency_conflict")
    # Somebody else's same key is another key.
    theirs = other_account.api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).ok(201)
    assert theirs["id"] != made["id"] and "Idempotency-Replayed" not in theirs.headers
    account.api.post("/v1/systems", {"name": "Boat"}, idempotency="short").refused("invalid_request")


def test_s_s9_what_was_refused_may_be_tried_again_with_the_same_key(account):
    key = new_key()
    first = account.api.post("/v1/systems", {"name": "Cabin"}).ok(201)
    account.api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).refused("system_name_taken")
    account.api.delete(f"/v1/systems/{first['id']}?confirm=Cabin").ok(204)
    account.api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).ok(201)


def test_s_s9_answers_end_after_a_day(own_porch):
    p = own_porch()
    account, key = p.sign_up(), new_key()
    api = account.api

    def later(seconds):
        p.clock.advance(seconds)
        api.take_tokens(api.post("/v1/sessions/refresh", {"refresh_token": api.tokens["refresh_token"]}, token=None).ok(200))

    made = api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).ok(201)
    later(24 * 3600 - 60)
    assert api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).ok(201).body == made.body
    # Another client of the account is another caller.
    p.log_in(account).post("/v1/systems", {"name": "Cabin"}, idempotency=key).refused("idempotency_conflict")
    later(61)
    api.post("/v1/systems", {"name": "Cabin"}, idempotency=key).refused("system_name_taken")
    with p.db() as db:
        until(lambda: db.execute("SELECT count(*) FROM idempotency").fetchone()[0] == 0, "the stored answer is forgotten")


def test_s_s9_lost_answers_of_a_sign_up_are_given_again_and_send_nothing_twice(porch):
    """Every step is sent twice with its key, as by an app that lost the answer; there is one PIN a step, and one account."""
    api, email, phone = porch.api(), rest.new_email(), rest.new_phone()
    keys = []

    def twice(path, body, **how):
        keys.append(new_key())
        one = api.post(path, body, idempotency=keys[-1], **how).ok()
        two = api.post(path, body, idempotency=keys[-1], **how).ok()
        assert (one.status, one.body) == (two.status, two.body) and two.headers["Idempotency-Replayed"] == "true"
        return two

    password = "a quiet porch at night"
    challenge = twice("/v1/accounts", {"email": email, "password": password, "country": "US", "client": rest.CLIENT})["challenge"]
    following = twice(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(email, 0)}, key=challenge["key"])["next"]["challenge"]
    twice(f"/v1/challenges/{following['id']}/destination", {"phone": phone, "channel": "sms"}, key=following["key"])
    tokens = twice(f"/v1/challenges/{following['id']}/verify", {"pin": porch.sms.pin(phone, 0)}, key=following["key"])
    assert porch.mail.count(email) == 1 and porch.sms.count(phone) == 1
    challenge = twice("/v1/sessions", {"email": email, "password": password})["challenge"]
    second = twice(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(email, 1)}, key=challenge["key"])
    assert porch.mail.count(email) == 2
    # A right key with another PIN is another request, and no way to guess.
    api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": "000000"}, key=challenge["key"], idempotency=keys[-1]).refused("idempotency_conflict")
    # At rest: no key, no token, no challenge key, whoever reads the table.
    with porch.db() as db:
        stored = b"".join(b"".join(row) for row in db.execute("SELECT key_hash, request_hash, answer FROM idempotency").fetchall())
    secrets = keys + [tokens["access_token"], tokens["refresh_token"], second["access_token"], challenge["key"], password, email]
    assert not [s for s in secrets if s.encode() in stored]


class HeldCommit:
    """Stands between a server and PostgreSQL. Once `hold` is set, the COMMIT of a call with a key goes through and its answer does not come back."""

    def __init__(self, folder, target):
        self.folder, self.target, self.hold = str(folder), target, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(self.folder, ".s.PGSQL.5432"))
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            held = threading.Event()
            threading.Thread(target=self._forward, args=(client, server, held), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client, held), daemon=True).start()

    def _forward(self, client, server, held):
        effect = False
        try:
            while data := client.recv(65536):
                # The transaction that stores an answer, not the one before it that looks at the token.
                effect = effect or b"http_idempotency_keep" in data
                if self.hold.is_set() and effect and b"COMMIT\0" in data:
                    held.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    @staticmethod
    def _back(server, client, held):
        try:
            while data := server.recv(65536):
                if not held.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


def server_args(porch):
    """What porchctl started porchlightd with."""
    with open(f"/proc/{porch.pids()['porchlightd']}/cmdline", encoding="utf-8") as f:
        return f.read().split("\0")[:-1]


class Node:
    """Another porchlightd of the same service: same database, same master key, same settings."""

    def __init__(self, porch, folder, *more, **changed):
        data, args = folder / "data", server_args(porch)
        os.makedirs(data)
        changed = {"data": str(data), "http": "127.0.0.1:0", "ws": "127.0.0.1:0", "admin": f"unix:{folder}/admin.sock", **changed}
        shutil.copy(os.path.join(args[args.index("--data") + 1], "master.key"), data)
        for name, value in changed.items():
            args[args.index(f"--{name}") + 1] = value
        self.process = subprocess.Popen([program("porchlightd"), *args[1:], *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.http = json.loads(self.process.stdout.readline())["http"]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def second_node(porch, tmp_path):
    """A node whose database connection can be held at a COMMIT: (address, process, hold)."""
    place = conninfo_to_dict(porch.ready["db"])
    proxy = HeldCommit(tmp_path, os.path.join(place["host"], f".s.PGSQL.{place['port']}"))
    node = Node(porch, tmp_path / "second", db=make_conninfo(**dict(place, host=str(tmp_path), port=5432)))
    try:
        yield node.http, node.process, proxy.hold
    finally:
        node.close()
        proxy.close()


@pytest.mark.parametrize("public", [False, True])
def test_s_s9_killed_between_commit_and_reply_the_retry_gets_the_same_answer(porch, account, second_node, public):
    address, process, hold = second_node
    key, email = new_key(), rest.new_email()
    path, body = ("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US"}) if public else ("/v1/systems", {"name": "Cabin"})
    lost = []

    def send():
        api = rest.Api(porch, address)
        api.token = account.api.token
        try:
            lost.append(api.post(path, body, idempotency=key))
        except OSError as e:
            lost.append(e)

    def visible(db):
        if public:
            return db.execute("SELECT id FROM signup WHERE email = %s", (email,)).fetchall()
        return db.execute("SELECT id FROM system WHERE account_id = %s", (account.id,)).fetchall()

    hold.set()
    thread = threading.Thread(target=send)
    thread.start()
    with porch.db() as db:
        rows = until(lambda: visible(db), "the row is committed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        thread.join(30)
        assert len(lost) == 1 and isinstance(lost[0], OSError), "the reply was lost"
        again = [account.api.post(path, body, idempotency=key).ok(202 if public else 201) for _ in range(2)]
        assert again[0].body == again[1].body and [r.headers["Idempotency-Replayed"] for r in again] == ["true"] * 2
        assert visible(db) == rows and len(rows) == 1, "the retry made nothing"
    if public:
        # The answer is the true one: the PIN that was sent opens the challenge, whose key only this answer tells.
        challenge = again[0]["challenge"]
        porch.clock.advance(61)  # who was killed may have had the message in hand: its lease is over then, and it may come twice
        account.api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(email, 0)}, key=challenge["key"]).ok(200)
        assert len({m["headers"]["Message-ID"] for m in porch.mail.messages if m["to"] == email}) == 1
    else:
        assert again[0]["id"] == str(rows[0][0])


# --- S-F6, S-F8: rates

def rates(**wanted):
    return [a for name, n in wanted.items() for a in ("--set", f"http.rate.{name.replace('_', '.')}={n}")]


def test_s_f6_four_nodes_together_give_what_one_gives(own_porch, tmp_path):
    limit = 200
    p = own_porch(extra=rates(read_account=limit, send_account=8))
    account = p.sign_up()
    nodes = [Node(p, tmp_path / f"node{i}") for i in range(3)]
    try:
        apis = [rest.Api(p, address) for address in [p.http] + [n.http for n in nodes]]
        for api in apis:
            api.token = account.api.token

        def knock(i, method, path, body, most):
            made = [apis[i % 4].call(method, path, body) for _ in range(most)]
            assert {r.status for r in made} <= {200, 202, 429}
            return sum(r.status < 300 for r in made)

        def total(*call):
            began = time.monotonic()
            got = sum(parallel(8, lambda i: knock(i, *call)))
            return got, time.monotonic() - began

        # What flowed back meanwhile comes on top. Reads are taken in batches of four, so three nodes may hold back three each.
        got, took = total("GET", "/v1/account", None, 50)
        assert limit - 9 <= got <= limit + took * limit / 60 + 1
        got, took = total("POST", "/v1/step-up", {"purpose": "delete_hub"}, 5)
        assert 8 <= got <= 8 + took * 8 / 60 + 1
        late = apis[2].post("/v1/step-up", {"purpose": "delete_hub"}).refused("rate_limited")
        assert late.status == 429 and late.headers["RateLimit-Remaining"] == "0" and late.headers["RateLimit-Limit"] == "8"
        p.clock.advance(int(late.headers["Retry-After"]))
        apis[1].post("/v1/step-up", {"purpose": "delete_hub"}).ok(202)
    finally:
        for n in nodes:
            n.close()


def test_s_f6_strangers_are_counted_by_address_and_hold_back_nobody_who_is_signed_in(own_porch):
    p = own_porch(extra=rates(auth_address=12, read_address=6))
    account, stranger = p.sign_up(), p.api()

    def until_refused(path, **how):
        """What came before the first refusal for the rate; some flows back on a slow machine."""
        seen = []
        while "rate_limited" not in seen:
            assert len(seen) < 60, seen
            seen.append(stranger.get(path, **how).code)
        return seen[:-1]

    assert len(until_refused("/v1/regions")) >= 6
    # Two PINs of the sign-up were tries too.
    refused = until_refused("/v1/account", token="plat_" + "A" * 43)
    assert len(refused) >= 10 and set(refused) == {"unauthenticated"}
    account.api.get("/v1/account").ok(200)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert "RateLimit-Limit" not in stranger.get(path).ok(200).headers


def test_s_f8_a_limiter_that_cannot_answer_sends_nothing_and_leaves_video_alone(own_porch):
    p = own_porch()
    account = p.sign_up()
    with p.db() as db:
        db.execute("ALTER TABLE rate_bucket RENAME TO rate_bucket_away")
        p.clock.advance(11)  # what the node has in hand is over
        account.api.post("/v1/step-up", {"purpose": "delete_hub"}).refused("unavailable")
        account.api.post("/v1/sessions", {"email": account.email, "password": account.password}).refused("unavailable")
        nowhere = f"/v1/live/{uuid.uuid4()}"
        account.api.get(nowhere).refused("not_found")
        account.api.patch(nowhere, {"extend": True}).refused("not_found")
        account.api.get("/v1/systems").ok(200)
        db.execute("ALTER TABLE rate_bucket_away RENAME TO rate_bucket")
        account.api.post("/v1/step-up", {"purpose": "delete_hub"}).ok(202)


# --- ETag and If-Match, cursors, CORS

def test_settings_are_changed_only_as_they_were_seen(porch, account):
    system = account.api.post("/v1/systems", {"name": "Cabin"}).ok(201)
    path = f"/v1/systems/{system['id']}"
    seen = account.api.get(path).ok(200).headers["ETag"]
    assert seen == system.headers["ETag"]
    renamed = account.api.patch(path, {"name": "Boat"}, headers={"If-Match": seen}).ok(200)
    account.api.patch(path, {"name": "Shed"}, headers={"If-Match": seen}).refused("version_conflict")
    assert account.api.get(path).ok(200)["name"] == "Boat"
    # Of many who saw the same state, one changes it.
    many = parallel(8, lambda i: account.api.patch(path, {"name": f"Shed {i}"}, headers={"If-Match": renamed.headers["ETag"]}).status)
    assert sorted(many) == [200] + [412] * 7


def test_a_device_is_renamed_only_as_it_was_seen(porch, account):
    home = Household(porch, account)
    try:
        path = f"/v1/devices/{home.cameras[0]}"
        seen = account.api.get(path).ok(200).headers["ETag"]
        renamed = account.api.patch(path, {"name": "Door"}, headers={"If-Match": seen}).ok(200)
        account.api.patch(path, {"name": "Gate"}, headers={"If-Match": seen}).refused("version_conflict")
        many = parallel(8, lambda i: account.api.patch(path, {"name": f"Gate {i}"}, headers={"If-Match": renamed.headers["ETag"]}).status)
        assert sorted(many) == [200] + [412] * 7
    finally:
        home.close()


def test_lists_come_page_by_page(account):
    made = [account.api.post("/v1/systems", {"name": f"Cabin {i}"}).ok(201)["id"] for i in range(7)]
    seen, path = [], "/v1/systems?limit=3"
    while path:
        page = account.api.get(path).ok(200)
        seen.append([s["id"] for s in page["systems"]])
        path = "/v1/systems" + page.headers["Link"].split("<")[1].split(">")[0] if "Link" in page.headers else None
    assert seen == [made[:3], made[3:6], made[6:]]
    account.api.get("/v1/systems?cursor=nonsense").refused("invalid_request")


def test_clients_come_page_by_page_last_seen_first(porch, account):
    for _ in range(2):
        porch.log_in(account)
    whole = [c["client_id"] for c in account.api.get("/v1/account/clients").ok(200)["clients"]]
    seen, path = [], "/v1/account/clients?limit=1"
    while path:
        page = account.api.get(path).ok(200)
        seen += [c["client_id"] for c in page["clients"]]
        path = "/v1/account/clients" + page.headers["Link"].split("<")[1].split(">")[0] if "Link" in page.headers else None
    assert seen == whole and len(whole) == 3


def test_only_pages_of_allowed_origins_may_read_answers(own_porch):
    p = own_porch(extra=("--set", "http.allowed_origins=https://app.example https://other.example"))
    api = p.api()
    assert api.get("/v1/status", headers={"Origin": "https://other.example"}).headers["Access-Control-Allow-Origin"] == "https://other.example"
    assert "Access-Control-Allow-Origin" not in api.get("/v1/status", headers={"Origin": "https://evil.example"}).headers
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization"}
    answer = api.call("OPTIONS", "/v1/account", headers=asked, check=False).ok(204)
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"] and "DELETE" in answer.headers["Access-Control-Allow-Methods"]


# --- TLS

def test_rest_over_tls_and_no_plain_text_off_loopback(porch, tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    node = Node(porch, tmp_path / "tls", "--tls-cert", cert, "--tls-key", key, http="0.0.0.0:0")
    try:
        port = node.http.rsplit(":", 1)[1]
        with requests.Session() as s:
            s.trust_env = False
            for _ in range(3):
                assert s.get(f"https://127.0.0.1:{port}/v1/status", verify=cert, timeout=30).json()["version"]
            made = s.post(f"https://127.0.0.1:{port}/v1/sessions", json={"email": "nobody@home.example", "password": "no such password"}, verify=cert, timeout=30)
            assert made.json()["code"] == "invalid_credentials"
            with pytest.raises(requests.exceptions.ConnectionError):
                s.get(f"http://127.0.0.1:{port}/v1/status", timeout=30)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse it first
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", int(port)), 30) as raw, pytest.raises(OSError):
            old.wrap_socket(raw)
    finally:
        node.close()
    said = subprocess.run([program("porchlightd"), *server_args(porch)[1:], "--http", "0.0.0.0:0", "--admin", f"unix:{tmp_path}/a.sock", "--ws", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=60)
    assert said.returncode == 1 and "--tls-cert" in said.stderr and "ready" not in said.stdout
