"""After a run: what the clients were told against what the system says."""
import collections

from ledger import check_queue, check_register, check_set, check_unique
from lib.wait import until


def found(ledger, checker, sentences):
    for sentence in sentences:
        ledger.bad(checker, sentence)


def accounts(world, ledger):
    rows = world.asked("SELECT a.email, a.account_id::text, e.account_id::text FROM account a LEFT JOIN account_email e ON e.email = a.email")
    found(ledger, "unique", check_unique("account of an e-mail", [r[0] for r in rows]))
    there = {email: (account, key) for email, account, key in rows}
    for email, account in ledger.accounts.items():
        if account and there.get(email) != (account, account):
            ledger.bad("set", f"account {account} of {email} was acknowledged; there is {there.get(email)}")
    for account, acked in ledger.clients.items():
        n = world.asked("SELECT count(*) FROM session WHERE account_id = %s", account)[0][0]
        if not acked <= n <= acked + ledger.maybe_clients[account]:
            ledger.bad("unique", f"account {account} has {n} sessions; {acked} were acknowledged, {ledger.maybe_clients[account]} are unknown")


def homes(world, ledger, people):
    owners = collections.defaultdict(list)
    for p in people:
        if not hasattr(p, "account"):
            continue
        systems = p.read(p.api, "/v1/home").ok()["systems"]
        found(ledger, "set", check_set(f"systems of {p.account}", ledger.systems[p.account], [s["name"] for s in systems]))
        for s in systems:
            for d in s["devices"] + ([s["hub"]] if s.get("hub") else []):
                owners[d["serial"]].append(p.account)
    for serial, register in ledger.bindings.items():
        found(ledger, "unique", [f"{serial} stands in {len(owners[serial])} homes"] if len(owners[serial]) > 1 else [])
        found(ledger, "register", check_register(f"owner of {serial}", register, owners[serial][0] if owners[serial] else None))
        rows = world.asked("SELECT account_id::text FROM device_binding WHERE serial = %s", serial)
        found(ledger, "register", check_register(f"binding of {serial}", register, rows[0][0] if rows else None))
    for id_, (api, register) in ledger.names.items():
        reply = people[0].read(api, f"/v1/devices/{id_}")
        found(ledger, "register", check_register(f"name of {id_}", register, reply.body.get("name")) if reply.status == 200 else [f"device {id_} was bound and is {reply.status} {reply.body}"])


def commands(world, ledger, people):
    asks = []
    for (account, device, key), (api, agent, ids) in ledger.commands.items():
        if len(set(ids)) > 1:
            ledger.bad("unique", f"idempotency key {key} made {len(set(ids))} commands")
        asks += [(account, device, api, agent, id_) for id_ in set(ids)]

    def open_ones():
        left = []
        for account, device, api, agent, id_ in asks:
            rows = world.asked("SELECT stage FROM device_command WHERE account_id = %s AND id = %s", account, id_)
            if not rows or rows[0][0] != "done":
                left.append((id_, rows and rows[0][0], agent.done.get(id_, 0)))
        return left
    try:
        until(lambda: not open_ones(), "every acknowledged command is done", 20)
    except AssertionError:
        for id_, stage, came in open_ones():
            ledger.bad("total-queue", f"command {id_} was acknowledged; it came to its hub {came} times and is {stage or 'gone'}")
    for account, device, api, agent, id_ in asks:
        ends = world.asked("SELECT count(*) FROM event WHERE account_id = %s AND type = 'command.stage' AND data->>'command_id' = %s AND data->>'stage' IN ('done', 'failed')", account, id_)[0][0]
        if ends > 1:
            ledger.bad("unique", f"command {id_} ended {ends} times")


def outbox(world, ledger):
    def rows():
        return world.asked("SELECT id::text, ref::text, status FROM outbox ORDER BY id")
    # A node that dies with a message in hand keeps it for 30 s (three time-outs of a provider); with that try and three refusals behind it, the waits are 5, 10, 20 and 40 s.
    until(lambda: not [r for r in rows() if r[2] in ("queued", "leased")], "the outbox has sent what it holds", 120)
    found(ledger, "total-queue", check_queue(ledger.messages, rows(), {**world.mail.times, **world.sms.times}))


def journals(world, ledger):
    for account in [a for a in ledger.accounts.values() if a]:
        numbers = [r[0] for r in world.asked("SELECT number FROM event WHERE account_id = %s ORDER BY number", account)]
        if numbers != list(range(1, len(numbers) + 1)):
            ledger.bad("set", f"the events of {account} have gaps or doubles: {numbers}")
    subjects = [a for a in ledger.accounts.values() if a]
    subjects += [r[0] for a in subjects[:] for r in world.asked("SELECT id::text FROM device WHERE account_id = %s", a)]
    for subject in subjects:
        if not world.ctl("audit", "verify", subject)["whole"]:
            ledger.bad("audit", f"the chain of {subject} is broken")


def lives(world, home, ledger):
    for api, live_id in ledger.lives:
        reply = api.get(f"/v1/live/{live_id}")
        if reply.status != 200:
            ledger.bad("set", f"live session {live_id} was acknowledged and is {reply.status} {reply.body}")
    try:
        until(home.shows, "a live view begins again", 40)
    except AssertionError:
        ledger.bad("recovery", f"no live view begins any more; last said: {home.said}")


def check_run(world, home, ledger, people):
    commands(world, ledger, people)
    outbox(world, ledger)
    accounts(world, ledger)
    homes(world, ledger, people)
    journals(world, ledger)
    lives(world, home, ledger)
