"""The relay is locked in (relay_lock.h): what it may ask of the kernel, and that its work goes on under the lock, a cloud that moved included."""
import asyncio
import json
import os
import queue
import re
import signal
import subprocess
import threading

import pytest
import websockets
from lib.household import Household, watch
from lib.porch import program
from lib.wait import DEADLINE, until

SEED = bytes(range(32))
RELAY_ID = "01890000-0000-7000-8000-0000000000aa"

# Loaded into the relay by the test. A signal makes the relay itself do what an intruder's code would do inside it.
INTRUDER = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static void say(const char *what, long got)
{
    char line[80];
    int n = snprintf(line, sizeof line, "{\"event\":\"intruder\",\"what\":\"%s\",\"errno\":%d}\n", what, got < 0 ? errno : 0);
    (void)!write(2, line, (size_t)n);
}
static void tries(int sig)
{
    struct stat st;
    (void)sig;
    say("read", open("/etc/passwd", O_RDONLY));
    say("create", open("/tmp/porchlight-intruder", O_RDWR | O_CREAT, 0600));
    say("stat", stat("/etc/passwd", &st));
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("tcp", socket(AF_INET, SOCK_STREAM, 0));
    say("done", 0);
}
static void executes(int sig)
{
    char *argv[] = { "/bin/true", NULL };
    (void)sig;
    execve(argv[0], argv, argv + 1);
    say("execve", -1);
}
static void forks(int sig)
{
    (void)sig;
    say("fork", syscall(SYS_fork));
}
static void writes_code(int sig)
{
    (void)sig;
    say("code", mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
}
__attribute__((constructor)) static void begin(void)
{
    signal(SIGUSR1, tries);
    signal(SIGUSR2, executes);
    signal(SIGHUP, forks);
    signal(SIGALRM, writes_code);
}
"""


class Relay:
    """A relay alone: no porchlightd behind it unless the test plays one. Its lines of stderr are kept."""

    def __init__(self, folder, server, before=(), preload=None):
        key = folder / "relay.key"
        key.write_text(SEED.hex() + "\n")
        key.chmod(0o600)
        args = [*before, program("porchlight-relay"), "--server", server, "--id", RELAY_ID, "--key", str(key), "--media", "127.0.0.1:0"]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, LD_PRELOAD=str(preload)) if preload else None)
        self.lines = []
        ready = queue.Queue()
        threading.Thread(target=lambda: [self.lines.append(t) for t in self.process.stderr], daemon=True).start()
        threading.Thread(target=lambda: [ready.put(t) for t in self.process.stdout] + [ready.put("")], daemon=True).start()
        assert json.loads(ready.get(timeout=DEADLINE) or "{}").get("ready"), self.lines

    def said(self, event):
        return [m for m in (json.loads(t) for t in list(self.lines) if t.startswith("{")) if m["event"] == event]

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(DEADLINE)


@pytest.fixture
def intruded(tmp_path):
    source, library = tmp_path / "intruder.c", tmp_path / "intruder.so"
    source.write_text(INTRUDER)
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", str(library), str(source)], check=True, timeout=60)
    relay = Relay(tmp_path, "ws://127.0.0.1:9/relay/v1", preload=library)
    yield relay
    relay.end()


def status(pid, what):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return re.search(rf"^{what}:\s+(\S+)", f.read(), re.M)[1]


def test_a_streaming_relay_is_locked_in_every_thread(porch, account, tmp_path):
    home = Household(porch, account)
    try:
        seen = watch(porch, home.live().ok(201), tmp_path, 60)
        assert seen["frames"] >= 60 and seen["decode_errors"] == 0
        relay = porch.pids()["porchlight-relay"]
        threads = os.listdir(f"/proc/{relay}/task")
        assert len(threads) >= 3
        for thread in threads:
            assert (status(f"{relay}/task/{thread}", "Seccomp"), status(f"{relay}/task/{thread}", "NoNewPrivs")) == ("2", "1")
        with open(f"/proc/{relay}/limits", encoding="ascii") as f:
            limits = {line[:26].strip(): line.split()[-3:-1] for line in f}
        assert limits["Max core file size"] == ["0", "0"] and limits["Max open files"] == ["64", "64"]
    finally:
        home.close()


def test_files_are_refused_and_nothing_breaks(intruded):
    intruded.process.send_signal(signal.SIGUSR1)
    until(lambda: any(m["what"] == "done" for m in intruded.said("intruder")), "the intruder has tried")
    got = {m["what"]: m["errno"] for m in intruded.said("intruder")}
    assert got == {"read": 13, "create": 13, "stat": 13, "unix": 13, "tcp": 0, "done": 0}  # EACCES
    assert not os.path.exists("/tmp/porchlight-intruder")
    assert intruded.process.poll() is None and intruded.end() == 0


@pytest.mark.parametrize("how", [signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM], ids=["execve", "fork", "executable memory"])
def test_a_violation_ends_the_relay_with_a_line(intruded, how):
    intruded.process.send_signal(how)
    assert intruded.process.wait(DEADLINE) == 128 + signal.SIGSYS
    refused = until(lambda: intruded.said("relay.system-call-refused"), "the line is logged")
    assert len(refused) == 1 and refused[0]["level"] == "error" and refused[0]["call"] > 0
    assert not intruded.said("intruder")


def test_a_locked_relay_finds_a_cloud_that_moved(tmp_path):
    """The name's address changes while the relay runs: it goes there, although it can read neither /etc/hosts nor anything else."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 cloud.porchlight.test\n")
    heads = [] if os.geteuid() == 0 else ["--map-root-user"]
    before = ["unshare", *heads, "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]

    async def hello(host, port):
        """Plays the cloud until one relay has said hello; returns where it listened and what was said."""
        came = asyncio.get_running_loop().create_future()

        async def serve(socket):
            await socket.send(json.dumps({"type": "challenge", "nonce": "bm9uY2Utbm9uY2Utbm9uY2U", "server_name": "porchlight"}))
            text = await socket.recv()
            if not came.done():
                came.set_result(json.loads(text))
            await socket.wait_closed()

        async with websockets.serve(serve, host, port, subprotocols=["porchlight.relay.v1"]) as server:
            yield server.sockets[0].getsockname()[1]
            yield await asyncio.wait_for(came, 3 * DEADLINE)

    async def play():
        first = hello("127.0.0.2", 0)
        port = await anext(first)
        relay = await asyncio.to_thread(Relay, tmp_path, f"ws://cloud.porchlight.test:{port}/relay/v1", before)
        try:
            said = [await anext(first)]
            second = hello("127.0.0.3", port)
            await anext(second)
            hosts.write_text("127.0.0.3 cloud.porchlight.test\n")
            await first.aclose()  # the old address answers no more
            said.append(await anext(second))
            locked = status(relay.process.pid, "Seccomp")
            await second.aclose()
            return said, locked, relay
        finally:
            await asyncio.to_thread(relay.end)

    said, locked, relay = asyncio.run(play())
    assert [m["relay_id"] for m in said] == [RELAY_ID, RELAY_ID] and said[0]["boot_id"] == said[1]["boot_id"]
    assert all(len(m["signature"]) == 86 for m in said)
    assert locked == "2" and not relay.said("relay.system-call-refused")
