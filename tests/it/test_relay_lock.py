"""The relay is locked in (relay_lock.h): what it may ask of the kernel, and that its work goes on under the lock, a cloud that moved included."""
import asyncio
import base64
import hashlib
import hmac
import json
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import zlib

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

    def __init__(self, folder, server, before=(), preload=None, extra=()):
        key = folder / "relay.key"
        key.write_text(SEED.hex() + "\n")
        key.chmod(0o600)
        args = [*before, program("porchlight-relay"), "--server", server, "--id", RELAY_ID, "--key", str(key), "--media", "127.0.0.1:0", *extra]
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


def test_packets_go_before_handshakes_V_B1(tmp_path):
    """As its unit starts it (deploy/systemd), before others in the scheduler: of its threads the one that makes handshakes steps back, under the lock."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except PermissionError:
        pytest.skip("nobody goes before others here: no CAP_SYS_NICE")
    relay = Relay(tmp_path, "ws://127.0.0.1:9/relay/v1", before=["chrt", "--fifo", "10"])

    def policies():
        found = {}
        for thread in os.listdir(f"/proc/{relay.process.pid}/task"):
            with open(f"/proc/{relay.process.pid}/task/{thread}/comm", encoding="ascii") as f:
                found[f.read().strip()] = os.sched_getscheduler(int(thread))
        return found

    try:
        until(lambda: (p := policies()).get("media") == os.SCHED_FIFO and p.get("dtls") == os.SCHED_OTHER, "the threads have their names and places")
        assert not relay.said("relay.system-call-refused")
    finally:
        assert relay.end() == 0


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


# ---- WebRTC under the lock: OpenSSL's own programs are the peer, the test is its ICE agent and carries its datagrams.

LIVE = "01890000-0000-7000-8000-000000000001"
UFRAG, PASSWORD, PEER = "abcd", "0123456789abcdefghijKL", "wxyz"
PROOF = ["-use_srtp", "SRTP_AEAD_AES_128_GCM", "-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "56"]


def b64(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def check():
    """A STUN binding request that nominates."""
    def attribute(kind, value):
        return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)

    def message(body, more):
        return struct.pack(">HHI", 1, len(body) + more, 0x2112A442) + tid + body

    tid = os.urandom(12)
    body = attribute(6, f"{UFRAG}:{PEER}".encode()) + attribute(0x24, bytes(4)) + attribute(0x802A, os.urandom(8)) + attribute(0x25, b"")
    body += attribute(8, hmac.digest(PASSWORD.encode(), message(body, 24), "sha1"))
    return message(body, 8) + attribute(0x8028, struct.pack(">I", zlib.crc32(message(body, 8)) ^ 0x5354554E))


async def cloud(first, came, socket):
    """Plays the cloud: lets the relay in, asks for a session without a source and for one viewer, keeps what is said."""
    await socket.send(json.dumps({"type": "challenge", "nonce": "bm9uY2Utbm9uY2Utbm9uY2U", "server_name": "porchlight"}))
    first.set_result(json.loads(await socket.recv()))
    await socket.send(json.dumps({"type": "welcome", "session": LIVE, "server_time": "2026-11-21T12:00:00.000Z", "reconnect": {"min_s": 1, "max_s": 2}}))
    for message in await came.get():
        await socket.send(json.dumps(message))
    async for text in socket:
        await came.put(json.loads(text))


async def carry(source, keep, target):
    """Datagrams from one socket to another, if keep(first byte)."""
    loop = asyncio.get_running_loop()
    while True:
        data = await loop.sock_recv(source, 4096)
        if keep(data[0]):
            await loop.sock_sendall(target, data)


async def said(stream, what):
    while what not in (line := (await asyncio.wait_for(stream.readline(), DEADLINE)).decode()):
        assert line, f"ended before it said {what}"
    return line


def udp(to=None):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    s.bind(("127.0.0.1", 0))
    if to:
        s.connect(("127.0.0.1", to))
    return s


@pytest.mark.parametrize("setup", ["active", "passive"])
def test_a_locked_relay_shakes_hands(tmp_path, setup):
    """Whatever OpenSSL opens, loads or asks of the kernel for a handshake, it has before the lock."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-days", "2", "-keyout", key, "-out", cert],
                   check=True, capture_output=True, timeout=60)
    der = subprocess.run(["openssl", "x509", "-in", cert, "-outform", "DER"], check=True, capture_output=True, timeout=60).stdout
    leg = {"ice": {"ufrag": UFRAG, "pwd": PASSWORD, "peer_ufrag": PEER}, "video": {"ssrc": 11, "payload_type": 96}, "audio": {"ssrc": 12, "payload_type": 111},
           "webrtc": {"fingerprint": b64(hashlib.sha256(der).digest()), "setup": setup, "suites": ["AEAD_AES_128_GCM"], "nack": True, "pli": True}}
    asked = [{"type": "session.open", "id": LIVE, "live_id": LIVE, "generation": 1, "expires_in_ms": 600000, "source": {"pending": True}},
             {"type": "viewer.add", "id": LIVE, "live_id": LIVE, "generation": 1, "viewer_id": "v", **leg}]
    openssl = ["-dtls1_2", "-cert", str(cert), "-key", str(key), *PROOF]

    async def play():
        first, came, ends = asyncio.get_running_loop().create_future(), asyncio.Queue(), []
        await came.put(asked)
        async with websockets.serve(lambda ws: cloud(first, came, ws), "127.0.0.1", 0, subprotocols=["porchlight.relay.v1"]) as server:
            port = server.sockets[0].getsockname()[1]
            relay = await asyncio.to_thread(Relay, tmp_path, f"ws://127.0.0.1:{port}/relay/v1")
            try:
                hello = await asyncio.wait_for(first, DEADLINE)
                assert len(hello["media"]["fingerprint"]) == 43
                answers = [await asyncio.wait_for(came.get(), DEADLINE) for _ in asked]
                assert [m["type"] for m in answers] == ["ok", "ok"]
                outer, pipes = udp(hello["media"]["port"]), {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
                outer.send(check())
                if setup == "active":
                    peer = await asyncio.create_subprocess_exec("openssl", "s_server", "-accept", "127.0.0.1:0", "-Verify", "1", *openssl, **pipes)
                    inner = udp(int((await said(peer.stdout, "ACCEPT")).rsplit(":", 1)[1]))
                else:
                    inner = udp()
                    peer = await asyncio.create_subprocess_exec("openssl", "s_client", "-connect", "127.0.0.1:%d" % inner.getsockname()[1], *openssl, **pipes)
                    data, where = await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(inner, 4096), DEADLINE)
                    inner.connect(where)
                    outer.send(data)
                ends += [asyncio.create_task(carry(outer, lambda b: 20 <= b < 64, inner)), asyncio.create_task(carry(inner, lambda b: True, outer))]
                await said(peer.stdout, "Keying material:")
                event = await asyncio.wait_for(came.get(), DEADLINE)
                locked = [status(f"{relay.process.pid}/task/{t}", "Seccomp") for t in os.listdir(f"/proc/{relay.process.pid}/task")]
                peer.kill()
                await peer.wait()
                return event, locked, relay.said("relay.system-call-refused")
            finally:
                for task in ends:
                    task.cancel()
                await asyncio.to_thread(relay.end)

    event, locked, refused = asyncio.run(play())
    assert (event["type"], event["event"], event["viewer_id"]) == ("session.event", "viewer_connected", "v")
    assert len(locked) >= 4 and set(locked) == {"2"} and not refused
