"""What an operator reads: /metrics as Prometheus takes it, and porchctl, each command against the running system."""
import json
import os
import re
import shutil
import signal
import stat
import subprocess

import pytest
from lib import openapi
from lib.household import Household, Viewer, new_serial
from lib.porch import program
from lib.wait import until
from simrelay import SimRelay
from test_docs import blocks
from test_live_control import Sim

SAMPLE = re.compile(r"([a-z_][a-z0-9_]*) (-?\d+)")
STATES = ("queued", "leased", "sent", "done", "expired", "dead")


def metrics(porch):
    """Name to value. Fails on text that the Prometheus exposition format 0.0.4 does not allow."""
    reply = porch.api().call("GET", "/metrics", check=False)
    assert reply.status == 200
    text = reply.body
    assert text.endswith("\n")
    kinds, helps, values = {}, {}, {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, sentence = line.split(" ", 3)
            assert name not in helps and sentence, line
            helps[name] = sentence
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds and name in helps and name not in values and kind in ("counter", "gauge"), line
            assert (kind == "counter") == name.endswith("_total"), line
            kinds[name] = kind
        else:
            m = SAMPLE.fullmatch(line)
            assert m and m[1] in kinds and m[1] not in values, line
            assert m[1].startswith("porchlight_"), line
            values[m[1]] = int(m[2])
    assert set(values) == set(kinds) == set(helps)
    return values


@pytest.fixture(scope="module")
def home(porch):
    h = Household(porch, porch.sign_up())
    yield h
    h.close()


def test_metrics_tell_of_every_part(porch, home, tmp_path):
    live = home.live().ok(201)
    viewer = Viewer(porch, live["srtp"], tmp_path, "--seconds", 60)
    try:
        seen = until(lambda: (m := metrics(porch)).get("porchlight_live_viewers", 0) >= 1 and m.get("porchlight_relay_packets_out_total", 0) > 0
                     and m.get("porchlight_live_sessions", 0) >= 1 and m.get("porchlight_viewer_reports_total", 0) > 0 and m, "the viewer is counted")  # each in its own time
        for name in ("http_replies_2xx_total", "link_connections", "live_sessions", "relay_packets_in_total", "relays_connected", "notify_sent_total", "job_runs_total", "account_sessions_total"):
            assert seen["porchlight_" + name] >= 1, name
        assert all(seen[f"porchlight_relay_{name}_total"] >= 0 for name in ("refused_full", "too_fast", "freezes_in", "freezes_out"))
        failures = [f"handshakes_failed_{why}_total" for why in ("fingerprint", "no_profile", "alert", "timeout", "refused", "no_memory")]
        for name in ("handshakes_total", "handshakes_refused_total", *failures):  # no browser is here
            assert seen["porchlight_relay_" + name] == 0, name
        for group, parts in (("transit", ("50us", "150us", "500us", "1ms", "5ms", "longer")), ("paced", ("100us", "5ms", "10ms", "20ms", "50ms", "longer")),
                             ("stage", ("receive_us", "verify_us", "protect_us", "send_us"))):
            assert sum(seen[f"porchlight_relay_{group}_{part}_total"] for part in parts) > 0, group
        assert seen["porchlight_job_failures_total"] >= 0 and seen["porchlight_relays"] >= seen["porchlight_relays_connected"]
    finally:
        viewer.kill()
        home.api.delete(f"/v1/live/{live['live_id']}")


def test_the_outbox_loses_no_message(porch, home):
    """Conservation: what the gauges say is what the table holds, each message in exactly one state."""
    def agrees():
        with porch.db() as db:
            rows = dict(db.execute("SELECT status, count(*) FROM outbox GROUP BY status").fetchall())
        m = metrics(porch)
        return sum(rows.values()) > 0 and [m.get(f"porchlight_outbox_{s}") for s in STATES] == [rows.get(s, 0) for s in STATES] and m
    m = until(agrees, "the gauges say what the outbox holds")
    assert m["porchlight_outbox_messages"] == sum(m[f"porchlight_outbox_{s}"] for s in STATES) > 0


def test_status(porch, home):
    said = porch.ctl("status")
    assert said["database"] == "ok" and said["version"] and said["nodes"] == 1 and said["relays_connected"] == 1
    newest = max(int(name[:4]) for name in os.listdir(os.path.join(os.path.dirname(__file__), "..", "..", "migrations")))
    assert said["schema_version"] == newest
    assert said["outbox"]["total"] == sum(said["outbox"][s] for s in STATES) > 0
    plain = subprocess.run([program("porchctl"), "--dir", porch.dir, "status"], capture_output=True, text=True, timeout=60)
    assert plain.returncode == 0 and "outbox" in plain.stdout and "schema_version" in plain.stdout
    node, = (n for n in porch.ctl("nodes")["nodes"] if n["state"] != "ended")  # one that was restarted before is listed, too
    hubs = [h for h in porch.ctl("hubs")["hubs"] if h["connected"]]
    assert (node["state"], node["draining_since"], node["version"]) == ("up", None, said["version"]) and said["nodes_draining"] == 0 and {h["node_id"] for h in hubs} == {node["node_id"]}
    plain = subprocess.run([program("porchctl"), "--dir", porch.dir, "nodes"], capture_output=True, text=True, timeout=60)
    assert plain.returncode == 0 and plain.stdout.split()[:4] == ["node_id", "name", "state", "hubs"]


def test_migrate_changes_nothing_twice(porch):
    said = porch.ctl("migrate")
    assert porch.ctl("migrate") == said and porch.ctl("status")["database"] == "ok"


def test_inventory(porch, tmp_path):
    serial = new_serial("PLH1")
    path = tmp_path / "devices.jsonl"
    path.write_text(json.dumps({"serial": serial, "kind": "hub", "model": "Hub", "public_key": "ab" * 32}) + "\n")
    assert porch.ctl("inventory", "import", str(path)) == {"imported": 1, "known": 0}
    assert porch.ctl("inventory", "import", str(path)) == {"imported": 0, "known": 1}
    path.write_text(json.dumps({"serial": serial, "kind": "hub", "model": "Hub", "public_key": "cd" * 32}) + "\n")
    assert "error" in porch.ctl("inventory", "import", str(path), code=1)
    path.write_text("{}\nnot json\n")
    assert "line 2" in porch.ctl("inventory", "import", str(path), code=1)["error"]["detail"]


def test_accounts_are_masked_S_A10(porch, home):
    account = next(a for a in porch.ctl("accounts")["accounts"] if a["account_id"] == home.account.id)
    assert "@" in account["email"] and home.account.email not in json.dumps(porch.ctl("accounts")) and home.account.phone not in json.dumps(porch.ctl("accounts"))


def test_hubs_relays_and_sessions(porch, home):
    hub = next(h for h in porch.ctl("hubs")["hubs"] if h["serial"] == home.hub.serial)
    assert hub["connected"] is True
    assert [r["connected"] for r in porch.ctl("relays")["relays"]].count(True) == 1
    live = home.live().ok(201)["live_id"]
    assert next(s for s in porch.ctl("sessions")["sessions"] if s["live_id"] == live)["state"] != "ended"
    assert porch.ctl("session", "explain", live)["live_id"] == live
    home.api.delete(f"/v1/live/{live}")
    assert next(s for s in porch.ctl("sessions")["sessions"] if s["live_id"] == live)["end_code"] == "ended_by_user"


def test_relay_enroll(porch):
    first = porch.ctl("relay", "enroll", "spare", "12" * 32)
    assert porch.ctl("relay", "enroll", "spare", "12" * 32) == first
    assert "error" in porch.ctl("relay", "enroll", "spare", "34" * 32, code=1)
    assert next(r for r in porch.ctl("relays")["relays"] if r["name"] == "spare")["connected"] is False


def test_one_more_relay_as_the_document_shows_it(own_porch, tmp_path):
    """docs/operators.md, One more relay, pasted: made, enrolled, connected, and at the end revoked."""
    porch = own_porch()
    (make, run, revoke) = [t for _, language, t, _ in blocks("docs/operators.md") if language == "sh" and "porchctl relay" in t]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "porchctl").write_text(f'#!/bin/sh\nexec {program("porchctl")} --dir {porch.dir} "$@"\n')
    (tmp_path / "bin" / "porchctl").chmod(0o755)
    (tmp_path / "bin" / "porchlight-relay").symlink_to(program("porchlight-relay"))
    env = dict(os.environ, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", SERVER=f"ws://{porch.ws}/relay/v1", MEDIA="127.0.0.1:0")
    script = f"set -eu -o pipefail\ntrap 'kill $(jobs -p)' EXIT\n{make}\n{run}\necho ==\n{revoke}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("==\n")
    assert len(re.findall(r"^\S+ +\S+ +true ", before, re.M)) == 2 and re.search(r"^\S+ +relay-2 .* \d{4}-\S+Z +\d{4}-\S+Z *$", after, re.M), done.stdout
    assert stat.S_IMODE(os.stat(tmp_path / "relay.key").st_mode) == 0o600 and not os.path.exists(tmp_path / "relay.der")
    until(lambda: [r["connected"] for r in porch.ctl("relays")["relays"]].count(True) == 1, "it is cut")


def test_a_revoked_relay_is_cut_and_refused_S_D12(own_porch):
    home = Sim(own_porch())
    try:
        home.relay.answers("session.open", "viewer.add")
        live = home.live().ok(201)["live_id"]
        home.hub.expect("live.start", live_id=live)
        revoked = home.porch.ctl("relay", "revoke", home.relay.id)
        assert revoked["name"] == home.relay.name and home.porch.ctl("relay", "revoke", home.relay.id) == revoked
        assert until(lambda: home.relay.close_code, "it is cut") == 4401 and home.relay.close_reason == "unauthenticated"
        assert [m["sessions"] for m in home.relay.messages if m["type"] == "live.sync"][-1] == []  # whoever is at the other end is to run nothing any more
        until(lambda: home.api.get(f"/v1/live/{live}").ok(200).body.get("end_code") == "relay_lost", "its session has ended")
        assert home.hub.expect("live.stop", live_id=live)["code"] == "relay_lost"
        home.live().refused("no_relay")
        row, = (r for r in home.porch.ctl("relays")["relays"] if r["id"] == home.relay.id)
        assert row["revoked_at"] == revoked["revoked_at"] and until(lambda: not home.porch.ctl("relays")["relays"][0]["connected"], "it is shown as gone")
        assert "error" in home.porch.ctl("relay", "enroll", home.relay.name, bytes(home.relay.key.verify_key).hex(), code=1)
        with SimRelay(home.porch, copy_of=home.relay).dial() as again:
            again.say_hello()
            assert again.closed() == "unauthenticated"
        assert home.porch.ctl("relay", "revoke", "01a1fd7f-7000-7aaa-8bbb-0ccc0ddd0eee", code=1)["error"]["code"] == "not_found"
        log = [(r["action"], r["detail"]) for r in home.porch.ctl("admin", "log")["log"]]
        assert ("relay.revoked", {"by": "machine", "relay": home.relay.name}) in log
    finally:
        home.close()


def test_audit_verify(porch, home):
    said = porch.ctl("audit", "verify", home.account.id)
    assert said["whole"] is True and said["rows"] > 0 and said["subject"] == home.account.id


def test_ready_by_its_own_release_and_its_database(own_porch, tmp_path):
    folder = shutil.copytree(os.path.join(openapi.ROOT, "migrations"), tmp_path / "migrations")
    porch = own_porch(extra=("--migrations", str(folder)))
    (folder / "9999_of_the_next_release.sql").write_text("SELECT 1;\n")
    assert porch.api().get("/readyz").status == 200  # the next release is being installed; this node is of the one before
    postmaster = porch.pids()["postgres"]
    os.kill(postmaster, signal.SIGSTOP)  # takes no new connection; those that are there end
    try:
        with open(f"/proc/{postmaster}/task/{postmaster}/children", encoding="ascii") as f:
            for pid in map(int, f.read().split()):
                with open(f"/proc/{pid}/cmdline", encoding="utf-8") as cmd:
                    if cmd.read().startswith("postgres: porchlight"):
                        os.kill(pid, signal.SIGTERM)
        assert until(lambda: (s := porch.ctl("status"))["database"] != "ok" and s, "the database is missed")["version"]
    finally:
        os.kill(postmaster, signal.SIGCONT)
    until(lambda: porch.ctl("status")["database"] == "ok", "the database is there again")
    porch.wait_ready()
