"""What tests/run does once the packages are there: each part builds what it needs, runs under a time limit of its own, and is counted."""
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = str(min(os.cpu_count() or 1, 4))
LONG = False

TEST_BUILD, RELEASE_BUILD, ASAN_BUILD, TSAN_BUILD = (os.path.join(ROOT, d) for d in ("build-test", "build-release", "build-asan", "build-tsan"))
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


def meson_tests(folder, suites, limit, env=None):
    """Runs meson suites under a private PostgreSQL; returns (passed, failed names)."""
    log = os.path.join(folder, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    args = ["tests/it/with_pg", "meson", "test", "-C", folder, "--no-rebuild", "--num-processes", JOBS]
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
                say(text[-4000:])
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


def part_tsan():
    build(TSAN_BUILD, [*SANITIZED, "-Db_sanitize=thread"], CLANG)
    return meson_tests(TSAN_BUILD, ["unit"], 600, {"TSAN_OPTIONS": "halt_on_error=1"})


def part_fuzz():
    """The corpus of every fuzz target, replayed with the sanitizers on."""
    build(ASAN_BUILD, [*SANITIZED, "-Db_sanitize=address,undefined"], CLANG)
    return meson_tests(ASAN_BUILD, ["fuzz"], 300, {"UBSAN_OPTIONS": "halt_on_error=1"})


def part_it():
    build_test()
    report = os.path.join(TEST_BUILD, "it.xml")
    if os.path.exists(report):
        os.unlink(report)
    limit = 3600 if LONG else 900
    code, _ = run([sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", f"--junitxml={report}", "tests/it"], limit,
                  {"PORCH_BUILD": TEST_BUILD, "PORCH_LONG": "1" if LONG else "", "PYTHONDONTWRITEBYTECODE": "1"}, quiet=False)
    if not os.path.exists(report):
        raise Broken(f"pytest {'took longer than %d s' % limit if code is None else 'ended with %s' % code}")
    passed, failed = 0, []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, failed


CHAOS_RUNS, CHAOS_FULL, CHAOS_SECONDS = 5, 100, 4


def part_chaos():
    """People on the main path while processes are killed; the full count and the planted bugs with --long, written to bench/RESULTS.md."""
    build_test()
    runs = CHAOS_FULL if LONG else CHAOS_RUNS
    say(f"{runs} runs (the full count is {CHAOS_FULL})")
    passed, failed = 0, []
    wanted = [["--seed", "1", "--runs", str(runs)]] + ([["--plants"]] if LONG else [])
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


PARTS = {"lint": part_lint, "unit": part_unit, "asan": part_asan, "tsan": part_tsan, "fuzz": part_fuzz, "it": part_it, "chaos": part_chaos}


def main():
    global LONG
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    LONG = "--long" in sys.argv[1:]
    unknown = [a for a in sys.argv[1:] if a not in PARTS and a != "--long"]
    if unknown:
        sys.exit(f"tests/run: unknown: {' '.join(unknown)}; parts are {', '.join(PARTS)}, and --long")
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
