"""The bad network itself (bench/netsim): what passes is whole, what a profile takes away is counted, the same seed takes the same. Its model is tested by bench/netsim/test_netsim.c."""
import os
import socket
import subprocess

import pytest
from lib.netsim import Lab, Netsim
from lib.wait import until


class Echo:
    """A UDP socket on loopback that a test reads and writes."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self.at = "127.0.0.1:%d" % self.socket.getsockname()[1]

    def get(self):
        return self.socket.recvfrom(4096)

    def close(self):
        self.socket.close()


@pytest.fixture
def target():
    e = Echo()
    yield e
    e.close()


@pytest.fixture
def sender():
    e = Echo()
    yield e
    e.close()


def write_profile(tmp_path, **rows):
    path = tmp_path / "profile"
    path.write_text("".join(f"{k} = {v}\n" for k, v in rows.items()), encoding="ascii")
    return str(path)


def packet(i):
    return i.to_bytes(4, "big") + bytes(range(256)) * (i % 5)


def send(sender, netsim, numbers):
    """Not faster than they pass: a socket's buffer is no part of the model."""
    before = netsim.stats()["up"]
    total = sum(before[k] for k in ("passed", "lost", "queue_full", "cut"))
    for n, i in enumerate(numbers, 1):
        sender.socket.sendto(packet(i), (netsim.host, netsim.port))
        if n % 50 == 0 or n == len(numbers):
            until(lambda n=n: sum(netsim.stats()["up"][k] for k in ("passed", "lost", "queue_full", "cut")) == total + n, "the packets were taken")


def got(target, count):
    return [int.from_bytes(target.get()[0][:4], "big") for _ in range(count)]


def test_everything_passes_whole_and_in_order_both_ways(tmp_path, sender, target):
    with Netsim(write_profile(tmp_path, delay="2ms", jitter="1ms"), to=target.at) as net:
        send(sender, net, range(500))
        for i in range(500):
            bytes_, back = target.get()
            assert bytes_ == packet(i)
        for i in range(100):
            target.socket.sendto(packet(i), back)
            assert sender.get() == (packet(i), (net.host, net.port))
        stats = net.stats()
        assert stats["up"]["passed"] == 500 and stats["down"]["passed"] == 100 and stats["refused"] == 0 and stats["peers"] == 1


def test_the_same_seed_loses_the_same_packets(tmp_path, sender, target):
    path = write_profile(tmp_path, loss_ppm=50000)
    runs = []
    for seed in (1, 1, 2):
        with Netsim(path, to=target.at, seed=seed) as net:
            send(sender, net, range(1000))
            runs.append(got(target, net.stats()["up"]["passed"]))
            assert net.stats()["up"]["lost"] == 1000 - len(runs[-1])
    assert runs[0] == runs[1] and runs[0] != runs[2]
    assert 900 <= len(runs[0]) <= 990


def test_a_cut_is_a_cut_and_heals(tmp_path, sender, target):
    with Netsim(write_profile(tmp_path), to=target.at) as net:
        send(sender, net, range(10))
        net.cut("up")
        send(sender, net, range(10, 20))
        net.heal()
        send(sender, net, range(20, 30))
        assert got(target, 20) == [*range(10), *range(20, 30)]
        assert net.stats()["up"]["cut"] == 10


def test_a_move_changes_the_address_and_loses_what_goes_to_the_old_one(tmp_path, sender, target):
    with Netsim(write_profile(tmp_path), to=target.at) as net:
        send(sender, net, [1])
        old = target.get()[1]
        net.move()
        send(sender, net, [2])
        new = target.get()[1]
        assert old != new
        target.socket.sendto(b"to the old one", old)
        target.socket.sendto(b"to the new one", new)
        assert sender.get()[0] == b"to the new one"


def test_more_senders_than_places(target):
    """Of 300 that come one after the other each is heard, and answered; a browser opens new ports for each session."""
    with Netsim("none", to=target.at) as net:
        for i in range(300):
            one = Echo()
            one.socket.sendto(packet(i), ("127.0.0.1", net.port))
            got, via = target.get()
            target.socket.sendto(got, via)
            assert got == packet(i) and one.get()[0] == packet(i)
            one.close()


def test_another_profile_while_it_runs(tmp_path, sender, target):
    with Netsim(write_profile(tmp_path), to=target.at) as net:
        net.change(write_profile(tmp_path, loss_ppm=1000000))
        send(sender, net, range(100))
        assert net.stats()["up"]["lost"] == 100


def test_a_namespace_behind_the_network(tmp_path, target):
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a network namespace")
    try:
        lab = Lab(write_profile(tmp_path, delay="1ms"))
    except subprocess.CalledProcessError as e:
        pytest.skip(f"namespaces are not permitted here: {e.stderr.strip()}")
    try:
        outside = Echo()
        outside.socket.close()
        outside.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        outside.socket.bind((lab.outer, 0))
        outside.socket.settimeout(20)
        port = outside.socket.getsockname()[1]
        say = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20); s.sendto(b'x' * 1200, ('%s', %d)); print(s.recv(2000).decode())" % (lab.outer, port)
        for moved in (False, True):
            if moved:
                lab.readdress()
            inside = subprocess.Popen(lab.command("/usr/bin/python3", "-c", say), stdout=subprocess.PIPE, text=True)
            data, who = outside.get()
            assert data == b"x" * 1200 and who[0] == lab.address
            outside.socket.sendto(b"seen", who)
            assert inside.communicate(timeout=20)[0] == "seen\n"
        segments = subprocess.Popen(lab.command("/usr/bin/python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(17, 103, 1200); "
                                                "s.sendto(b'y' * 12000, ('%s', %d))" % (lab.outer, port)))
        assert [len(outside.get()[0]) for _ in range(10)] == [1200] * 10  # what a sender bundles (UDP_SEGMENT) passes as packets
        assert segments.wait(20) == 0 and lab.netsim.stats()["refused"] == 0
        lab.netsim.cut()
        assert subprocess.run(lab.command("/usr/bin/python3", "-c", say.replace("settimeout(20)", "settimeout(0.001)")), capture_output=True).returncode != 0
        assert lab.netsim.stats()["up"]["cut"] >= 1
        outside.close()
    finally:
        lab.close()
