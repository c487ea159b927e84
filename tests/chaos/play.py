"""The workers: people and their apps on the main path, each drawing its operations by the seed and telling the ledger what it was answered."""
import random
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import requests

from ledger import Register
from lib import rest
from lib.wait import until
from world import Agent, new_key

TIMEOUT = 15
PASSWORD = "a quiet porch at night"


class Worker(threading.Thread):
    def __init__(self, world, ledger, seed, until_):
        super().__init__(daemon=True)
        self.world, self.ledger, self.rand, self.end = world, ledger, random.Random(seed), until_
        self.tag = f"{seed}".replace("/", "-")
        self.pause = threading.Event()

    def run(self):
        try:
            self.play()
        except Exception as e:  # a worker that cannot go on is a finding: nothing here may fail
            where = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(e.__traceback__)[-4:]))
            self.ledger.bad("worker", f"{type(self).__name__} {self.tag}: {type(e).__name__}: {e} ({where})")

    @property
    def on(self):
        return time.monotonic() < self.end

    # ---- calls

    def ask(self, operation, api, method, path, body=None, **how):
        """(outcome, reply): ok, no, unknown."""
        reply = None
        try:
            reply = api.call(method, path, body, timeout=TIMEOUT, **how)
            outcome = "ok" if 200 <= reply.status < 300 else "no" if reply.status < 500 and reply.code != "rate_limited" else "unknown"
        except (requests.RequestException, OSError, ValueError):
            outcome = "unknown"
        except AssertionError as e:
            self.ledger.bad("contract", str(e))
            outcome = "unknown"
        self.ledger.note(operation, outcome)
        if outcome == "unknown":
            self.come_back()
            self.pause.wait(0.5 if reply is not None and reply.code == "rate_limited" else 0.1 if self.world.nodes > 1 else 0)  # the next try may meet the same node
        return outcome, reply

    def come_back(self):
        until(self.world.is_ready, "the API comes back by itself", 60)

    def insist(self, operation, api, method, path, body=None, tries=12, **how):
        """Asks until there is an answer; (outcome, reply, whether an earlier try is unknown)."""
        before = False
        for _ in range(tries):
            outcome, reply = self.ask(operation, api, method, path, body, **how)
            if outcome != "unknown":
                return outcome, reply, before
            before = True
        raise AssertionError(f"{operation}: no answer in {tries} tries; last {reply and (reply.status, reply.body)}")

    def read(self, api, path):
        return self.insist("read", api, "GET", path)[1]

    # ---- PINs

    def pin(self, challenge_id, ordinal):
        """The PIN that arrived for the n-th message of a challenge. An acknowledged message must arrive."""
        self.ledger.messages[challenge_id, ordinal] = self.tag

        def look():
            rows = self.world.query("SELECT id::text FROM outbox WHERE ref = %s ORDER BY id", challenge_id)
            if rows is None or len(rows) < ordinal:
                return None
            id_ = rows[ordinal - 1][0]
            return self.world.mail.by_id.get(id_) or self.world.sms.by_id.get(id_)
        try:
            return until(look, "the PIN arrives", 120)  # world.MOST failures, and one more that a fault or a busy machine costs: the fifth try comes after 75 s
        except AssertionError:
            rows = self.world.query("SELECT id::text, status, attempts, why FROM outbox WHERE ref = %s", challenge_id)
            self.ledger.bad("total-queue", f"PIN {ordinal} of challenge {challenge_id} was acknowledged and did not arrive; outbox: {rows}")
            return None

    def verify(self, operation, api, challenge, pin):
        """('ok', reply) | ('spent', None): an earlier try whose answer was lost did it | ('again', None): start over."""
        if pin is None:
            return "again", None
        for n in range(5):
            outcome, reply = self.ask(operation, api, "POST", f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"])
            if outcome == "ok":
                return "ok", reply
            if outcome == "unknown":
                continue
            if n and reply.code == "challenge_spent":
                return "spent", None
            if n and reply.code == "pin_exhausted":
                return "again", None
            self.ledger.bad("register", f"{operation}: the right PIN of an open challenge was refused: {reply.status} {reply.body} (try {n + 1})")
            return "again", None
        return "again", None

    def sign_up(self):
        """An account that was acknowledged; (api, account id, e-mail)."""
        while True:
            api, email, phone = rest.Api(self.world), rest.new_email(), rest.new_phone()
            _, reply, _ = self.insist("sign-up", api, "POST", "/v1/accounts", {"email": email, "password": PASSWORD, "country": "US", "client": rest.CLIENT})
            challenge = reply.ok(202)["challenge"]
            state, reply = self.verify("sign-up e-mail", api, challenge, self.pin(challenge["id"], 1))
            if state != "ok":
                continue
            challenge = reply["next"]["challenge"]
            outcome, reply, before = self.insist("sign-up phone", api, "POST", f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"},
                                                 key=challenge["key"])
            if outcome == "no" and not (before and reply.code == "resend_too_soon"):
                self.ledger.bad("register", f"the phone of an acknowledged sign-up was refused: {reply.status} {reply.body}")
                continue
            self.ledger.accounts[email] = None
            state, reply = self.verify("sign-up end", api, challenge, self.pin(challenge["id"], 1))
            if state != "ok":
                continue
            api.take_tokens(reply)
            self.ledger.accounts[email] = reply["account_id"]
            self.ledger.clients[reply["account_id"]] += 1
            return api, reply["account_id"], email


class Household(Worker):
    """An account with a system, a simulated hub and cameras that come and go."""

    def __init__(self, world, ledger, seed, until_, hub, cameras):
        super().__init__(world, ledger, seed, until_)
        self.hub_device, self.free, self.mine = hub, list(cameras), {}  # mine: device id -> Device
        self.settled = threading.Event()
        self.agent, self.number, self.neighbour, self.sold = None, 0, None, 0

    def play(self):
        self.api, self.account, self.email = self.sign_up()
        self.system = self.add_system()
        self.agent = Agent(self.world, self.hub_device, f"hub/{self.tag}")
        self.hub_id = self.claim(f"/v1/systems/{self.system}/hub", self.hub_device, of_hub=True)
        if not self.hub_id:
            return
        self.settled.set()
        kinds = [self.add_system, self.rename_system, self.drop_system, self.add_camera, self.rename_camera, self.drop_camera, self.command, self.log_in, self.sell]
        while self.on:
            self.rand.choices(kinds, weights=[3, 3, 2, 4, 4, 2, 6, 1, 2])[0]()
        self.sell(last=True)
        self.command()

    # ---- systems

    def add_system(self):
        self.number += 1
        name = f"Home {self.tag} {self.number}"
        there = self.ledger.systems[self.account].setdefault(name, Register(False))
        outcome, reply, _ = self.insist("system add", self.api, "POST", "/v1/systems", {"name": name}, idempotency=new_key())  # S-S9: a lost answer comes again
        there.write(True, outcome)
        if outcome == "ok":
            return reply["id"]
        if outcome == "no":
            self.ledger.bad("set", f"a new system was refused: {reply.status} {reply.body}")
        return self.system if self.number > 1 else self.add_system()

    def systems(self):
        """Those that may be changed freely: not the one with the hub."""
        found = [s for s in self.read(self.api, "/v1/systems").ok()["systems"] if s["id"] != self.system]
        return found and self.rand.choice(found)

    def rename_system(self):
        it = self.systems()
        if not it:
            return
        self.number += 1
        name, old = f"House {self.tag} {self.number}", self.ledger.systems[self.account]
        outcome, _ = self.ask("system rename", self.api, "PATCH", f"/v1/systems/{it['id']}", {"name": name})
        old.setdefault(name, Register(False)).write(True, outcome)
        old[it["name"]].write(False, outcome)

    def drop_system(self):
        it = self.systems()
        if it:
            outcome, _ = self.ask("system delete", self.api, "DELETE", "/v1/systems/" + it["id"] + "?confirm=" + requests.utils.quote(it["name"]))
            self.ledger.systems[self.account][it["name"]].write(False, outcome)

    # ---- devices

    def watch(self, api, claim):
        """Reads a claim until it has ended: (whether it has within 45 s, the last reading). Seconds in which nobody answers are not the claim's: PostgreSQL may take its time to recover."""
        left = 45.0
        while left > 0:
            began = time.monotonic()
            self.pause.wait(0.1)
            seen = self.read(api, f"/v1/claims/{claim['id']}")
            if seen.status == 404 or seen["state"] in ("bound", "refused", "expired"):
                return True, seen
            left -= min(time.monotonic() - began, 1.0)
        return False, seen

    def claim(self, path, device, of_hub=False, api=None, agent=None, account=None):
        """Adds a device until the app sees it bound; its id."""
        api, agent, account = api or self.api, agent or self.agent, account or self.account
        owner = self.ledger.bindings.setdefault(device.serial, Register(None))
        for _ in range(8):
            outcome, reply = self.ask("claim", api, "POST", path, {"serial": device.serial})
            if outcome == "no":
                self.ledger.bad("register", f"{device.serial}, free or this account's own ({owner.value!r}, {owner.maybe!r}), was refused: {reply.status} {reply.body}")
                return None
            owner.write(account, "unknown")
            if outcome == "unknown":
                continue
            claim = reply["claim"]
            if of_hub:
                agent.claims = [claim]
            ended, seen = self.watch(api, claim)
            if not ended:
                link = self.world.asked("SELECT epoch, connected, cause, changed_at FROM device_link WHERE serial = %s", agent.device.serial)
                self.ledger.bad("total-queue", f"claim {claim['id']} of {device.serial} was acknowledged and never came to its hub: {seen.body}; the hub is "
                                f"{'connected' if agent.connected else 'away'} ({link}) and heard {agent.refusals[-5:]}")
                return None
            if seen.status == 404:
                self.ledger.bad("set", f"claim {claim['id']} was acknowledged and is gone")
                continue
            if seen["state"] == "bound":
                owner.write(account, "ok")
                self.ledger.note("bound", "ok")
                return seen["device_id"]
        return None

    def add_camera(self):
        if not self.free or len(self.mine) >= 6:
            return
        device = self.free.pop()
        id_ = self.claim(f"/v1/systems/{self.system}/cameras", device)
        if id_:
            self.mine[id_] = device
            self.ledger.names[id_] = (self.api, Register(self.read(self.api, f"/v1/devices/{id_}").body.get("name")))

    def rename_camera(self):
        if not self.mine:
            return
        id_ = self.rand.choice(sorted(self.mine))
        self.number += 1
        name = f"Camera {self.number}"
        outcome, reply = self.ask("rename", self.api, "PATCH", f"/v1/devices/{id_}", {"name": name})
        if outcome == "no":
            self.ledger.bad("set", f"camera {id_} was bound and cannot be renamed: {reply.status} {reply.body}")
        self.ledger.names[id_][1].write(name, outcome)
        if outcome == "ok":
            seen = self.read(self.api, f"/v1/devices/{id_}")
            if seen.body.get("name") != name:
                self.ledger.bad("register", f"camera {id_}: {name!r} was acknowledged, {seen.body!r} is read")

    def drop_camera(self, id_=None):
        if not self.mine:
            return None
        id_ = id_ or self.rand.choice(sorted(self.mine))
        device = self.mine.pop(id_)
        self.ledger.names.pop(id_)
        outcome, reply, before = self.insist("camera delete", self.api, "DELETE", f"/v1/devices/{id_}")
        if outcome == "no" and not (before and reply.code == "not_found"):
            self.ledger.bad("set", f"camera {id_} was bound and cannot be deleted: {reply.status} {reply.body}")
        self.ledger.bindings[device.serial].write(None, "ok")
        self.free.append(device)
        return device

    def sell(self, last=False):
        """The neighbour may not have a bound camera, and may have it as soon as its owner deleted it."""
        other = self.neighbour
        if not other or not other.settled.is_set() or self.sold >= 3 or (last and self.sold):
            return
        if not self.mine:
            self.add_camera()
        if not self.mine:
            return
        self.sold += 1
        id_ = self.rand.choice(sorted(self.mine))
        serial, path = self.mine[id_].serial, f"/v1/systems/{other.system}/cameras"
        outcome, reply = self.ask("claim of another's", other.api, "POST", path, {"serial": serial})
        if outcome == "ok" or (outcome == "no" and reply.code != "already_registered"):
            self.ledger.bad("unique", f"{serial} is bound and was given to somebody else: {reply.status} {reply.body}")
        device = self.drop_camera(id_)
        self.free.remove(device)
        sold = self.claim(path, device, api=other.api, agent=other.agent, account=other.account)
        if sold:
            self.ledger.names[sold] = (other.api, Register(self.read(other.api, f"/v1/devices/{sold}").body.get("name")))
            self.ask("read of the sold", self.api, "GET", f"/v1/devices/{sold}")

    # ---- commands, log-ins

    def command(self):
        key = new_key()
        ids = self.ledger.commands.setdefault((self.account, self.hub_id, key), (self.api, self.agent, []))[2]
        body = {"name": self.rand.choice(("refresh", "reboot")), "idempotency_key": key, "deadline_s": 7200}
        outcome, reply, _ = self.insist("command", self.api, "POST", f"/v1/devices/{self.hub_id}/commands", body)
        if outcome == "no":
            self.ledger.bad("set", f"a command to the bound hub was refused: {reply.status} {reply.body}")
            return
        ids.append(reply["command"]["id"])
        if self.rand.random() < 0.2:  # the app asks again although it was answered
            outcome, reply = self.ask("command", self.api, "POST", f"/v1/devices/{self.hub_id}/commands", body)
            if outcome == "ok":
                ids.append(reply["command"]["id"])

    def log_in(self):
        """A second phone: the right PIN twice at once makes one session at most (S-P7)."""
        outcome, reply = self.ask("log-in", rest.Api(self.world), "POST", "/v1/sessions", {"email": self.email, "password": PASSWORD, "client": dict(rest.CLIENT, name="Second")})
        if outcome != "ok":
            if outcome == "no":
                self.ledger.bad("set", f"account {self.account} was acknowledged and cannot log in: {reply.status} {reply.body}")
            return
        challenge = reply["challenge"]
        pin = self.pin(challenge["id"], 1)
        if pin is None:
            return
        both = [rest.Api(self.world), rest.Api(self.world)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda api: self.ask("log-in PIN", api, "POST", f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]), both))
        made = sum(o == "ok" for o, _ in answers)
        if made > 1:
            self.ledger.bad("unique", f"one PIN made {made} sessions in account {self.account}")
        self.ledger.clients[self.account] += made
        if not made and any(o == "unknown" for o, _ in answers):
            self.ledger.maybe_clients[self.account] += 1


class Guesser(Worker):
    """Somebody at a signed-in client who does not know the PIN: five tries, over all resends (S-P5)."""

    def __init__(self, world, ledger, seed, until_, home):
        super().__init__(world, ledger, seed, until_)
        self.home = home

    def play(self):
        if not self.home.settled.wait(60):
            return
        api = self.home.api
        _, reply, _ = self.insist("step-up", api, "POST", "/v1/step-up", {"purpose": "revoke_clients"})
        challenge, left, wrong = reply.ok(202)["challenge"], 5, 0
        sends, first = 1, self.rand.randint(1, 4)
        right = self.pin(challenge["id"], 1)
        for n in range(40):
            if n == first:
                self.world.clock.advance(91)  # a fault for everybody else
                outcome, reply, before = self.insist("resend", api, "POST", f"/v1/challenges/{challenge['id']}/resend", {}, key=challenge["key"])
                if outcome == "ok":
                    sends = reply["challenge"]["sent_count"]
                elif not (before and reply.code == "resend_too_soon"):
                    self.ledger.bad("register", f"a resend after 91 s was refused: {reply.status} {reply.body}")
                else:
                    sends = 2
                right = self.pin(challenge["id"], sends)
            guess = f"{(int(right or 0) + 1 + n) % 1000000:06d}"
            outcome, reply = self.ask("guess", api, "POST", f"/v1/challenges/{challenge['id']}/verify", {"pin": guess}, key=challenge["key"])
            if outcome == "no" and reply.code == "pin_exhausted":
                break
            if outcome == "no" and reply.code == "pin_wrong":
                wrong += 1
                if reply["attempts_left"] >= left:
                    self.ledger.bad("counter", f"attempts_left of challenge {challenge['id']} went from {left} to {reply['attempts_left']}")
                left = reply["attempts_left"]
            elif outcome != "unknown":
                self.ledger.bad("counter", f"a guess was answered {reply.status} {reply.body}")
        if wrong > 5:
            self.ledger.bad("counter", f"challenge {challenge['id']} compared {wrong} wrong PINs over {sends} sends")
        outcome, reply, _ = self.insist("right PIN too late", api, "POST", f"/v1/challenges/{challenge['id']}/verify", {"pin": right or "000000"}, key=challenge["key"])
        if outcome == "ok":
            self.ledger.bad("counter", f"challenge {challenge['id']} was exhausted and took a PIN")


class Viewer(Worker):
    """Starts and ends live views of the real household's camera."""

    def __init__(self, world, ledger, seed, until_, home):
        super().__init__(world, ledger, seed, until_)
        self.home = home

    def play(self):
        while self.on:
            outcome, reply = self.ask("live", self.home.api, "POST", f"/v1/devices/{self.home.cameras[0]}/live", {})
            if outcome == "ok":
                live_id = reply["live_id"]
                self.ledger.lives.append((self.home.api, live_id))
                end = time.monotonic() + self.rand.uniform(0.5, 3)
                while time.monotonic() < end:
                    state = self.read(self.home.api, f"/v1/live/{live_id}")
                    if state.status != 200:
                        self.ledger.bad("set", f"live session {live_id} was acknowledged and is {state.status} {state.body}")
                        return
                    if state["state"] == "ended":
                        break
                    self.pause.wait(0.2)
                if self.rand.random() < 0.5:
                    self.ask("live end", self.home.api, "DELETE", f"/v1/live/{live_id}")
            self.pause.wait(0.3)
