"""The schema and the SQL: schema.sql is what the migrations make; the committed types are what PostgreSQL says; no statement reads a whole account table;
only SQL that every PostgreSQL-like database of the plan speaks; account_id first in the keys of account data."""
import importlib.machinery
import importlib.util
import json
import os
import re

import pg
import pytest
from psycopg import pq


def load(path, name):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(pg.ROOT, path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


sqlgen = load("schema/sqlgen.py", "sqlgen")
dump = load("schema/dump", "dump")
MIGRATIONS = os.path.join(pg.ROOT, "migrations")

# Read whole by whoever likes to: a handful of rows each.
SMALL = {"migration", "migration_lease", "node", "relay"}

# Tables that know an account and whose primary key does not begin with it, and why.
FOUND_OTHERWISE = {
    "account_email": "a small key table: one account an address",
    "account_phone": "a small key table: one account a number",
    "challenge": "who signs up has no account yet; the client knows only the challenge's id",
    "password_reset": "who opens the link tells only its token",
    "outbox": "a queue of the service; mail to people who have no account yet",
    "voice_call": "the provider of calls knows only the message's id",
    "session_token": "a request tells only its token",
    "delegation_token": "a request tells only its token",
    "oauth_code": "a service tells only the code",
    "oauth_refresh": "a service tells only its token",
    "outside_subject": "a small key table: one account an outside account",
    "outside_flow": "who comes back from a provider tells only the state",
    "device_binding": "a small key table: one binding a serial",
    "device_claim": "the device knows only the claim's id",
    "passkey_credential": "who signs in with a passkey tells only which it is",
    "fact": "a queue of the service, taken oldest first",
    "live_place": "the way from a relay or hub, which knows only the live id, to the account",
}


@pytest.fixture(scope="module")
def cluster():
    with pg.Cluster(durable=False) as c:
        pg.apply_migrations(c, MIGRATIONS)
        yield c


@pytest.fixture(scope="module")
def statements(cluster):
    return [(m, st) for m, sts in sqlgen.ask_all(cluster.conninfo, []).items() for st in sts]


def test_schema_sql_is_what_the_migrations_make(cluster):
    with open(dump.TARGET, encoding="utf-8") as f:
        assert f.read() == dump.dump(cluster.conninfo), "run schema/dump --update"


def test_schema_sql_makes_the_same_schema_when_loaded(cluster):
    conninfo = cluster.create_database("from_file")
    with open(dump.TARGET, encoding="utf-8") as f:
        cluster.psql(f.read(), dbname="from_file")
    with open(dump.TARGET, encoding="utf-8") as f:
        assert f.read() == dump.dump(conninfo)


def test_committed_types_are_what_postgresql_says(cluster):
    assert sqlgen.differences(sqlgen.ask_all(cluster.conninfo, [])) == []


# ---- plans ----

def plans_of(node, parent=None):
    yield node, parent
    for inner in node.get("Plans", []):
        yield from plans_of(inner, node)


def generic_plan(conn, st):
    """The plan for parameters that are not known, with scans of whole tables as the last resort: one that stands has no index to use."""
    # (The tables are empty here: joins that would read a whole index because it looks small are switched off as well.)
    oids = [sqlgen.TYPES[t].oid for _, t, _ in st.params]
    r = conn.prepare(b"plan_me", st.text.encode(), oids)
    assert r.status == pq.ExecStatus.COMMAND_OK, r.error_message
    args = "(" + ", ".join(["NULL"] * len(oids)) + ")" if oids else ""
    r = conn.exec_(f"EXPLAIN (FORMAT JSON) EXECUTE plan_me{args}".encode())
    assert r.status == pq.ExecStatus.TUPLES_OK, r.error_message
    plan = json.loads(r.get_value(0, 0))[0]["Plan"]
    conn.exec_(b"DEALLOCATE plan_me")
    return plan


def first_columns(conn):
    """index -> (its first column, is it partial)"""
    r = conn.exec_(b"SELECT c.relname, pg_get_indexdef(i.indexrelid, 1, true), i.indpred IS NOT NULL FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid")
    return {r.get_value(i, 0).decode(): (r.get_value(i, 1).decode(), r.get_value(i, 2) == b"t") for i in range(r.ntuples)}


def whole_table(node, parent, indexes):
    """Why this node reads a whole table or index, or None."""
    kind = node["Node Type"]
    if kind == "Seq Scan":
        return None if node["Relation Name"] in SMALL else f"Seq Scan on {node['Relation Name']}"
    if parent and parent["Node Type"] == "Limit" and "Filter" not in node:
        return None  # in the index's order, and no further than the limit
    if kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        column, partial = indexes[node["Index Name"]]
        # A partial index holds only the rows that are meant (open facts, running sessions). Any other is read whole when its first column is not asked for.
        if not partial and not re.search(rf"\b{column}\b", node.get("Index Cond", "")) and node.get("Relation Name") not in SMALL:
            return f"{kind} of all of {node['Index Name']}"
    return None


@pytest.fixture(scope="module")
def planner(cluster):
    """statement -> the ways in which it reads a whole table"""
    conn = pq.PGconn.connect(cluster.conninfo.encode())
    for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_hashjoin = off", "enable_mergejoin = off"):
        assert conn.exec_(f"SET {setting}".encode()).status == pq.ExecStatus.COMMAND_OK
    indexes = first_columns(conn)
    yield lambda st: [w for w in (whole_table(n, up, indexes) for n, up in plans_of(generic_plan(conn, st))) if w]
    conn.finish()


def test_no_statement_reads_a_whole_table(statements, planner):
    wrong = []
    for m, st in statements:
        if not re.match(r"(select|insert|update|delete|with)\b", st.text, re.I):
            continue
        why = planner(st)
        if why and not st.scan:
            wrong.append(f"{st.path}:{st.line}: {m}.{st.name}: {', '.join(why)}: wants an index, or `-- scan: why`")
        if st.scan and not why:
            wrong.append(f"{st.path}:{st.line}: {m}.{st.name} says scan: and has no need to")
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.parametrize("sql, says", [
    ("SELECT number FROM event WHERE account_id = $1 AND type = 'x'", []),
    ("SELECT number FROM event WHERE data = '{}' AND account_id <> $1", ["Seq Scan on event"]),
    ("SELECT number FROM event WHERE number = 7 AND account_id <> $1", ["Bitmap Index Scan of all of event_pkey"]),
    ("SELECT account_id, number FROM event ORDER BY account_id, number LIMIT 10", []),
    ("SELECT account_id, number FROM event WHERE type = 'x' ORDER BY account_id, number LIMIT 10", ["Index Scan of all of event_pkey"]),
    ("DELETE FROM fact WHERE account_id = $1", ["Seq Scan on fact"]),
    ("SELECT name FROM node WHERE node_id <> $1", []),
])
def test_the_planner_sees_what_reads_a_whole_table(planner, tmp_path, sql, says):
    path = tmp_path / "m.sql"
    params = "-- in: x uuid\n" if "$1" in sql else ""
    path.write_text(f"-- name: a :exec\n{params}-- doc\n{sql};")
    st, = sqlgen.read_sql(str(path))
    assert planner(st) == says


# ---- portable SQL ----

NOT_PORTABLE = [
    (r"\bCREATE\s+(CONSTRAINT\s+)?TRIGGER\b", "triggers"),
    (r"\bCREATE\s+SEQUENCE\b|\bnextval\b|\b(small|big)serial\b|\bGENERATED\b.*\bIDENTITY\b", "sequences"),
    (r"\bAS\s+ENUM\b", "enum types"),
    (r"^\s*(LISTEN|NOTIFY|UNLISTEN)\b|\bpg_notify\b", "LISTEN/NOTIFY"),
    (r"\bpg_(try_)?advisory", "advisory locks"),
    (r"\bDEFERRABLE\b|\bINITIALLY\s+DEFERRED\b", "deferrable constraints"),
    (r"\bCREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE|RULE)\b", "code in the database"),
    (r"\bnow\s*\(|\bcurrent_(timestamp|time|date)\b|\b(clock|statement|transaction)_timestamp\b|\blocaltime", "the database's clock: `now` is a parameter"),
    (r"\bgen_random_uuid\b|\buuid_generate|\brandom\s*\(", "randomness of the database: keys are made in C"),
    (r"\bREFERENCES\b", "foreign keys across shards"),
    (r"\bWITHOUT\s+TIME\s+ZONE\b|\btimestamp\b(?!tz)(?!\s+with\s+time)", "times without a zone"),
    (r"\bUNLOGGED\b|\bINHERITS\b|\bTABLESPACE\b", "storage tricks"),
]


def sql_files():
    server = os.path.join(pg.ROOT, "server")
    own = [os.path.join(server, m, m + ".sql") for m in sorted(os.listdir(server))]
    return pg.migration_files(MIGRATIONS) + [p for p in own if os.path.exists(p)]


def found_in(text):
    """(line, what) for what is not portable, comments and string constants left out."""
    for n, line in enumerate(text.split("\n"), 1):
        bare = re.sub(r"'(?:[^']|'')*'", "''", line)
        bare = re.sub(r"--.*", "", bare)
        for pattern, what in NOT_PORTABLE:
            if re.search(pattern, bare, re.I):
                yield n, what


def test_only_portable_sql():
    wrong = []
    for path in sql_files():
        with open(path, encoding="utf-8") as f:
            wrong += [f"{os.path.relpath(path, pg.ROOT)}:{n}: {what}" for n, what in found_in(f.read())]
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.parametrize("bad", [
    "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f();", "CREATE TABLE a (id bigserial)", "CREATE TYPE k AS ENUM ('a')", "LISTEN x",
    "SELECT pg_advisory_lock($1)",
    "a integer UNIQUE DEFERRABLE INITIALLY DEFERRED", "UPDATE a SET at = now()", "at timestamptz DEFAULT CURRENT_TIMESTAMP",
    "id uuid DEFAULT gen_random_uuid()",
    "id bigint GENERATED ALWAYS AS IDENTITY", "at timestamp NOT NULL", "a uuid REFERENCES b (id)",
])
def test_the_lint_sees_what_is_not_portable(bad):
    assert list(found_in(bad))


@pytest.mark.parametrize("good", [
    "-- now() is a parameter", "SELECT 'LISTEN to now()'", "at timestamptz NOT NULL", "at timestamp with time zone", "now timestamptz", "serial text",
])
def test_the_lint_leaves_good_sql_alone(good):
    assert list(found_in(good)) == []


def test_catalog_has_nothing_that_is_not_portable(cluster):
    """What the text hides (serial, for one) the catalog shows."""
    assert cluster.psql("SELECT relname FROM pg_class WHERE relkind = 'S'") == ""
    assert cluster.psql("SELECT tgname FROM pg_trigger") == ""
    assert cluster.psql("SELECT conname FROM pg_constraint WHERE condeferrable") == ""
    assert cluster.psql("SELECT typname FROM pg_type WHERE typtype = 'e'") == ""
    assert cluster.psql("SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'") == ""


def test_account_id_comes_first_in_the_keys_of_account_data(cluster):
    rows = cluster.psql("""
        SELECT c.relname, pg_get_indexdef(i.indexrelid, 1, true) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary WHERE c.relkind = 'r' ORDER BY 1""")
    keys = dict(line.split("|") for line in rows.split("\n"))
    wrong = {t: k for t, k in keys.items() if k != "account_id" and t not in FOUND_OTHERWISE}
    assert wrong == {}, "account data whose key does not begin with account_id; if it has to be so, FOUND_OTHERWISE says why"
    assert {t for t in FOUND_OTHERWISE if keys.get(t) == "account_id"} == set(), "FOUND_OTHERWISE names a table that needs no excuse"


def test_every_table_has_a_primary_key(cluster):
    assert cluster.psql("""SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                           AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)""") == ""


def test_s_s11_the_audit_table_is_insert_only(cluster):
    """Granted to the daemons' own role: SELECT and INSERT, nothing that changes or removes a row."""
    can = cluster.psql("""SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM information_schema.table_privileges
                          WHERE table_name = 'audit' AND grantee = 'porchlight'""").split()
    assert set(can) >= {"INSERT", "SELECT"} and not set(can) & {"UPDATE", "DELETE", "TRUNCATE"}


# ---- the generator's complaints ----

@pytest.mark.parametrize("text, says", [
    ("SELECT 1 AS one;", ":1: SQL that belongs to no"),
    ("-- name: a one\n-- doc\nSELECT 1 AS one;", ":1: wants `-- name:"),
    ("-- name: a :many\n-- doc\nSELECT 1 AS one;", ":1: wants `-- name:"),
    ("-- name: a :one\nSELECT 1 AS one;", ":1: a: wants a comment line"),
    ("-- name: a :one\n-- in: x text\n-- doc\nSELECT 1 AS one;", "names 1 parameter(s), the SQL uses none"),
    ("-- name: a :one\n-- doc\nSELECT $2::text AS one;", "names 0 parameter(s), the SQL uses $2"),
    ("-- name: a :one\n-- in: x money\n-- doc\nSELECT $1 AS one;", ":2: a: parameter x: no such type 'money'"),
    ("-- name: a :one\n-- in: x integer?\n-- doc\nSELECT $1 AS one;", ":2: a: parameter x: a integer cannot be nullable"),
    ("-- name: a :one\n-- in: int text\n-- doc\nSELECT $1 AS one;", ":2: a: parameter int: the name is taken"),
    ("-- name: a :one\n-- doc\nSELECT 1 AS one", "the file ends before its ';'"),
    ("-- name: a :one\n-- doc\nSELECT 1 AS one\n-- name: b :one\n-- doc\nSELECT 1 AS one;", ":4: a: the statement before this one has no ';'"),
    ("-- name: a :one\n-- doc\nSELECT 1 AS one; SELECT 2 AS two;", "one statement only"),
])
def test_sqlgen_names_the_mistake_and_its_line(tmp_path, text, says):
    path = tmp_path / "m.sql"
    path.write_text(text)
    with pytest.raises(sqlgen.Mistake) as e:
        sqlgen.read_sql(str(path))
    assert says in str(e.value)


@pytest.mark.parametrize("text, says", [
    ("-- name: a :one\n-- doc\nSELECT\n  wrong\nFROM migration;", ":4: a: PostgreSQL says: column \"wrong\" does not exist"),
    ("-- name: a :one\n-- doc\nSELECT max(version) AS v FROM migration;", "column v is an expression"),
    ("-- name: a :one\n-- null: nothing\n-- doc\nSELECT sum(version::bigint) AS v FROM migration;", "column v is of type numeric"),
    ("-- name: a :one\n-- doc\nSELECT n.name FROM migration m LEFT JOIN node n ON n.name = m.name;", "has an outer join"),
    ("-- name: a :one\n-- doc\nDELETE FROM migration;", "returns nothing: it is :exec"),
    ("-- name: a :exec\n-- doc\nSELECT version FROM migration;", "returns columns: it is :one or :many"),
    ("-- name: a :one\n-- null: x\n-- doc\nSELECT version FROM migration;", "null: names 'x'"),
    ("-- name: a :one\n-- in: x uuid\n-- doc\nSELECT version FROM migration WHERE name = $1;", "PostgreSQL says: operator does not exist"),
    ("-- name: a :one\n-- doc\nSELECT version, version FROM migration;", "column 2 is called 'version'"),
])
def test_sqlgen_hands_on_what_postgresql_says(cluster, tmp_path, text, says):
    path = tmp_path / "m.sql"
    path.write_text(text)
    conn = pq.PGconn.connect(cluster.conninfo.encode())
    with pytest.raises(sqlgen.Mistake) as e:
        for st in sqlgen.read_sql(str(path)):
            sqlgen.ask(conn, st)
    conn.finish()
    assert says in str(e.value)


def test_sqlgen_reads_not_null_from_the_catalog(cluster, tmp_path):
    path = tmp_path / "m.sql"
    path.write_text("-- name: a :one\n-- null: v, mname\n-- doc\nSELECT l.holder, l.lease_id, max(m.version) AS v, count(*) AS n, max(m.name) AS mname\n"
                    "FROM migration_lease l LEFT JOIN migration m ON true GROUP BY l.lease_id;")
    conn = pq.PGconn.connect(cluster.conninfo.encode())
    st, = sqlgen.read_sql(str(path))
    sqlgen.ask(conn, st)
    conn.finish()
    assert st.columns == [("holder", "uuid", True), ("lease_id", "integer", False), ("v", "integer", True), ("n", "bigint", False), ("mname", "text", True)]


def test_sqlgen_refuses_types_that_are_older_than_the_statement(tmp_path):
    sql, types = tmp_path / "m.sql", tmp_path / "m.types"
    sql.write_text("-- name: a :exec\n-- doc\nDELETE FROM migration;\n")
    st, = sqlgen.read_sql(str(sql))
    st.columns = []
    types.write_text(sqlgen.types_text("m", [st]))
    sqlgen.generate(str(sql), str(types), str(tmp_path))
    assert "m_sql_a(struct db_tx *tx, int64_t *ret_count)" in (tmp_path / "m_sql.h").read_text()
    sql.write_text("-- name: a :exec\n-- doc\nDELETE FROM migration WHERE version = 1;\n")
    with pytest.raises(sqlgen.Mistake, match="--update m"):
        sqlgen.generate(str(sql), str(types), str(tmp_path))
