"""What tests/run does once the packages are there: each part builds what it needs, runs under a time limit of its own, and is counted."""
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor

from results import record

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = str(min(os.cpu_count() or 1, 4))
LONG = KEEP = False

TEST_BUILD, RELEASE_BUILD, ASAN_BUILD, TSAN_BUILD, FUZZ_BUILD = (os.path.join(ROOT, d) for d in ("build-test", "build-release", "build-asan", "build-tsan", "build-fuzz"))
CLANG = {"CC": "clang"}
SANITIZED = ["-Dbuildtype=debugoptimized", "-Db_lundef=false", "-Dtests=true", "-Dtest_clock=true"]


class Broken(Exception):
    """A part could not be run at all: counted as one failure, with its reason."""


def say(text):
    print(text, flush=True)


def run(args, limit, env=None, quiet=True):
    """Runs a command in the root; kills its whole process group at the limit. Returns (code, output); code None: it took too long."""
    p = subprocess.Popen(args, cwd=ROOT, env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if quiet else None,
                         stderr=subprocess.STDOUT if quiet else None, text=True, errors="replace", start_new_session=True)
    try:
        out, _ = p.communicate(timeout=limit)
        return p.returncode, out or ""
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGTERM)
        try:
            out, _ = p.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, _ = p.communicate()
        return None, out or ""


def build(folder, options, env=None, limit=600):
    # Configured anew each time: tests that were added since are found only then.
    again = ["--reconfigure"] if os.path.exists(os.path.join(folder, "build.ninja")) else []
    code, out = run(["meson", "setup", *again, folder, *options], limit, env)
    if code != 0:
        raise Broken(f"meson setup {os.path.basename(folder)}: " + out[-3000:])
    code, out = run(["ninja", "-C", folder, "-j", JOBS, "-k", "0"], limit, env)
    if code != 0:
        raise Broken(f"building {os.path.basename(folder)} {'took too long' if code is None else 'failed'}: " + out[-4000:])


def build_test():
    build(TEST_BUILD, ["-Dtests=true", "-Dtest_clock=true"])


def build_release():
    build(RELEASE_BUILD, [])


def count_cmocka(text, code):
    """Cases of one binary: (passed, [failed])."""
    passed = len(re.findall(r"^\[       OK \]", text, re.M))
    failed = sorted(set(re.findall(r"^\[  FAILED  \] (\w+)$", text, re.M)))
    if code != 0 and not failed:
        failed = ["(the program ended with %s)" % code]
    if code == 0 and not passed:
        passed = 1  # a program without cases is one test
    return passed, failed


def with_lines(text):
    """Names the lines of what a dying program says of itself (tests/unit/dying.c): the log is all that is left of a machine that has gone."""
    def name(m):
        code, out = run(["addr2line", "-fpe", m[1], m[2]], 30) if os.path.isfile(m[1]) else (1, "")
        return f"{m[0]} {out.strip()}" if code == 0 else m[0]
    return re.sub(r"^(/\S+)\(\+(0x[0-9a-f]+)\)\[0x[0-9a-f]+\]$", name, text, flags=re.M)


def meson_tests(folder, suites, limit, env=None, more=()):
    """Runs meson suites under a private PostgreSQL; returns (passed, failed names)."""
    log = os.path.join(folder, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    args = ["tests/it/with_pg", "meson", "test", "-C", folder, "--no-rebuild", "--num-processes", JOBS, *more]
    for s in suites:
        args += ["--suite", s]
    code, out = run(args, limit, env)
    passed, failed = 0, []
    if not os.path.exists(log):
        if "No suitable tests" in out or "No tests defined" in out:
            return 0, []
        raise Broken(out[-3000:])
    with open(log, encoding="utf-8") as f:
        for line in f:
            t = json.loads(line)
            text = t.get("stdout", "") + "\n" + t.get("stderr", "")
            ok, bad = count_cmocka(text, t["returncode"])
            passed += ok
            failed += [f"{t['name']}: {b}" for b in bad]
            if bad:
                say(with_lines(t.get("stdout", "")[-3000:] + "\n" + t.get("stderr", "")[-4000:]))
    if code is None:
        failed.append(f"{os.path.basename(folder)}: tests took longer than {limit} s")
    return passed, failed


def part_lint():
    build_test()
    build_release()
    code, out = run([sys.executable, "tests/lint/lint.py", "--test-build", TEST_BUILD, "--release-build", RELEASE_BUILD], 300)
    last = re.search(r"(\d+) passed, (\d+) failed\s*\Z", out)
    if not last:
        raise Broken(out[-3000:])
    failed = re.findall(r"^FAILED (.*)$", out, re.M)
    say(out.rstrip() if failed else out.rstrip().splitlines()[-1])
    return int(last[1]), failed


def part_unit():
    build_test()
    return meson_tests(TEST_BUILD, ["unit"], 600)


def part_asan():
    build(ASAN_BUILD, [*SANITIZED, "-Db_sanitize=address,undefined"], CLANG)
    return meson_tests(ASAN_BUILD, ["unit"], 600, {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})


FAIL_SECONDS = "5"  # for each binary; --long: none


def part_nomem():
    """Each case of each unit binary again with every allocation failing in turn (tests/unit/failing.h), under ASan with its look for leaks."""
    build(ASAN_BUILD, [*SANITIZED, "-Db_sanitize=address,undefined"], CLANG)
    counts = meson_tests(ASAN_BUILD, ["unit"], 7200 if LONG else 400, {"PL_FAIL_ALLOC": "0" if LONG else FAIL_SECONDS, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
                         "UBSAN_OPTIONS": "print_stacktrace=1"}, ["--timeout-multiplier", "30" if LONG else "1"])
    with open(os.path.join(ASAN_BUILD, "meson-logs", "testlog.json"), encoding="utf-8") as f:
        said = re.findall(r"(\d+) places: (\d+) absorbed, (\d+) refused, \d+ not met again, (\d+) findings; (\d+) left", f.read())
    places, absorbed, refused, findings, left = (sum(int(row[i]) for row in said) for i in range(5))
    line = f"{places} places refused memory once: {refused} said so, {absorbed} went on without, {findings} findings; {left} left for want of time"
    say(line)
    if LONG:
        record("Allocation failures (tests/run --long nomem)", f"- {time.strftime('%Y-%m-%d')}: {line}.")
    return counts


def part_tsan():
    build(TSAN_BUILD, [*SANITIZED, "-Db_sanitize=thread"], CLANG)
    return meson_tests(TSAN_BUILD, ["unit"], 600, {"TSAN_OPTIONS": "halt_on_error=1"})


FUZZ_SECONDS = 600  # each target, with --long


def fuzz_one(name):
    """One libFuzzer target from its corpus on; new entries go to the build folder, with --keep the smallest set of them into the tree. (executions, seconds, finding)."""
    corpus, fresh = os.path.join(ROOT, "tests", "fuzz", "corpus", name), os.path.join(FUZZ_BUILD, "corpus", name)
    os.makedirs(fresh, exist_ok=True)
    program = next(p for p in (os.path.join(FUZZ_BUILD, where, "fuzz_" + name) for where in ("tests", "hub")) if os.path.exists(p))
    env = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    code, out = run([program, f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={fresh}/../{name}-", fresh, corpus], FUZZ_SECONDS + 120, env)
    done = re.search(r"^Done (\d+) runs in (\d+) second", out, re.M)
    if code == 0 and KEEP:
        run([program, "-merge=1", corpus, fresh], 600, env)
    finding = None if code == 0 and done else (re.findall(r"^(?:SUMMARY|==\d+== ERROR).*", out, re.M) or [f"ended with {code}"])[0]
    if finding:
        say(f"{name}: {finding}\n{out[-3000:]}")
    return (int(done[1]), int(done[2]), finding) if done else (0, 0, finding)


def fuzz_long():
    build(FUZZ_BUILD, [*SANITIZED, "-Db_sanitize=address,undefined", "-Dfuzz=true"], {**CLANG, "CXX": "clang++"}, limit=1200)
    names = sorted(f[5:-2] for f in os.listdir(os.path.join(ROOT, "tests", "fuzz")) if re.fullmatch(r"fuzz_\w+\.c", f))
    with ThreadPoolExecutor(int(JOBS)) as pool:
        results = dict(zip(names, pool.map(fuzz_one, names)))
    record("Fuzzing (tests/run --long fuzz)", f"- {time.strftime('%Y-%m-%d')}, libFuzzer with ASan and UBSan, executions in seconds: " +
           ", ".join(f"{n} {runs:,} in {s} ({why or 'no finding'})" for n, (runs, s, why) in results.items()) + ".")
    return sum(not why for _, _, why in results.values()), [f"fuzz_{n}: {why}" for n, (_, _, why) in results.items() if why]


def part_fuzz():
    """The corpus of every fuzz target, replayed with the sanitizers on; with --long each target also searches on from there."""
    if LONG:
        passed, failed = fuzz_long()
        ok, bad = fuzz_corpora()
        return passed + ok, failed + bad
    return fuzz_corpora()


def fuzz_corpora():
    build(ASAN_BUILD, [*SANITIZED, "-Db_sanitize=address,undefined"], CLANG)
    return meson_tests(ASAN_BUILD, ["fuzz"], 300, {"UBSAN_OPTIONS": "halt_on_error=1"})


def part_it():
    build_test()
    report = os.path.join(TEST_BUILD, "it.xml")
    if os.path.exists(report):
        os.unlink(report)
    limit = 3600 if LONG else 900
    # As many files at once as there are cores: a test mostly waits. Each worker has a system of its own.
    code, _ = run([sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-n", JOBS, "--dist", "loadfile", "--durations=25", f"--junitxml={report}", "tests/it"], limit,
                  {"PORCH_BUILD": TEST_BUILD, "PORCH_LONG": "1" if LONG else "", "PYTHONDONTWRITEBYTECODE": "1"}, quiet=False)
    if not os.path.exists(report):
        raise Broken(f"pytest {'took longer than %d s' % limit if code is None else 'ended with %s' % code}")
    passed, failed = 0, []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    if code != 0 and not failed:
        failed.append("the run took longer than %d s" % limit if code is None else "what is said of the run as a whole, above")
    return passed, failed


CHAOS_SECONDS = 4
CHAOS = [("1", "4", "1"), ("101", "1", "2")]  # first seed, runs, nodes; each row is one system
ACCOUNT_OPS, ACCOUNT_OPS_FULL = 15, 1000  # sign-ups, log-ins, resends, refreshes that are acknowledged under kill -9
CHAOS_FULL = [("1", "20", "1"), ("21", "20", "1"), ("41", "21", "1"), ("101", "13", "2"), ("114", "13", "2"), ("127", "13", "2")]


def part_chaos():
    """People on the main path while processes are killed; the full count and the planted bugs with --long, written to bench/RESULTS.md."""
    build_test()
    systems = CHAOS_FULL if LONG else CHAOS
    say(f"{sum(int(runs) for _, runs, _ in systems)} runs (the full count is {sum(int(runs) for _, runs, _ in CHAOS_FULL)}), "
        f"{ACCOUNT_OPS_FULL if LONG else ACCOUNT_OPS} operations on accounts (the full count is {ACCOUNT_OPS_FULL})")
    passed, failed = 0, []
    wanted = [["--seed", first, "--runs", runs, "--nodes", nodes] for first, runs, nodes in systems] + ([["--plants"]] if LONG else [])
    wanted += [["--accounts", "--ops", str(ACCOUNT_OPS_FULL if LONG else ACCOUNT_OPS)]]
    for args in wanted:
        code, out = run([sys.executable, "tests/chaos/run", *args, "--seconds", str(CHAOS_SECONDS), *(["--record"] if LONG else [])], 7200 if LONG else 400,
                        {"PORCH_BUILD": TEST_BUILD, "PYTHONDONTWRITEBYTECODE": "1"})
        last = re.search(r"(\d+) passed, (\d+) failed\s*\Z", out)
        if not last:
            raise Broken(out[-3000:])
        say(out.rstrip() if int(last[2]) else "\n".join(out.rstrip().splitlines()[-2:]))
        passed += int(last[1])
        failed += [f"a run of tests/chaos/run {' '.join(args)}"] * int(last[2])
    return passed, failed


JOINS, JOINS_FULL = 20_000, 1_000_000


def part_joins():
    """V-G5, V-A2: viewers come and go at a relay, native and by WebRTC, its memory does not grow and no key frame is lost; the full count with --long, written to bench/RESULTS.md."""
    build_test()
    joins = JOINS_FULL if LONG else JOINS
    code, out = run([os.path.join(TEST_BUILD, "tests", "test_relay_joins")], 7200 if LONG else 300, {"PL_JOINS": str(joins)})
    said = re.search(r"^\d+ joins: .*$", out, re.M)
    if not said or code is None:
        raise Broken(out[-3000:])
    say(said[0])
    if LONG and code == 0:
        record("Joins (tests/run --long joins)", f"- {time.strftime('%Y-%m-%d')}: {said[0]}.")
    return (1, []) if code == 0 else (0, ["test_relay_joins"])


WRAPS_RATE = 1000  # packets of video a second for 35 minutes


def part_wraps():
    """Sequence numbers that roll over for 35 minutes: as fast as a large camera with --long, written to bench/RESULTS.md; slower it is one of the unit tests anyway."""
    if not LONG:
        say("wraps: only with --long; the short run is among the unit tests")
        return 0, []
    build_test()
    code, out = run([os.path.join(TEST_BUILD, "tests", "test_relay_wraps")], 7200, {"PL_PACKETS_A_SECOND": str(WRAPS_RATE)})
    said = re.search(r"^35 minutes of .*$", out, re.M)
    if not said or code is None:
        raise Broken(out[-3000:])
    say(said[0])
    if code == 0:
        record("Roll-overs (tests/run --long wraps)", f"- {time.strftime('%Y-%m-%d')}: {said[0]}")
    return (1, []) if code == 0 else (0, ["test_relay_wraps"])


PARTS = {"lint": part_lint, "unit": part_unit, "asan": part_asan, "nomem": part_nomem, "tsan": part_tsan, "fuzz": part_fuzz, "it": part_it, "chaos": part_chaos,
         "joins": part_joins, "wraps": part_wraps}


def main():
    global LONG, KEEP
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    LONG, KEEP = "--long" in sys.argv[1:], "--keep" in sys.argv[1:]
    unknown = [a for a in sys.argv[1:] if a not in PARTS and a not in ("--long", "--keep")]
    if unknown:
        sys.exit(f"tests/run: unknown: {' '.join(unknown)}; parts are {', '.join(PARTS)}, and --long, --keep")
    passed, failed, table = 0, [], []
    for name in names or PARTS:
        say(f"== {name}")
        began = time.monotonic()
        try:
            ok, bad = PARTS[name]()
        except Broken as e:
            say(str(e))
            ok, bad = 0, [f"{name}: could not be run"]
        passed += ok
        failed += [f"{name}: {b}" for b in bad]
        table.append(f"{name:6} {ok:6} passed {len(bad):4} failed {time.monotonic() - began:7.0f} s")
        say(table[-1])
    say("\n" + "\n".join(table))
    for f in failed:
        say(f"FAILED {f}")
    say(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
