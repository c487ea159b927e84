"""What the clients were told, and the checkers that hold it against the system (definitions as in Jepsen: set, register, unique, total-queue).

Every operation ends in one of three ways: `ok` (acknowledged), `no` (refused: it did not and will not happen), `unknown` (no answer, or a 5xx: it may have happened)."""
import collections
import threading


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()  # (operation, outcome)
        self.faults = collections.Counter()
        self.broken = []                     # what must not be: (checker, sentence)
        self.accounts = {}                   # e-mail -> account id that was acknowledged, or None: unknown
        self.clients = collections.Counter() # account id -> sessions that were acknowledged
        self.maybe_clients = collections.Counter()
        self.systems = collections.defaultdict(dict)  # account id -> system name -> Register of "there"
        self.bindings = {}                   # serial -> Register of the owner's account id (None: free)
        self.names = {}                      # device id -> Register of its name
        self.messages = {}                   # (challenge id, ordinal) -> address
        self.commands = {}                   # (account, device, key) -> ids that were answered
        self.lives = []                      # (api, live id)

    def note(self, operation, outcome):
        with self.lock:
            self.counts[operation, outcome] += 1

    def bad(self, checker, sentence):
        with self.lock:
            self.broken.append((checker, sentence))

    def totals(self):
        out = collections.Counter()
        for (_, outcome), n in self.counts.items():
            out[outcome] += n
        return {k: out[k] for k in ("ok", "no", "unknown")}


class Register:
    """One value, written by one worker at a time. What may be read: the last acknowledged value, or any unknown write since."""

    def __init__(self, value):
        self.value, self.maybe = value, []

    def write(self, value, outcome):
        if outcome == "ok":
            self.value, self.maybe = value, []
        elif outcome == "unknown":
            self.maybe.append(value)

    def may_be(self, value):
        return value == self.value or value in self.maybe

    def sure(self, value):
        return value == self.value and not self.maybe


def check_set(name, registers, read):
    """registers: element -> Register of True/False; read: list of what is there. Nothing acknowledged is lost, nothing deleted is back, nothing twice, nothing unheard of."""
    seen = collections.Counter(read)
    for element, register in registers.items():
        if not register.may_be(seen[element] > 0):
            yield f"{name}: {element} is {'there although it was not acknowledged, or was deleted' if seen[element] else 'lost: it was acknowledged'}"
        if seen[element] > 1:
            yield f"{name}: {element} is there {seen[element]} times"
    for element in seen:
        if element not in registers:
            yield f"{name}: {element} was never written"


def check_register(name, register, read):
    if not register.may_be(read):
        yield f"{name}: reads {read!r}; {register.value!r} was acknowledged, unknown since: {register.maybe!r}"


def check_unique(name, values):
    for value, n in collections.Counter(values).items():
        if n > 1:
            yield f"{name}: {value} {n} times"


def check_queue(acknowledged, rows, arrived):
    """acknowledged: {(ref, ordinal): address}; rows: [(id, ref, status)] in order; arrived: {message id: how often}. Each acknowledged message stands in one row and
    in one state, what was handed over has arrived, what arrived has a row that says so or may still say so."""
    of_ref = collections.defaultdict(list)
    for id_, ref, status in rows:
        of_ref[ref].append(id_)
        if status not in ("queued", "leased", "sent", "done", "expired", "dead"):
            yield f"message {id_} is {status}"
        if status in ("sent", "done") and id_ not in arrived:
            yield f"message {id_} is {status}, but never arrived"
        if status == "dead":
            yield f"message {id_} is dead; no provider refused it for good"
    for (ref, ordinal), address in acknowledged.items():
        if len(of_ref[ref]) < ordinal:
            yield f"message {ordinal} of challenge {ref} to {address} was acknowledged and has no row"
    yield from check_unique("outbox row", [r[0] for r in rows])
    known = {r[0] for r in rows}
    for id_ in arrived:
        if id_ not in known:
            yield f"message {id_} arrived, but no transaction made it"
