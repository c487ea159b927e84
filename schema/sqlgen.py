#!/usr/bin/python3
"""Makes typed C functions from named SQL statements.

    sqlgen.py server/m/m.sql server/m/m.types OUTDIR     writes OUTDIR/m_sql.h and OUTDIR/m_sql.c (the build calls this; no database needed)
    sqlgen.py --update [MODULE...]                       asks a private PostgreSQL, with all migrations applied, for the types; writes m.types
    sqlgen.py --check [MODULE...]                        asks again and fails when the committed m.types says something else

A statement:

    -- name: claim_hub :one                  :one, :many MAX (rows, more is an error) or :exec (rows affected)
    -- in: serial text, system_id uuid?, now timestamptz
    -- null: nothing                         output columns that may be NULL where the catalog cannot tell (expressions, outer joins): names or `nothing`
    -- scan: why                             only where the statement may read a whole table (operators' lists): the reason
    -- One or more lines: what it does, what no row means.
    INSERT INTO ... RETURNING id, created_at;

A '?' makes a parameter nullable (PL_STR_NONE, the zero uuid and us == 0 are sent as NULL); numbers and booleans cannot be: use 0 and NULLIF.
Types: uuid text bytea jsonb timestamptz boolean smallint integer bigint "double precision". PostgreSQL itself says what a statement returns; a column of a
table is NOT NULL when the catalog says so. Mistakes are reported as file:line."""
import hashlib
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Type:
    def __init__(self, oid, c, db, member, number=False):
        self.oid, self.c, self.db, self.member, self.number = oid, c, db, member, number


# SQL name -> PostgreSQL's OID, type in C, enum db_type, member of the union in struct db_param
TYPES = {
    "boolean": Type(16, "bool", "DB_BOOL", "b", True),
    "smallint": Type(21, "int16_t", "DB_INT2", "i", True),
    "integer": Type(23, "int32_t", "DB_INT4", "i", True),
    "bigint": Type(20, "int64_t", "DB_INT8", "i", True),
    "double precision": Type(701, "double", "DB_FLOAT8", "d", True),
    "text": Type(25, "struct pl_str", "DB_TEXT", "s"),
    "bytea": Type(17, "struct pl_str", "DB_BYTEA", "s"),
    "jsonb": Type(3802, "struct pl_str", "DB_JSON", "s"),
    "uuid": Type(2950, "struct pl_uuid", "DB_UUID", "u"),
    "timestamptz": Type(1184, "struct pl_utc", "DB_TIME", "t"),
}
SHORT = {"bool": "boolean", "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint", "float8": "double precision",
         "timestamp with time zone": "timestamptz"}
BY_OID = {t.oid: name for name, t in TYPES.items()}
RESERVED = set("""auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return short
signed sizeof static struct switch typedef union unsigned void volatile while bool true false tx params ret_row ret_rows ret_n ret_found ret_count""".split())


class Mistake(Exception):
    pass


class Statement:
    def __init__(self, path, line, name, kind, most):
        self.path, self.line, self.name, self.kind, self.most = path, line, name, kind, most
        self.params = []       # (name, type, nullable)
        self.null = None       # names the author gave, None: no null: line
        self.scan = None       # why it may read a whole table
        self.doc = []
        self.sql = []          # lines
        self.columns = None    # (name, type, nullable), from .types

    def fail(self, text, line=None):
        raise Mistake(f"{self.path}:{line or self.line}: {self.name}: {text}")

    @property
    def text(self):
        return "\n".join(self.sql)

    @property
    def digest(self):
        said = [self.kind, ",".join(f"{n} {t}{'?' if q else ''}" for n, t, q in self.params), ",".join(self.null or ["-"]), self.text]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


# ---- reading .sql ----

def read_params(st, text, line):
    for part in filter(None, (p.strip() for p in text.split(","))):
        m = re.fullmatch(r"([a-z][a-z0-9_]*)\s+([a-z][a-z0-9 ]*?)(\?)?", part)
        if not m:
            st.fail(f"'{part}' is not `name type` or `name type?`", line)
        name, kind, nullable = m.group(1), SHORT.get(m.group(2), m.group(2)), bool(m.group(3))
        if kind not in TYPES:
            st.fail(f"parameter {name}: no such type '{kind}'; there are: {', '.join(TYPES)}", line)
        if nullable and TYPES[kind].number:
            st.fail(f"parameter {name}: a {kind} cannot be nullable; send 0 and write NULLIF($n, 0)", line)
        if name in RESERVED:
            st.fail(f"parameter {name}: the name is taken in C", line)
        if name in [p[0] for p in st.params]:
            st.fail(f"parameter {name} stands twice", line)
        st.params.append((name, kind, nullable))


def read_sql(path):
    statements, st, state, open_in = [], None, "between", False
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    for n, raw in enumerate(lines, 1):
        line = raw.strip()
        if state == "sql":
            if line.startswith("-- name:"):
                st.fail("the statement before this one has no ';' at its end", n)
            if not line or line.startswith("--"):
                continue
            ended = line.endswith(";")
            st.sql.append(line[:-1].rstrip() if ended else line)
            if ended:
                statements.append(st)
                st, state = None, "between"
            continue
        if line.startswith("-- name:"):
            if st:
                st.fail("has no SQL", n)
            m = re.fullmatch(r"-- name: ([a-z][a-z0-9_]*) :(one|many|exec)(?: (\d+))?", line)
            if not m or (m.group(2) == "many") != (m.group(3) is not None):
                raise Mistake(f"{path}:{n}: wants `-- name: some_name :one`, `:many MAX` or `:exec`")
            if m.group(1) in [s.name for s in statements]:
                raise Mistake(f"{path}:{n}: {m.group(1)} stands twice")
            st = Statement(path, n, m.group(1), m.group(2), int(m.group(3) or 1))
            state, open_in = "head", False
        elif state == "head" and line.startswith("--"):
            text = line[2:].strip()
            if text.startswith("in:") or open_in:
                text = text.removeprefix("in:").strip()
                read_params(st, text, n)
                open_in = text.endswith(",")
            elif text.startswith("null:"):
                names = [w.strip() for w in text[5:].split(",") if w.strip()]
                st.null = [] if names == ["nothing"] else names
            elif text.startswith("scan:"):
                st.scan = text[5:].strip() or st.fail("scan: wants a reason", n)
            elif text:
                st.doc.append(text)
        elif state == "head" and line:
            state = "sql"
            ended = line.endswith(";")
            st.sql.append(line[:-1].rstrip() if ended else line)
            if ended:
                statements.append(st)
                st, state = None, "between"
        elif line and not line.startswith("--"):
            raise Mistake(f"{path}:{n}: SQL that belongs to no `-- name:` line")
    if st:
        st.fail("the file ends before its ';'", len(lines))
    for s in statements:
        check_statement(s)
    return statements


def check_statement(st):
    if len(st.params) > 48:
        st.fail("more than 48 parameters (DB_MAX_PARAMS)")
    if not st.doc:
        st.fail("wants a comment line: what it does, what no row means")
    bare = re.sub(r"'(?:[^']|'')*'", "''", st.text)
    if ";" in re.sub(r"--[^\n]*", "", bare):
        st.fail("one statement only: there is a ';' inside")
    used = {int(d) for d in re.findall(r"\$(\d+)", bare)}
    if used != set(range(1, len(st.params) + 1)):
        st.fail(f"`in:` names {len(st.params)} parameter(s), the SQL uses {', '.join('$%d' % u for u in sorted(used)) or 'none'}")


# ---- .types ----

def types_text(module, statements):
    out = [f"# PostgreSQL's own answers about {module}.sql: schema/sqlgen.py --update {module}"]
    for st in statements:
        out.append(f"{st.name} {st.digest}")
        for name, kind, nullable in st.columns:
            out.append(f"    {name} {kind.replace(' ', '_')}{'?' if nullable else ''}")
    return "\n".join(out) + "\n"


def read_types(path, module, statements):
    known, st = {}, None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith("#") or not line.strip():
                    continue
                if line.startswith("    "):
                    name, kind = line.split()
                    known[st][1].append((name, kind.rstrip("?").replace("_", " "), kind.endswith("?")))
                else:
                    st, digest = line.split()
                    known[st] = (digest, [])
    for st in statements:
        if st.name not in known or known[st.name][0] != st.digest:
            st.fail(f"{path} does not know it as it stands now: run schema/sqlgen.py --update {module}")
        st.columns = known[st.name][1]


# ---- asking PostgreSQL ----

def oid_name(conn, oid):
    r = conn.exec_params(b"SELECT format_type($1::oid, NULL)", [str(oid).encode()])
    return r.get_value(0, 0).decode()


def is_not_null(conn, table, column):
    r = conn.exec_params(b"SELECT attnotnull FROM pg_attribute WHERE attrelid = $1::oid AND attnum = $2::int2", [str(table).encode(), str(column).encode()])
    return r.ntuples == 1 and r.get_value(0, 0) == b"t"


def server_words(st, r):
    from psycopg.pq import DiagnosticField
    text = (r.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
    hint = r.error_field(DiagnosticField.MESSAGE_HINT)
    at = r.error_field(DiagnosticField.STATEMENT_POSITION)
    line = st.line
    if at:
        # The statement's own lines, found again in the file.
        wanted = st.text[:int(at) - 1].count("\n")
        with open(st.path, encoding="utf-8") as f:
            numbered = [(n, s.strip()) for n, s in enumerate(f, 1) if n > st.line and s.strip() and not s.strip().startswith("--")]
        line = numbered[wanted][0] if wanted < len(numbered) else line
    st.fail("PostgreSQL says: " + text + (f" ({hint.decode()})" if hint else ""), line)


def ask(conn, st):
    from psycopg.pq import ExecStatus
    oids = [TYPES[t].oid for _, t, _ in st.params]
    r = conn.prepare(b"", st.text.encode(), oids)
    if r.status != ExecStatus.COMMAND_OK:
        server_words(st, r)
    r = conn.describe_prepared(b"")
    if r.status != ExecStatus.COMMAND_OK:
        server_words(st, r)
    outer = re.search(r"\b(left|right|full)\s+(outer\s+)?join\b", st.text, re.I)
    if outer and st.null is None:
        st.fail("has an outer join: write `-- null: col, col` (or `-- null: nothing`)")
    st.columns = []
    for i in range(r.nfields):
        name, oid = r.fname(i).decode(), r.ftype(i)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED or name in [c[0] for c in st.columns]:
            st.fail(f"column {i + 1} is called '{name}': give it a name of its own that C can use (AS …)")
        if oid not in BY_OID:
            st.fail(f"column {name} is of type {oid_name(conn, oid)}; cast it to one of: {', '.join(TYPES)}")
        kind, table = BY_OID[oid], r.ftable(i)
        said = st.null is not None and name in st.null
        if table:
            nullable = said or not is_not_null(conn, table, r.ftablecol(i))
        else:
            if st.null is None:
                st.fail(f"column {name} is an expression, so the catalog cannot tell whether it may be NULL: write `-- null: {name}` or `-- null: nothing`")
            nullable = said
        st.columns.append((name, kind, nullable))
    for name in st.null or []:
        if name not in [c[0] for c in st.columns]:
            st.fail(f"null: names '{name}', which is not an output column")
    if st.columns and st.kind == "exec":
        st.fail("returns columns: it is :one or :many")
    if not st.columns and st.kind != "exec":
        st.fail("returns nothing: it is :exec")


def modules_wanted(names):
    found = {}
    server = os.path.join(ROOT, "server")
    for m in sorted(os.listdir(server)):
        path = os.path.join(server, m, m + ".sql")
        if os.path.exists(path):
            found[m] = path
    for n in names:
        if n not in found:
            raise Mistake(f"there is no server/{n}/{n}.sql")
    return {m: p for m, p in found.items() if not names or m in names}


def ask_all(conninfo, names):
    """module -> statements with columns; for --update, --check and the tests."""
    from psycopg import pq
    conn = pq.PGconn.connect(conninfo.encode())
    if conn.status != pq.ConnStatus.OK:
        raise Mistake("cannot connect: " + conn.error_message.decode(errors="replace"))
    answers, mistakes = {}, []
    for m, path in modules_wanted(names).items():
        try:
            answers[m] = read_sql(os.path.relpath(path))
        except Mistake as e:
            mistakes.append(str(e))
            continue
        for st in answers[m]:
            try:
                ask(conn, st)
            except Mistake as e:
                mistakes.append(str(e))
    conn.finish()
    if mistakes:
        raise Mistake("\n".join(mistakes))
    return answers


def with_cluster(names):
    sys.path.insert(0, os.path.join(ROOT, "tests", "it"))
    import pg
    with pg.Cluster(durable=False) as c:
        try:
            pg.apply_migrations(c, os.path.join(ROOT, "migrations"))
        except RuntimeError as e:
            raise Mistake(str(e)) from None
        return ask_all(c.conninfo, names)


def update(names):
    for m, statements in with_cluster(names).items():
        path = os.path.join(ROOT, "server", m, m + ".types")
        text = types_text(m, statements)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        print(f"{os.path.relpath(path)}: {len(statements)} statements")


def differences(answers):
    wrong = []
    for m, statements in answers.items():
        path = os.path.join(ROOT, "server", m, m + ".types")
        have = open(path, encoding="utf-8").read() if os.path.exists(path) else ""
        if have != types_text(m, statements):
            wrong.append(f"{os.path.relpath(path)} is not what PostgreSQL says: run schema/sqlgen.py --update {m}")
    return wrong


def check(names):
    wrong = differences(with_cluster(names))
    if wrong:
        raise Mistake("\n".join(wrong))


# ---- writing C ----

def c_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def row_struct(m, st):
    return f"struct {m}_sql_{st.name}_row"


def prototype(m, st):
    args = ["struct db_tx *tx"] + [f"{TYPES[t].c} {n}" for n, t, _ in st.params]
    if st.kind == "one":
        args += [f"{row_struct(m, st)} *ret_row", "bool *ret_found"]
    elif st.kind == "many":
        args += [f"{row_struct(m, st)} **ret_rows", "size_t *ret_n"]
    else:
        args += ["int64_t *ret_count"]
    return f"enum pl_err {m}_sql_{st.name}({', '.join(args)})"


def header(m, statements):
    out = [f"/* Made from {m}.sql by schema/sqlgen.py. Rows and what they point to live in the transaction's arena.",
           " * :one writes *ret_row only when *ret_found (without ret_found no row is PL_NOT_FOUND); ret_count may be NULL. */", "#pragma once",
           '#include "db.h"', ""]
    for st in statements:
        out.append("/* " + "\n * ".join(line.replace("*/", "* /") for line in st.doc) + " */")
        if st.columns:
            out.append(row_struct(m, st) + " {")
            for name, kind, nullable in st.columns:
                t = TYPES[kind]
                if nullable and t.number:
                    out.append(f"    bool has_{name};")
                out.append(f"    {t.c} {name};" + (" /**< may be NULL */" if nullable else ""))
            out.append("};")
        out.append("PL_MUST " + prototype(m, st) + ";\n")
    return "\n".join(out)


def body(m, st):
    name = f"{m}_sql_{st.name}"
    out = []
    if st.columns:
        out.append(f"static const struct db_col {name}_cols[] = {{")
        for col, kind, nullable in st.columns:
            t = TYPES[kind]
            parts = [f".name = \"{col}\"", f".type = {t.db}", f".offset = offsetof({row_struct(m, st)}, {col})"]
            if nullable and t.number:
                parts.append(f".has_offset = offsetof({row_struct(m, st)}, has_{col}) + 1")
            if nullable:
                parts.append(".nullable = true")
            out.append("    { " + ", ".join(parts) + " },")
        out.append("};")
    out.append(f"static const struct db_stmt {name}_stmt = {{")
    out.append(f'    .name = "{m}_{st.name}",')
    sql = [c_string(s + (" " if i < len(st.sql) - 1 else "")) for i, s in enumerate(st.sql)]
    if any("--" in s for s in st.sql):
        sql = [c_string(s + "\n").replace("\n", "\\n") for s in st.sql]
    out.append("    .sql = " + ("\n           ").join(sql) + ",")
    if st.columns:
        out.append(f"    .cols = {name}_cols, .ncols = PL_COUNT({name}_cols), .row_size = sizeof({row_struct(m, st)}),")
    out.append("};\n")
    out.append(prototype(m, st) + "\n{")
    args = "NULL, 0"
    if st.params:
        out.append("    const struct db_param params[] = {")
        for pname, kind, nullable in st.params:
            t = TYPES[kind]
            out.append(f"        {{ .type = {t.db}, {'.nullable = true, ' if nullable else ''}.v.{t.member} = {pname} }},")
        out.append("    };")
        args = "params, PL_COUNT(params)"
    out.append("    void *rows = NULL;\n    int64_t n = 0;")
    out.append(f"    enum pl_err e = db_stmt_run(tx, &{name}_stmt, {args}, {st.most if st.columns else 0}, &rows, &n);")
    out.append("    if (e != PL_OK)\n        return e;")
    if st.kind == "one":
        out.append("    if (n == 0 && !ret_found)\n        return PL_NOT_FOUND;")
        out.append(f"    if (n == 1)\n        *ret_row = *({row_struct(m, st)} *)rows;")
        out.append("    if (ret_found)\n        *ret_found = n == 1;")
    elif st.kind == "many":
        out.append("    *ret_rows = rows;\n    *ret_n = (size_t)n;")
    else:
        out.append("    if (ret_count)\n        *ret_count = n;")
    out.append("    return PL_OK;\n}\n")
    return "\n".join(out)


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def generate(sql_path, types_path, outdir):
    m = os.path.splitext(os.path.basename(sql_path))[0]
    statements = read_sql(sql_path)
    read_types(types_path, m, statements)
    write(os.path.join(outdir, m + "_sql.h"), header(m, statements))
    top = f'/* Made from {m}.sql by schema/sqlgen.py. */\n#include "{m}_sql.h"\n\n'
    write(os.path.join(outdir, m + "_sql.c"), top + "\n".join(body(m, st) for st in statements))


def main(args):
    try:
        if args[:1] == ["--update"]:
            update(args[1:])
        elif args[:1] == ["--check"]:
            check(args[1:])
        elif len(args) == 3 and not args[0].startswith("-"):
            generate(*args)
        else:
            sys.exit(__doc__)
    except Mistake as e:
        sys.exit(str(e))


if __name__ == "__main__":
    main(sys.argv[1:])
