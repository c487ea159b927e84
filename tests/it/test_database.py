"""porchlightd and its database: what it refuses to start on, and that its own migrator makes the schema of schema/schema.sql."""
import json
import os
import subprocess

import pg
import pytest

from test_schema import dump

DAEMON = os.path.join(os.environ.get("PORCH_BUILD", os.path.join(pg.ROOT, "build-test")), "server", "porchlightd")
MIGRATIONS = os.path.join(pg.ROOT, "migrations")


def porchlightd(conninfo, folder, *args, migrations=MIGRATIONS):
    return subprocess.run([DAEMON, "--db", conninfo, "--migrations", str(migrations), "--data", str(folder), "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0",
                           "--admin", f"unix:{folder}/admin.sock", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


@pytest.fixture(scope="module")
def durable():
    with pg.Cluster() as c:
        yield c


@pytest.fixture
def empty(durable, request):
    name = f"db_{abs(hash(request.node.name)) % 10**9}"
    yield durable.create_database(name)
    durable.psql(f'DROP DATABASE "{name}" WITH (FORCE)', dbname="postgres", user="postgres")


def test_migrate_makes_the_schema_of_schema_sql_and_is_idempotent(empty, tmp_path):
    files = len(pg.migration_files(MIGRATIONS))
    for applied in (files, 0):
        done = porchlightd(empty, tmp_path, "--migrate")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"migrations_applied": applied}
    with open(dump.TARGET, encoding="utf-8") as f:
        assert f.read() == dump.dump(empty)


def test_start_is_refused_on_a_schema_that_is_not_the_programs(empty, tmp_path):
    done = porchlightd(empty, tmp_path)
    assert done.returncode == 1 and b"porchctl migrate" in done.stderr
    assert porchlightd(empty, tmp_path, "--migrate").returncode == 0
    older = tmp_path / "older"
    older.mkdir()
    for path in pg.migration_files(MIGRATIONS)[:-1]:
        (older / os.path.basename(path)).symlink_to(path)
    done = porchlightd(empty, tmp_path, migrations=older)
    assert done.returncode == 1 and b"newer release" in done.stderr


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_nothing_lost_a_database_that_may_forget_is_refused(setting, tmp_path):
    with pg.Cluster(settings={setting: "off"}) as c:
        assert porchlightd(c.conninfo, tmp_path, "--migrate").returncode == 0
        done = porchlightd(c.conninfo, tmp_path)
        assert done.returncode == 1
        assert f"setting {setting} is off".encode() in done.stderr
