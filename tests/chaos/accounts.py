"""The accounts under kill -9: `tests/chaos/run --accounts --ops N [--seed N] [--record]`.

People sign up, log in, ask for PINs again and refresh, while porchlightd is killed again and again, each time a moment after it answered, and PostgreSQL is shut down at
once (`pg_ctl -m immediate` sends the same signal) now and then; until N operations were acknowledged. Each call is repeated with its Idempotency-Key until it is answered,
so the ledger knows exactly what there must be: no acknowledged message lost, no PIN good twice, no refresh token good twice, no try given back, nothing doubled.
The processes are porchctl's, started here, because porchctl is patient with what dies often."""
import base64
import collections
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid

import requests

import checks
from ledger import Ledger, check_unique
from lib import rest
from lib.wait import until
from play import PASSWORD, Worker
from world import World

PEOPLE = 8
PIN_LIFE, RESEND_WAITS, GRACE = 2400, (91, 181), 30
HASTE = 8  # seconds of the daemons' clock in one of ours: a message that a dead porchlightd had in hand is free again after 30


class Bare(World):
    """PostgreSQL and porchlightd as porchctl ran them, without it."""

    def __init__(self, folder):
        super().__init__(folder)
        self.running, self.moving = {}, threading.Lock()

    def start(self):
        super().start()
        words = {os.path.basename(w[0]): [x for x in w if x] for _, w in self.children()}
        self.stop()
        server, postgres = words["porchlightd"], words["postgres"]
        for option, address in (("--http", self.ready["http"]), ("--ws", self.ready["ws"])):
            server[server.index(option) + 1] = address
        data = os.path.join(self.dir, "pg")
        postgres[postgres.index("-D") + 1] = data
        postgres = [f"unix_socket_directories={self.dir}/run/pg" if x.startswith("unix_socket_directories=") else x for x in postgres]
        owner = os.stat(data)
        self.commands = {"porchlightd": (server, {}), "postgres": (postgres, {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": [], "cwd": data} if os.getuid() == 0 else {})}
        self.run("postgres")
        self.run("porchlightd")
        until(self.is_ready, "porchlightd is ready", 60)
        return self

    def run(self, name):
        words, how = self.commands[name]
        with open(os.path.join(self.dir, "log", f"bare-{name}.log"), "ab") as log:
            self.running[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **how)

    def strike(self, name, how):
        """Ends it, and starts it again at once."""
        self.running[name].send_signal(how)
        self.running[name].wait(60)
        self.run(name)

    def pass_time(self, seconds):
        with self.moving:
            self.clock.advance(seconds)

    def close(self):
        for name, how in (("porchlightd", signal.SIGKILL), ("postgres", signal.SIGQUIT)):
            if name in self.running and self.running[name].poll() is None:
                self.running[name].send_signal(how)
                self.running[name].wait(60)
        super().close()


class Person(Worker):
    """Draws operations by the seed until enough are done."""

    def __init__(self, world, ledger, seed, score):
        super().__init__(world, ledger, seed, float("inf"))
        self.score, self.accounts, self.tries = score, [], collections.Counter()

    def play(self):
        self.sign_up()
        while self.score.open():
            kind = self.rand.choices(("sign_up", "log_in", "guess", "refresh", "steal"), weights=(3, 4, 1, 3, 1))[0]
            getattr(self, kind)()

    def ask(self, operation, api, method, path, body=None, **how):
        self.tries[path] += 1
        return super().ask(operation, api, method, path, body, **how)

    def calls(self, operation, api, path, body, **how):
        """(outcome, reply) of a POST that is asked, with one Idempotency-Key, until it is answered."""
        outcome, reply, _ = self.insist(operation, api, "POST", path, body, tries=200, idempotency=str(uuid.UUID(int=self.rand.getrandbits(128), version=4)), **how)
        return outcome, reply

    def wants(self, operation, api, path, body, *statuses, **how):
        outcome, reply = self.calls(operation, api, path, body, **how)
        if outcome != "ok" or reply.status not in statuses:
            self.ledger.bad("register", f"{operation}: refused: {reply.status} {reply.body}")
            return None
        return reply

    # ---- PINs

    def answer(self, api, challenge, resends=0):
        """Gets the PIN, perhaps after resends, and gives it, from two places at once. The reply; None: time ran out, which others' resends can do."""
        path, sent = f"/v1/challenges/{challenge['id']}", self.world.clock.offset
        self.ledger.challenges.add(challenge["id"])
        for n in range(resends):
            old = self.pin_of(challenge, n + 1, sent)
            if old is None:
                return None
            self.world.pass_time(RESEND_WAITS[n])
            outcome, reply = self.calls("resend", api, f"{path}/resend", {}, key=challenge["key"])
            if outcome != "ok":
                return self.late(reply, sent, path)
            if reply["challenge"]["sent_count"] != n + 2:
                self.ledger.bad("register", f"resend {n + 1} of {challenge['id']} is message {reply['challenge']['sent_count']}")
            self.score.done("resend")
            sent = self.world.clock.offset
        pin = self.pin_of(challenge, resends + 1, sent)
        if pin is None:
            return None
        if resends and old != pin and self.rand.random() < 0.5:
            outcome, reply = self.calls("old PIN", api, f"{path}/verify", {"pin": old}, key=challenge["key"])
            if outcome == "ok":
                self.ledger.bad("unique", f"the first PIN of {challenge['id']} was good after a second one")
        return self.give(api, challenge, pin, sent)

    def pin_of(self, challenge, ordinal, sent):
        self.ledger.messages[challenge["id"], ordinal] = self.tag
        broken = len(self.ledger.broken)
        pin = self.pin(challenge["id"], ordinal)
        if pin is None and self.world.clock.offset - sent >= PIN_LIFE / 2 - 60:
            del self.ledger.broken[broken:]  # it was too old to be sent
        return pin

    def late(self, reply, sent, path):
        """A refusal that is explained by time, or by tries that died after they were counted and before they were compared (S-P5: they stay counted); else a finding."""
        moved = self.world.clock.offset - sent
        if reply.code == "challenge_budget":
            self.score.budgets += 1
            return None
        late = reply.code in ("pin_expired", "not_found") and moved >= PIN_LIFE - 60
        if not late and not (reply.code == "pin_exhausted" and self.tries[path + "/verify"] > 5):
            self.ledger.bad("register", f"the right PIN of an open challenge was refused: {reply.status} {reply.body}; the clock moved {moved:.0f} s since it was sent")
        return None

    def give(self, api, challenge, pin, sent):
        """Two tries at once, each with a key of its own: one is served (S-P7); a third one later is not."""
        path, replies = f"/v1/challenges/{challenge['id']}/verify", []

        def one(who):
            try:
                replies.append(self.calls("PIN", who, path, {"pin": pin}, key=challenge["key"]))
            except AssertionError as e:
                self.ledger.bad("worker", str(e))
        both = [api, rest.Api(self.world)] if self.rand.random() < 0.5 else [api]
        threads = [threading.Thread(target=one, args=(who,)) for who in both]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        good = [r for outcome, r in replies if outcome == "ok"]
        if len(good) > 1:
            self.ledger.bad("unique", f"the PIN of {challenge['id']} was accepted {len(good)} times")
        if not good:
            return self.late(replies[0][1], sent, path.removesuffix("/verify")) if replies else None
        if self.calls("PIN again", api, path, {"pin": pin}, key=challenge["key"])[0] == "ok":
            self.ledger.bad("unique", f"the PIN of {challenge['id']} was accepted again")
        return good[0]

    def some_resends(self):
        return self.rand.choices((0, 1, 2), weights=(7, 2, 1))[0]

    # ---- operations

    def sign_up(self):
        api, email, phone = rest.Api(self.world), rest.new_email(), rest.new_phone()
        client = {"name": "Phone", "key": base64.urlsafe_b64encode(self.rand.randbytes(32)).rstrip(b"=").decode()}
        reply = self.wants("sign-up", api, "/v1/accounts", {"email": email, "password": PASSWORD, "country": "US", "client": client}, 202)
        reply = reply and self.answer(api, reply["challenge"], self.some_resends())
        if not reply:
            return
        challenge = reply["next"]["challenge"]
        if not self.wants("phone", api, f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"}, 202, key=challenge["key"]):
            return
        reply = self.answer(api, challenge, self.some_resends())
        if not reply:
            return
        self.ledger.accounts[email] = reply["account_id"]
        self.ledger.clients[reply["account_id"]] = 1
        self.accounts.append({"email": email, "id": reply["account_id"], "key": client["key"], "refresh": reply["refresh_token"], "access": reply["access_token"]})
        self.score.done("sign-up")

    def log_in(self):
        """A new client, or the known one, which is asked for no PIN and takes the place of its old session."""
        if not self.accounts:
            return
        a, api, known = self.rand.choice(self.accounts), rest.Api(self.world), self.rand.random() < 0.3
        client = {"name": "Phone", "key": a["key"]} if known else {"name": "Other"}
        outcome, reply = self.calls("log-in", api, "/v1/sessions", {"email": a["email"], "password": PASSWORD, "client": client})
        if outcome == "no" and reply.code == "challenge_budget":
            self.score.budgets += 1  # tries that died count as wrong ones, ten in 24 h (S-P6)
            self.accounts.remove(a)
            return
        if outcome != "ok" or reply.status != (201 if known else 202):
            self.ledger.bad("set", f"account {a['id']} was acknowledged; its log-in: {reply.status} {reply.body}")
            return
        if known:
            self.ledger.clients[a["id"]] += a["refresh"] is None  # that client had been signed out
            a.update(refresh=reply["refresh_token"], access=reply["access_token"])
        else:
            reply = self.answer(api, reply["challenge"], self.some_resends())
            if not reply:
                return
            self.ledger.clients[a["id"]] += 1
        self.score.done("log-in")

    def guess(self):
        """Wrong tries at a sign-up, resends between them: five are compared, whatever dies meanwhile (S-P5)."""
        api, email = rest.Api(self.world), rest.new_email()
        reply = self.wants("sign-up", api, "/v1/accounts", {"email": email, "password": PASSWORD, "country": "US"}, 202)
        if not reply:
            return
        challenge, left, compared, sent = reply["challenge"], 5, 0, 1
        path = f"/v1/challenges/{challenge['id']}"
        self.ledger.challenges.add(challenge["id"])
        right = self.pin_of(challenge, 1, self.world.clock.offset)
        began = self.world.clock.offset
        if right is None:
            return
        for n in range(12):
            if n == 2:
                self.world.pass_time(RESEND_WAITS[0])
                if self.calls("resend", api, f"{path}/resend", {}, key=challenge["key"])[0] == "ok":
                    sent = 2
                    right = self.pin_of(challenge, 2, self.world.clock.offset) or right
            outcome, reply = self.ask("guess", api, "POST", f"{path}/verify", {"pin": f"{(int(right) + 1 + n) % 1000000:06d}"}, key=challenge["key"])
            if outcome == "ok":
                self.ledger.bad("counter", f"a wrong PIN of {challenge['id']} was accepted")
            elif outcome == "no" and reply.code == "pin_wrong":
                compared += 1
                if reply["attempts_left"] >= left:
                    self.ledger.bad("counter", f"attempts_left of {challenge['id']} went from {left} to {reply['attempts_left']}")
                left = reply["attempts_left"]
        if compared > 5:
            self.ledger.bad("counter", f"{challenge['id']} compared {compared} wrong PINs over {sent} sends")
        outcome, reply = self.calls("right PIN too late", api, f"{path}/verify", {"pin": right}, key=challenge["key"])
        if outcome == "ok" or (reply.code != "pin_exhausted" and self.world.clock.offset - began < PIN_LIFE - 60):
            self.ledger.bad("counter", f"{challenge['id']} was exhausted, and then: {reply.status} {reply.body}")
        self.score.done("guess")

    def refresh(self):
        """The app's own way: whatever got lost, it asks again with its key (S-S3)."""
        a = self.rand.choice(self.accounts) if self.accounts else None
        if not a or not a["refresh"]:
            return
        began = self.world.clock.offset
        outcome, reply, before = self.insist("refresh", rest.Api(self.world), "POST", "/v1/sessions/refresh", {"refresh_token": a["refresh"], "client_key": a["key"]}, tries=200)
        if outcome == "ok":
            a.update(refresh=reply["refresh_token"], access=reply["access_token"])
            self.score.done("refresh")
        else:
            a.update(refresh=None, access=None)
            self.ledger.clients[a["id"]] -= 1
            if not (before and reply.code in ("token_reused", "unauthenticated") and self.world.clock.offset - began >= GRACE - 5):
                self.ledger.bad("register", f"the last refresh token of {a['id']} was refused: {reply.status} {reply.body}")

    def steal(self):
        """One token in two hands without the client's key: it is good once at most, and the second use ends the session."""
        a = self.rand.choice(self.accounts) if self.accounts else None
        if not a or not a["refresh"]:
            return
        token, good, told, fresh = a["refresh"], 0, False, None
        for _ in range(200):
            outcome, reply = self.ask("stolen refresh", rest.Api(self.world), "POST", "/v1/sessions/refresh", {"refresh_token": token})
            if outcome == "ok":
                good, fresh = good + 1, reply["access_token"]
            elif outcome == "no":
                told = True
                break
        if good > 1:
            self.ledger.bad("unique", f"one refresh token of {a['id']} was good {good} times")
        if not told or reply.code not in ("token_reused", "unauthenticated"):
            self.ledger.bad("unique", f"a refresh token of {a['id']} that was used: {reply and (reply.status, reply.body)}")
        for access in filter(None, (a["access"], fresh)):
            if self.insist("read", rest.Api(self.world), "GET", "/v1/account", tries=200, token=access)[0] == "ok":
                self.ledger.bad("unique", f"the session of {a['id']} outlived a token that was used twice")
        a.update(refresh=None, access=None)
        self.ledger.clients[a["id"]] -= 1
        self.score.done("stolen token")


class Score:
    """Enough: so many operations, or the first finding where one is looked for."""

    def __init__(self, wanted, ledger=None):
        self.wanted, self.ledger, self.counts, self.budgets, self.lock = wanted, ledger, collections.Counter(), 0, threading.Lock()

    def done(self, kind):
        with self.lock:
            self.counts[kind] += 1

    def open(self):
        return sum(self.counts.values()) < self.wanted and not (self.ledger and self.ledger.broken)


def haste(world, ended):
    while not ended.wait(0.1):
        world.pass_time(0.1 * HASTE)


def storm(world, rand, ledger, ended, weights):
    """Kills as soon as it answers again and a moment more; the moment is the seed's."""
    try:
        while not ended.wait(rand.uniform(0.0, 0.7)):
            kind = rand.choices(("porchlightd", "postgres"), weights=weights)[0]
            world.strike(kind, signal.SIGKILL if kind == "porchlightd" else signal.SIGQUIT)
            ledger.faults["kill porchlightd" if kind == "porchlightd" else "immediate postgres"] += 1
            until(world.is_ready, "it comes back by itself", 60)
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        ledger.bad("recovery", f"the storm ended early: {e}")


def sessions(world, ledger):
    """Known exactly, since each call was answered in the end."""
    rows = dict(world.asked("SELECT account_id::text, count(*) FROM session GROUP BY 1"))
    for account, n in ledger.clients.items():
        if rows.get(account, 0) != n:
            ledger.bad("unique", f"account {account} has {rows.get(account, 0)} sessions; {n} were acknowledged")


def doubles(world, ledger):
    """Each PIN that stands in the outbox belongs to a challenge that somebody was told of, and each is there once."""
    rows = world.asked("SELECT ref::text, id::text FROM outbox WHERE ref IS NOT NULL")
    for ref, id_ in rows:
        if ref not in ledger.challenges:
            ledger.bad("unique", f"message {id_} is of challenge {ref}, which no answer named: a call was carried out twice")
    said = collections.Counter(ref for ref, _ in ledger.messages)
    for ref, n in collections.Counter(r for r, _ in rows).items():
        if n > said[ref] and ref in ledger.challenges:
            ledger.bad("unique", f"challenge {ref} has {n} messages; {said[ref]} were asked for")


def journals(world, ledger):
    for account in list(ledger.accounts.values())[:40]:
        if not world.ctl("audit", "verify", account)["whole"]:
            ledger.bad("audit", f"the chain of {account} is broken")


def run(folder, seed, ops, plant=False):
    """(ledger, score). With a plant it ends at the first finding, and PostgreSQL is shut down as often as porchlightd is killed."""
    world, ledger, ended, done = Bare(os.path.join(folder, "data")), Ledger(), threading.Event(), threading.Event()
    score = Score(ops, ledger if plant else None)
    ledger.challenges = set()
    try:
        world.start()
        people = [Person(world, ledger, f"{seed}/{i}", score) for i in range(PEOPLE)]
        wind = threading.Thread(target=storm, args=(world, random.Random(f"storm/{seed}"), ledger, ended, (1, 1) if plant else (9, 1)), daemon=True)
        for t in [*people, wind, threading.Thread(target=haste, args=(world, done), daemon=True)]:
            t.start()
        for t in people:
            t.join()
        ended.set()
        wind.join(90)
        until(world.is_ready, "it comes back by itself", 60)
        checks.outbox(world, ledger)
        checks.found(ledger, "unique", check_unique("account of an e-mail", [r[0] for r in world.asked("SELECT email FROM account")]))
        there = {r[0]: r[1] for r in world.asked("SELECT email, account_id::text FROM account")}
        for email, account in ledger.accounts.items():
            if there.get(email) != account:
                ledger.bad("set", f"account {account} of {email} was acknowledged; there is {there.get(email)}")
        for email in set(there) - set(ledger.accounts):
            ledger.bad("set", f"there is an account of {email}; nobody was told of it")
        sessions(world, ledger)
        doubles(world, ledger)
        journals(world, ledger)
    except (AssertionError, requests.RequestException) as e:
        ledger.bad("recovery", str(e))
    finally:
        done.set()
        if ledger.broken and os.environ.get("CHAOS_LOGS"):
            print(world.logs(20000))
        world.close()
    return ledger, score


def in_folder(*args):
    folder = tempfile.mkdtemp(prefix="chaos-")
    os.chmod(folder, 0o755)
    try:
        return run(folder, *args)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def planted(seed, ops):
    """The ledger of a run that looks for a planted bug."""
    return in_folder(seed, ops, True)[0]


def main(seed, ops):
    """(whether nothing was found, the line for bench/RESULTS.md)."""
    began = time.monotonic()
    ledger, score = in_folder(seed, ops)
    for checker, sentence in ledger.broken:
        print(f"  {checker}: {sentence}")
    told = ledger.totals()
    line = (f"accounts, seed {seed}: {sum(score.counts.values())} operations ({', '.join(f'{k} {n}' for k, n in sorted(score.counts.items()))}) in {told['ok']} calls that were "
            f"acknowledged, {told['no']} refused, {told['unknown']} unknown; faults: {', '.join(f'{k} {n}' for k, n in sorted(ledger.faults.items()))}; "
            f"{len(ledger.messages)} messages; {score.budgets} challenges refused because ten tries had died or been wrong; {len(ledger.broken)} findings, {time.monotonic() - began:.0f} s")
    return not ledger.broken, line
