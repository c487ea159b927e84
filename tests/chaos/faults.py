"""The faults, drawn by the seed before the run begins: which process, how, when, for how long."""
import os
import random
import signal
import threading
import time

KINDS = ["kill porchlightd", "kill porchlight-relay", "kill porchlight-hub", "immediate postgres", "stop porchlightd", "stop porchlight-relay", "stop porchlight-hub", "stop postgres"]


def draw(seed, index, seconds):
    """[(second, kind, how long)]: one kind in turn, the others at random; processes that hold state more often."""
    rand = random.Random(f"faults/{seed}")
    kinds = [KINDS[index % len(KINDS)]] + rand.choices(KINDS, weights=[4, 2, 1, 4, 2, 1, 1, 2], k=rand.randint(2, 3))
    return sorted((rand.uniform(0.3, seconds), kind, rand.uniform(0.2, 1.2)) for kind in kinds)


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


def strike(world, home, kind, span, ended):
    how, name = kind.split()
    if kind == "kill porchlight-hub":
        home.lose_power()
        return True
    pid = home.hub.process.pid if name == "porchlight-hub" else world.pids().get(name)
    if not pid:
        return False  # it is away already
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
    for second, kind, span in plan:
        if ended.wait(max(0.0, began + second - time.monotonic())):
            return
        if strike(world, home, kind, span, ended):
            ledger.faults[kind] += 1
