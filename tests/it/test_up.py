"""`porchctl up` as a contract: one ready line, sentences for what is wrong, everything kept running, a clean end."""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess

import pytest
import requests
from lib.porch import program
from lib.wait import until


UP = ["up", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--media", "127.0.0.1:0"]


def refused(*args, **how):
    """Runs `porchctl … up …`, which must end by itself with 1; returns what it said."""
    done = subprocess.run([program("porchctl"), *args], capture_output=True, text=True, timeout=60, **how)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stdout == ""
    return done.stderr


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_ready_line_names_what_listens(porch):
    assert porch.ready["admin"].startswith("unix:")
    for name in ("http", "ws"):
        host, port = porch.ready[name].rsplit(":", 1)
        socket.create_connection((host, int(port)), 5).close()
    assert int(porch.ready["media"].rsplit(":", 1)[1]) > 0
    assert set(porch.pids()) == {"postgres", "porchlightd", "porchlight-relay"}


def test_cluster_is_private(porch):
    """Unix socket only; the daemons' role is not the superuser; durable."""
    with porch.db() as db:
        assert db.execute("SHOW listen_addresses").fetchone()[0] == ""
        assert db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()[0] is False
        assert [db.execute(f"SHOW {s}").fetchone()[0] for s in ("fsync", "full_page_writes", "synchronous_commit")] == ["on", "on", "on"]
    if os.geteuid() == 0:
        assert os.stat(os.path.join(porch.dir, "pg")).st_uid != 0
    for name, mode in (("pg", 0o700), ("keys", 0o700), ("master.key", 0o600), ("admin.sock", 0o600)):
        assert os.stat(os.path.join(porch.dir, name)).st_mode & 0o777 == mode, name


def test_second_up_in_the_same_folder_is_refused(porch):
    said = refused("--dir", porch.dir, "up", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--media", "127.0.0.1:0")
    assert "already" in said and str(porch.process.pid) in said


@pytest.mark.parametrize("option, kind", [("--http", socket.SOCK_STREAM), ("--ws", socket.SOCK_STREAM), ("--media", socket.SOCK_DGRAM)])
def test_port_in_use_is_said_in_a_sentence(tmp_path, option, kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        addresses = {"--http": "127.0.0.1:0", "--ws": "127.0.0.1:0", "--media": "127.0.0.1:0", option: f"127.0.0.1:{port}"}
        said = refused("--dir", str(tmp_path / "d"), "up", *[w for pair in addresses.items() for w in pair])
    assert f"Port {port}" in said and "in use" in said


def test_wrong_addresses_are_said_in_a_sentence(tmp_path):
    assert "--http" in refused("--dir", str(tmp_path / "d"), "up", "--http", "localhost")
    assert "--advertise" in refused("--dir", str(tmp_path / "d"), "up", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--media", "0.0.0.0:0")
    for nodes in ("0", "7", "two"):
        assert "--nodes" in refused("--dir", str(tmp_path / "d"), "up", "--nodes", nodes)
    assert "--advertise" in refused("--dir", str(tmp_path / "d"), "up", "--nodes", "2", "--advertise", "192.0.2.1:50000")


def test_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "d", tmp_path / "file"):
        said = refused("--dir", str(folder), "up")
        assert f"{tmp_path / 'file'} is a file" in said and "--dir" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_folder_of_another_user_is_said(porch, tmp_path):
    """Not "does not run": it does, but somebody else may not talk to it."""
    for words in (["status"], ["outbox"], ["demo", "watch"]):
        assert "another user" in refused("--dir", porch.dir, *words, user="nobody")
    said = refused("--dir", str(tmp_path / "d"), *UP, user="nobody")
    assert "cannot be made" in said and "--dir" in said


def test_where_nothing_runs_is_said(tmp_path):
    for words in (["status"], ["outbox"], ["demo", "watch"]):
        said = refused("--dir", str(tmp_path / "d"), *words)
        assert "does not run" in said and "porchctl up" in said and "--dir" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_full_disk_is_said_in_a_sentence(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(small)], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        assert "nearly full" in refused("--dir", str(small / "d"), "up", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--media", "127.0.0.1:0")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_missing_postgresql_is_said_in_a_sentence(tmp_path):
    said = refused("--dir", str(tmp_path / "d"), "up", env=dict(os.environ, PORCHLIGHT_PG_BIN="/nonexistent"))
    assert "postgresql-15" in said


def test_what_dies_is_started_again_with_the_same_addresses(own_porch):
    porch = own_porch()
    before = (porch.http, porch.ws, porch.media)
    for name in ("porchlight-relay", "porchlightd", "postgres"):
        porch.kill(name)
        porch.wait_ready()
    # The relay is back too, and connected, at the address that was told.
    until(lambda: [r for r in porch.ctl("relays")["relays"] if r["connected"]], "the relay is connected again")
    relay = porch.ctl("relays")["relays"][0]
    assert f"{relay['media_host']}:{relay['media_port']}" == before[2]
    host, port = before[1].rsplit(":", 1)
    socket.create_connection((host, int(port)), 5).close()
    assert porch.stop() == 0


def test_ends_cleanly_and_keeps_data(own_porch):
    porch = own_porch()
    account = porch.sign_up()
    pids = list(porch.pids().values())
    assert porch.stop() == 0
    assert not [p for p in pids if alive(p)]
    assert not os.path.exists(os.path.join(porch.dir, "pg", "postmaster.pid"))
    assert not os.path.exists(os.path.join(porch.dir, "up.json"))
    porch.start()
    assert account.api.get("/v1/account").ok(200)["email"] == account.email


def test_ctrl_c_while_it_starts(tmp_path):
    """Said as what it is; the next start begins anew and is whole."""
    args = [program("porchctl"), "--dir", str(tmp_path / "d"), *UP]
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: os.path.exists(tmp_path / "d" / "pg.new") or process.poll() is not None, "the cluster is being made")
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 1 and out == "" and "Stopped before it was ready" in said, said
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert json.loads(process.stdout.readline())["ready"] is True
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_children_die_with_porchctl(own_porch):
    porch = own_porch()
    pids = list(porch.pids().values())
    porch.process.send_signal(signal.SIGKILL)
    porch.process.wait()
    until(lambda: not [p for p in pids if alive(p)], "all children have ended")
    porch.start()  # the lock died with it, and the cluster recovers
    assert porch.stop() == 0


def test_folder_that_the_database_user_cannot_walk_to(own_porch, tmp_path):
    """Long and private: the socket's name would not fit into an address, and nobody but root may look into the folders above."""
    os.chmod(tmp_path, 0o700)
    long = "x" * 90
    porch = own_porch(name=long)
    assert len(porch.dir) > 100
    assert porch.api().get("/readyz").status == 200
    assert porch.ctl("status")["version"]
    assert porch.stop() == 0


def test_subcommands_speak_json(porch, account):
    assert porch.ctl("status")["version"]
    assert any(r["connected"] for r in porch.ctl("relays")["relays"])
    assert porch.ctl("accounts")["accounts"]
    assert porch.ctl("hubs")["hubs"] == porch.ctl("hubs")["hubs"]
    assert isinstance(porch.ctl("sessions")["sessions"], list)
    assert porch.ctl("audit", "verify", account.id)["whole"] is True
    for words in (["status"], ["relays"], ["outbox"], ["accounts"], ["hubs"], ["sessions"], ["audit", "verify", account.id]):
        done = subprocess.run([program("porchctl"), "--dir", porch.dir, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), (words, done.stderr)


def test_command_line_mistakes(porch):
    for words in (["nope"], ["demo"], ["session", "nope"], ["help", "nope"], ["up", "--out", "x"], ["up", "--nope"], ["inventory", "import"], ["session", "explain"], ["up", "--http"]):
        done = subprocess.run([program("porchctl"), "--dir", porch.dir, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 64 and done.stderr.count("\n") == 1, (words, done.returncode, done.stderr)


def test_help_and_version():
    def said(*words):
        done = subprocess.run([program("porchctl"), *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "", (words, done.returncode, done.stderr)
        return done.stdout
    assert said() == said("--help") == said("help") and "demo watch" in said()
    assert said("help", "up") == said("up", "--help") and "--sms-webhook" in said("help", "up")
    assert said("--version").startswith("porchctl ")


def test_objects_are_shown_as_a_person_reads_them(porch):
    done = subprocess.run([program("porchctl"), "--dir", porch.dir, "status"], capture_output=True, text=True, timeout=60)
    assert f"version: {porch.ctl('status')['version']}" in done.stdout.splitlines(), done.stdout


def test_console_shows_new_pins_on_a_terminal(tmp_path):
    """One line a PIN. Into a file they are never shown: test_without_transports_messages_stay_in_the_outbox (S-P10)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([program("porchctl"), "--dir", str(tmp_path / "d"), *UP], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    try:
        http = json.loads(process.stdout.readline())["http"]
        body = {"email": "eve@home.example", "password": "a quiet porch at night", "country": "US"}
        assert requests.post(f"http://{http}/v1/accounts", json=body, timeout=30).status_code == 202
        shown = ""
        while "eve@home.example" not in shown:
            assert select.select([ours], [], [], 30)[0], shown
            shown += os.read(ours, 4096).decode()
        assert re.search(r"^PIN [0-9]{6} by email to eve@home\.example\r?$", shown, re.M), shown
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        os.close(ours)


def test_inventory_import(porch, tmp_path):
    lines = [json.dumps({"serial": f"IMPORT{i:06d}", "kind": "wireless", "model": "Test", "public_key": f"{i + 1:064x}"}) for i in range(1203)]
    file = tmp_path / "inventory.jsonl"
    file.write_text("\n".join(lines) + "\n")
    assert porch.ctl("inventory", "import", str(file)) == {"imported": 1203, "known": 0}
    assert porch.ctl("inventory", "import", str(file)) == {"imported": 0, "known": 1203}
    file.write_text(lines[0] + "\n{not json\n")
    assert "error" in porch.ctl("inventory", "import", str(file), code=1)
    # The same serial with another key is refused: a maker's key never changes.
    file.write_text(json.dumps(dict(json.loads(lines[0]), public_key="f" * 64)) + "\n")
    assert "error" in porch.ctl("inventory", "import", str(file), code=1)


def test_without_transports_messages_stay_in_the_outbox(own_porch):
    """S-P10: shown to the operator, never in a log."""
    porch = own_porch(transports=False)
    api = porch.api()
    email = "outbox@home.example"
    challenge = api.post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US"}).ok(202)["challenge"]
    message = until(lambda: next((m for m in porch.ctl("outbox")["messages"] if m["to"] == email), None), "the message is in the outbox")
    assert api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": message["pin"]}, key=challenge["key"]).ok(200)["next"]
    porch.stop()
    assert message["pin"] not in porch.logs(most=1 << 30) + "".join(porch.console)
