"""The faults, drawn by the seed before the run begins: which process, how, when, for how long.

kill: SIGKILL. stop: SIGSTOP for a while. immediate: PostgreSQL's immediate shutdown (`pg_ctl -m immediate` sends the same signal). With several nodes also, of what
connects them: cut: NATS cannot be reached by anybody; hush: one connection to it passes nothing and nobody is told; away: cut for a minute."""
import os
import random
import signal
import threading
import time

KINDS = ["kill porchlightd", "kill porchlight-relay", "kill porchlight-hub", "immediate postgres", "stop porchlightd", "stop porchlight-relay", "stop porchlight-hub", "stop postgres"]
KINDS_OF_NODES = KINDS + ["kill nats-server", "stop nats-server", "cut nats-server", "hush nats-server", "away nats-server"]
WEIGHTS = [4, 2, 1, 4, 2, 1, 1, 2]
AWAY = 60.0  # seconds


def kinds_of(nodes):
    return KINDS if nodes == 1 else KINDS_OF_NODES


def draw(seed, index, seconds, nodes=1):
    """[(second, kind, how long, which of several)]: one kind in turn, the others at random; processes that hold state more often. A minute away comes only in turn."""
    rand = random.Random(f"faults/{seed}")
    all_, some = kinds_of(nodes), [k for k in kinds_of(nodes) if not k.startswith("away")]
    weights = WEIGHTS + [2] * (len(some) - len(WEIGHTS))
    kinds = [all_[index % len(all_)]] + rand.choices(some, weights=weights, k=rand.randint(2, 3))
    plan = sorted((rand.uniform(0.3, seconds), kind, rand.uniform(0.2, 1.2)) for kind in kinds)
    which = random.Random(f"which/{seed}")
    return [(at, kind, AWAY if kind.startswith("away") else span, which.randrange(nodes)) for at, kind, span in plan]


def family(pid):
    """A process and its children: PostgreSQL is many."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [pid] + [int(c) for c in f.read().split()]
    except OSError:
        return [pid]


def send(pids, how):
    for pid in pids:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            pass


def unplug(world, how, span, which, ended):
    """What happens between the nodes and NATS, not to a process."""
    begin, end = (lambda: world.cable.hush(which), world.cable.speak) if how == "hush" else (world.cable.pull, world.cable.plug)
    begin()
    try:
        ended.wait(span)
    finally:
        end()
    return True


def strike(world, home, kind, span, which, ended):
    how, name = kind.split()
    if kind == "kill porchlight-hub":
        home.lose_power()
        return True
    if how in ("cut", "hush", "away"):
        return unplug(world, how, span, which, ended)
    pids = [home.hub.process.pid] if name == "porchlight-hub" else [pid for pid, words in world.children() if os.path.basename(words[0]) == name]
    if not pids:
        return False  # it is away already
    pid = pids[which % len(pids)]
    if how == "stop":
        pids = family(pid) if name == "postgres" else [pid]
        try:
            send(pids, signal.SIGSTOP)
            ended.wait(span)
        finally:
            send(pids, signal.SIGCONT)
    else:
        send([pid], signal.SIGKILL if how == "kill" else signal.SIGQUIT)
    return True


def inflict(world, home, plan, ledger, ended):
    began = time.monotonic()
    long = []
    for second, kind, span, which in plan:
        if ended.wait(max(0.0, began + second - time.monotonic())):
            break
        if kind.startswith("away"):  # the others strike meanwhile
            long.append(threading.Thread(target=strike, args=(world, home, kind, span, which, ended), daemon=True))
            long[-1].start()
            ledger.faults[kind] += 1
        elif not (long and kind.split()[0] in ("cut", "hush")) and strike(world, home, kind, span, which, ended):
            ledger.faults[kind] += 1
    for t in long:
        t.join()
