#!/usr/bin/python3
"""The house rules that a program can check. Each function marked @check is one test: it yields what is wrong, nothing when all is well.

    tests/lint/lint.py [--test-build DIR] [--release-build DIR] [NAME…]     prints `N passed, N failed`; checks of builds that are not given are left out"""
import argparse
import os
import py_compile
import re
import subprocess
import sys
import tempfile

import jsonschema
import yaml

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from source import ROOT, Source, modules, read, tracked  # noqa: E402
import contract  # noqa: E402
sys.path.insert(0, os.path.join(ROOT, "tests", "chaos"))
import plant  # noqa: E402

CHECKS = []
REPORT = []


def check(f):
    CHECKS.append(f)
    return f


# Who may include which outside library; everybody else goes through that module's door.
OUTSIDE = {
    "sodium.h": {"secure"}, "libpq-fe.h": {"db"}, "microhttpd.h": {"http", "hub"}, "libwebsockets.h": {"link"}, "uv.h": {"link"}, "jansson.h": {"json"},
    "curl/": {"notify", "ctl", "outside"}, "srtp2/": {"rtp"}, "intel-ipsec-mb.h": {"rtp"}, "openssl/": {"rtp", "ice", "dtls", "db", "journal", "ctl", "link", "factor", "outside"},
    "seccomp.h": {"relay"}, "nats/": {"bus"}, "nats.h": {"bus"},
    "fido": {"factor"}, "cbor.h": {"factor"}, "zxcvbn.h": {"account"}, "maxminddb.h": {"account"}, "phonenumbers/": {"phone"}, "re_": {"sdp"}, "libav": {"hub", "viewer"}, "libsw": {"hub", "viewer"},
}
BANNED = r"\b(sprintf|vsprintf|strcpy|strcat|strncpy|strncat|stpcpy|gets|atoi|atol|atoll|atof|strtok|strtok_r|alloca|system|popen|sleep|usleep|nanosleep|clock_nanosleep|tmpnam|mktemp)\s*\("
ONLY_BASE = r"\b(time|clock_gettime|gettimeofday|rand|random|srand|drand48|getrandom)\s*\("


def module_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "server" and len(parts) > 2 else parts[0]


@check
def arrows(src):
    """A module includes its own headers and the doors of the modules that its row in server/meson.build lists; never a private header of another one."""
    table = modules()
    owner = {os.path.basename(p): module_of(p) for p in src.headers}
    for path, text in src.c_and_h("server/"):
        me = module_of(path)
        if me not in table:
            yield f"{path}: module {me} has no row in server/meson.build"
            continue
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
            if "/" in name:
                yield f"{path}: includes {name} by a path; bare names only"
            whose = owner.get(name)
            if whose is None or whose == me or whose not in table:
                continue  # generated, or not of server/
            if whose not in table[me]:
                yield f"{path}: includes {name} of {whose}, which its row does not list"
            if re.search(r"_(priv|int)\.h$", name):
                yield f"{path}: includes {name}, which is private to {whose}"


@check
def module_order(src):
    """Each module uses only what stands before it in the table."""
    before = set()
    for name, uses in modules().items():
        for u in sorted(uses - before):
            yield f"{name} uses {u}, which does not stand before it"
        before.add(name)


@check
def outside_libraries(src):
    """Each outside library is included by its one module."""
    for path, text in src.c_and_h("server/", "hub/", "viewer/"):
        for name in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.M):
            for library, who in OUTSIDE.items():
                if name.startswith(library) and module_of(path) not in who:
                    yield f"{path}: includes <{name}>; only {', '.join(sorted(who))} may"


@check
def banned_calls(src):
    """No call that cuts, overflows, waits blindly or hides."""
    for path, code in src.code("server/", "hub/", "viewer/", "tests/", "bench/"):
        for n, line in enumerate(code.splitlines(), 1):
            for found in re.findall(BANNED, line):
                yield f"{path}:{n}: {found}()"


@check
def time_and_randomness(src):
    """Time and randomness are passed in: only base asks the machine."""
    for path, code in src.code("server/", "hub/", "viewer/"):
        if module_of(path) != "base":
            for n, line in enumerate(code.splitlines(), 1):
                for found in re.findall(ONLY_BASE, line):
                    yield f"{path}:{n}: {found}()"


@check
def no_sleep_in_tests(src):
    """Tests wait for an event with a deadline, never for a length of time."""
    for path in src.files:
        if path.startswith("tests/") and path.endswith(".py") and not path.startswith("tests/lint/"):
            for n, line in enumerate(read(path).splitlines(), 1):
                if re.search(r"\b(time|asyncio)\.sleep\s*\(", line) and "sleep(0)" not in line:
                    yield f"{path}:{n}: {line.strip()}"


@check
def finished(src):
    """No words that stand for work not done."""
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bnot implemented\b|\bunimplemented\b", re.I)
    for path in src.files:
        if path.startswith(("tests/lint/", "LICENSE")) or not path.endswith((".c", ".h", ".py", ".sql", ".md", ".yaml", ".tsv", ".build", "run", "quickstart")):
            continue
        for n, line in enumerate(read(path).splitlines(), 1):
            if words.search(line):
                yield f"{path}:{n}: {line.strip()[:100]}"


@check
def sql_only_in_sql(src):
    """SQL stands in .sql files. db speaks its own few commands, and porchctl makes the database itself."""
    sql = re.compile(r'"\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|ROLE|DATABASE)|ALTER\s+TABLE|DROP\s+TABLE|WITH\s+\w+\s+AS\s*\()', re.S)
    for path, text in src.c_and_h("server/"):
        if module_of(path) == "db" or path == "server/ctl/ctl_pg.c":
            continue
        for m in sql.finditer(text):
            yield f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {m.group()[:60]}"


@check
def sql_statements_explained(src):
    """Each named statement has a comment beside its declarations."""
    for path in src.files:
        if not re.match(r"server/\w+/\w+\.sql$", path):
            continue
        for part in re.split(r"^-- name:", read(path), flags=re.M)[1:]:
            head = [line for line in part.splitlines()[1:] if line.startswith("--")]
            if not any(not re.match(r"--\s*(in|null):", line) for line in head):
                yield f"{path}: {part.split()[0]} has no comment"


@check
def migrations(src):
    """Numbers are unique, names are of the form, and nothing is used that the target databases lack."""
    seen = {}
    for path in src.files:
        if not path.startswith("migrations/"):
            continue
        name = os.path.basename(path)
        m = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", name)
        if not m:
            yield f"{path}: wants NNNN_name.sql"
            continue
        if m[1] in seen:
            yield f"{path}: number of {seen[m[1]]}"
        seen[m[1]] = name
        code = re.sub(r"--.*", "", read(path))
        for word in ("TRIGGER", "SEQUENCE", "SERIAL", "BIGSERIAL", "ENUM", "LISTEN", "NOTIFY", "DEFERRABLE", "pg_advisory"):
            if re.search(rf"\b{word}", code, re.I) and not (word == "SERIAL" and not re.search(r"\bserial\s*(,|PRIMARY|NOT)", code, re.I)):
                if word == "SERIAL":
                    continue  # `serial` is also our word for a device's number: it is text everywhere
                yield f"{path}: uses {word}"


@check
def doors(src):
    """A door opens with its rule in words, says what is not here, who may call and whose memory it is, and has an example."""
    for path in src.headers:
        text, name = read(path), os.path.basename(path)
        if not re.match(rf"/\* {re.escape(name)} - ", text):
            yield f"{path}: does not open with `/* {name} - …`"
        if "#pragma once" not in text:
            yield f"{path}: no #pragma once"
        if re.match(r"server/(\w+)/\1\.h$", path):
            head = text.split("*/", 1)[0]
            for word, what in (("Not here", "what is not here"), ("hread", "threads"), ("emory", "memory")):
                if word not in head:
                    yield f"{path}: its head says nothing of {what}"
            if not re.search(r"^ \*     \S", head, re.M):
                yield f"{path}: its head has no example"


@check
def sizes(src):
    """Size is a smell: functions over 60 lines are reported; a function over 120 and a file over 600 are refused (data, documents and SQL have no such limit)."""
    longest = []
    for path in src.files:
        if path.endswith((".c", ".h", ".cc", ".py")) and (n := read(path).count("\n")) > 600:
            yield f"{path} has {n} lines: split it by subject"
    for path, code in src.code("server/", "hub/", "viewer/"):
        for name, length in src.functions(code):
            longest.append(length)
            if length > 60:
                REPORT.append(f"size: {path}: {name}() has {length} lines")
            if length > 120:
                yield f"{path}: {name}() has {length} lines"
    longest.sort()
    if longest:
        REPORT.append(f"size: {len(longest)} functions, median {longest[len(longest) // 2]} lines, {sum(n > 60 for n in longest)} over 60")


@check
def line_length(src):
    """Lines end before 200 characters (160 is the aim; what is between is reported)."""
    for path in src.files:
        if path.endswith((".c", ".h", ".py")):
            for n, line in enumerate(read(path).splitlines(), 1):
                if len(line) > 200:
                    yield f"{path}:{n}: {len(line)} characters"
                elif len(line) > 180:
                    REPORT.append(f"size: {path}:{n} has {len(line)} characters")


@check
def errors_documented(src):
    """docs/errors.md is what proto/gen_errors.py makes of proto/errors.tsv."""
    with tempfile.NamedTemporaryFile("r", suffix=".md") as f:
        subprocess.run([sys.executable, "proto/gen_errors.py", "md", "proto/errors.tsv", f.name], cwd=ROOT, check=True)
        if f.read() != read("docs/errors.md"):
            yield "docs/errors.md is stale: proto/gen_errors.py md proto/errors.tsv docs/errors.md"


@check
def errors_in_openapi(src):
    """The enum of codes in openapi.yaml is that of proto/errors.tsv."""
    yield from contract.compare("code", set(contract.error_codes()), set(contract.openapi()["components"]["schemas"]["ErrorCode"]["enum"]))


@check
def rules_have_tests(src):
    """Each rule of tests/lint/rules.tsv is in the name of a test: test_s_p5_…, …_S_P5 or s_p5_…, of the integration or unit tests or of these checks."""
    names = [name for path in src.files if re.match(r"tests/(it|unit)/.*\.(py|c)$", path) for name in re.findall(r"^(?:def (test_\w+)|static void (\w+)\(void \*\*)", read(path), re.M)]
    said = " ".join(part.lower() for name in names for part in name) + " " + " ".join(f.__name__ for f in CHECKS)
    rules = [line.split("\t")[0] for line in read("tests/lint/rules.tsv").splitlines() if not line.startswith("#")]
    if len(rules) < 30 or len(set(rules)) < len(rules):
        yield "tests/lint/rules.tsv: rules are missing, or stand there twice"
    for rule in rules:
        if not re.search(rf"\b(\w+_)?{rule.lower().replace('-', '_')}(_|\b)", said):
            yield f"{rule}: no test bears it in its name"


@check
def s_s8_errors_have_tests(src):
    """S-S8: a test names each code of proto/errors.tsv. (That each is also seen on the wire, and no other: tests/it/lib/codes.py, at the end of a whole run.)"""
    said = "".join(read(f) for folder in ("tests/it", "tests/unit") for f in sorted(os.path.join(folder, n) for n in os.listdir(os.path.join(ROOT, folder))) if f.endswith((".py", ".c", ".h")))
    for line in read("proto/errors.tsv").splitlines():
        name, _, code = (line.split("\t") + ["", ""])[:3]
        if code and not line.startswith("#") and not re.search(rf"""["']{code}["']|\bPL_{name}\b""", said):
            yield f"{code}: no test raises it"


@check
def routes_in_openapi(src):
    """Every route row of the code stands in openapi.yaml with its summary and authority, and the other way round."""
    yield from contract.routes_against_openapi(src)


@check
def onboarding_rows(src):
    """What the reference hub serves in the home is what onboarding.yaml says."""
    yield from contract.onboarding_rows(src)


@check
def openapi_is_sound(src):
    """References resolve, schemas are valid JSON Schema, operations have ids, summaries and path parameters."""
    for path in ("proto/openapi.yaml", "proto/onboarding.yaml"):
        yield from (f"{path}: {w}" for w in contract.openapi_sound(contract.load(path)))


@check
def asyncapi_is_sound(src):
    """References in the AsyncAPI documents resolve, their schemas are valid, every message has a type."""
    for path in src.files:
        if re.match(r"proto/\w+\.asyncapi\.yaml$", path):
            yield from contract.asyncapi_sound(path)


@check
def messages_in_asyncapi(src):
    """The message rows of the code are the ones that the AsyncAPI documents let a peer send, both ways."""
    yield from contract.messages_against_asyncapi(src)


@check
def events_in_asyncapi(src):
    """The events that the code writes are those of events.asyncapi.yaml."""
    yield from contract.events_against_asyncapi(src)


@check
def live_stages_documented(src):
    """The stages of a live session are those of openapi.yaml and of the chapter about it."""
    yield from contract.live_stages(src)


@check
def step_ups_can_be_had(src):
    """Every step-up purpose that a route wants can be asked for."""
    yield from contract.step_up_purposes(src)


@check
def commands_documented(src):
    """docs/operators.md names every subcommand of porchctl."""
    text = read("docs/operators.md")
    rows = re.findall(r'^    \{ "([a-z ]+)", "[^"]*", "[^"]+", \d, \d,', read("server/ctl/ctl.c"), re.M)
    if len(rows) < 5:
        yield "the table of subcommands is not found in server/ctl/ctl.c"
    for name in rows:
        if f"`porchctl {name}" not in text:
            yield f"docs/operators.md says nothing of `porchctl {name}`"


@check
def links_lead_somewhere(src):
    """Links between the documents of the repository resolve."""
    for path in src.files:
        if path.endswith(".md"):
            for to in re.findall(r"\]\(([^)#\s]+)", read(path)):
                if not re.match(r"[a-z]+:", to) and not os.path.exists(os.path.join(ROOT, os.path.dirname(path), to)):
                    yield f"{path}: {to} does not exist"


@check
def scripts_parse(src):
    """Python compiles; shell parses."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in src.files:
            first = read(path).split("\n", 1)[0] if os.access(os.path.join(ROOT, path), os.X_OK) else ""
            if path.endswith(".py") or "python" in first:
                try:
                    py_compile.compile(os.path.join(ROOT, path), cfile=os.path.join(scratch, "x"), doraise=True)
                except py_compile.PyCompileError as e:
                    yield f"{path}: {e.msg.strip().splitlines()[-1]}"
            elif "bash" in first or "/sh" in first:
                done = subprocess.run(["bash", "-n", path], cwd=ROOT, capture_output=True, text=True)
                if done.returncode:
                    yield f"{path}: {done.stderr.strip()}"


@check
def plants_follow_the_code(src):
    """Each planted bug of tests/chaos applies to the tree, and compiles where a build is given."""
    yield from plant.wrong(build=src.test)


@check
def licence(src):
    """Apache-2.0."""
    if "Apache License" not in read("LICENSE"):
        yield "LICENSE is not the Apache licence"


@check
def services_are_sandboxed(src):
    """Each systemd unit leaves its daemon an exposure of at most 2.0 by `systemd-analyze security`, and systemd knows every line of it."""
    for path in [p for p in src.files if p.endswith(".service")]:
        rated = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", path], cwd=ROOT, capture_output=True, text=True, timeout=60)
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout)
        if not level or float(level[1]) > 2.0:
            yield f"{path}: {level[1] if level else rated.stderr.strip() or 'not rated'}; 2.0 is the most"
        with tempfile.TemporaryDirectory() as scratch: # the programs are not installed here: any program stands for them
            trial = os.path.join(scratch, os.path.basename(path))
            with open(trial, "w", encoding="utf-8") as f:
                f.write(re.sub(r"/usr/local/bin/\S+", "/bin/true", read(path)))
            found = subprocess.run(["systemd-analyze", "verify", "--man=no", trial], capture_output=True, text=True, timeout=60).stderr
            yield from (f"{path}: {line}" for line in found.splitlines() if os.path.basename(path) in line)


@check
def sample_is_current(src):
    """deploy/porchlight.conf is what `porchlightd --sample` prints."""
    if subprocess.run([os.path.join(src.test, "server/porchlightd"), "--sample"], capture_output=True, text=True, timeout=60, check=False).stdout != read("deploy/porchlight.conf"):
        yield "deploy/porchlight.conf is stale: porchlightd --sample >deploy/porchlight.conf"


# --- checks of a release build

PROGRAMS = ["server/porchlightd", "server/porchlight-relay", "server/porchctl", "hub/porchlight-hub", "viewer/porchlight-watch"]


def release_programs(src):
    found = [os.path.join(src.release, p) for p in PROGRAMS]
    return [p for p in found if os.path.exists(p)]


def shown(args):
    return subprocess.run(args, capture_output=True, text=True, errors="replace", timeout=60).stdout


@check
def release_is_whole(src):
    """The build makes all programs."""
    for p in PROGRAMS:
        if not os.path.exists(os.path.join(src.release, p)):
            yield f"{p} was not built"


@check
def release_without_test_clock(src):
    """Nothing can move the clock of a release."""
    for p in release_programs(src):
        with open(p, "rb") as f:
            if b"the test clock %s cannot be opened" in f.read():
                yield f"{os.path.basename(p)}: the test clock is built in"


@check
def relay_holds_nothing(src):
    """The process that faces strangers' packets has no database and no HTTP server."""
    for p in release_programs(src):
        if p.endswith("porchlight-relay"):
            for library in re.findall(r"(libpq|libmicrohttpd|libcurl)\S*", shown(["ldd", p])):
                yield f"porchlight-relay is linked with {library}"


@check
def hardened(src):
    """Position-independent, relocations read-only and bound at start, no executable stack, stack protector."""
    for p in release_programs(src):
        name, head = os.path.basename(p), shown(["readelf", "-hldW", p])
        if not re.search(r"Type:\s+DYN", head):
            yield f"{name}: not position-independent"
        if "GNU_RELRO" not in head:
            yield f"{name}: no RELRO"
        if not re.search(r"BIND_NOW|Flags:.*\bNOW\b", head):
            yield f"{name}: not bound at start"
        stack = re.search(r"GNU_STACK\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+\s+(\S+)", head)
        if not stack or "E" in stack[1]:
            yield f"{name}: executable stack"
        if "__stack_chk_fail" not in shown(["readelf", "-sW", "--dyn-syms", p]):
            yield f"{name}: no stack protector"


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--test-build")
    args.add_argument("--release-build")
    args.add_argument("names", nargs="*")
    given = args.parse_args()
    src = Source()
    src.test = os.path.abspath(given.test_build) if given.test_build else None
    src.release = os.path.abspath(given.release_build) if given.release_build else None
    release_only = {release_is_whole, release_without_test_clock, relay_holds_nothing, hardened}
    passed, failed = 0, 0
    for f in CHECKS:
        if given.names and f.__name__ not in given.names or f in release_only and not src.release or f is sample_is_current and not src.test:
            continue
        try:
            wrong = list(f(src))
        except (OSError, KeyError, yaml.YAMLError, jsonschema.exceptions.SchemaError) as e:
            wrong = [f"{type(e).__name__}: {e}"]
        if wrong:
            failed += 1
            print(f"FAILED {f.__name__}: {f.__doc__.splitlines()[0]}")
            for w in wrong[:25]:
                print(f"    {w}")
            if len(wrong) > 25:
                print(f"    and {len(wrong) - 25} more")
        else:
            passed += 1
    for line in REPORT:
        print(line)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
