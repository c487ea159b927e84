"""What the measurements share: the product in a folder of its own, CPU and memory of processes, tables."""
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def use_build(folder):
    """Where the programs under test are; before the first import of lib.porch."""
    os.environ["PORCH_BUILD"] = str(folder)
    sys.path.insert(0, str(ROOT / "tests" / "it"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def now():
    """Seconds of the monotonic clock, the one that the load tools answer in."""
    return time.monotonic()


def pause(seconds):
    time.sleep(seconds)


def cpu_s(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_kib(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * PAGE_KIB


def family_cpu_s(pid):
    """The same of a process with its children, running and ended: PostgreSQL."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    total = sum(map(int, fields[11:15])) / TICK
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        for child in f.read().split():
            try:
                total += cpu_s(child)
            except (OSError, IndexError):
                pass  # it ended meanwhile, and its parent has its time
    return total


class Meter:
    """CPU of porchlightd and PostgreSQL over a `with`."""

    def __init__(self, porch):
        self.pids = porch.pids()

    def read(self):
        return cpu_s(self.pids["porchlightd"]), family_cpu_s(self.pids["postgres"]), now()

    def __enter__(self):
        self.at = self.read()
        return self

    def __exit__(self, *unused):
        self.server, self.postgres, self.seconds = (b - a for a, b in zip(self.at, self.read()))


def sql_of(module, name):
    """The text of a named query as the product has it."""
    text = (ROOT / "server" / module / f"{module}.sql").read_text(encoding="utf-8")
    body = text.split(f"-- name: {name} ", 1)[1].split("\n", 1)[1].split("\n-- name:", 1)[0]
    return "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()


def pg_program(name):
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parent.parent.name))
    return str(found[-1]) if found else name


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def wrk(url, connections, seconds, token=None, script=None, threads=1):
    """requests/s, requests, p50 and p99 in ms, answers that were no 2xx. script: in Lua, a state for each thread."""
    out = subprocess.run(["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", *(["-H", f"Authorization: Bearer {token}"] if token else []),
                          *(["-s", script] if script else []), url], capture_output=True, text=True, check=True).stdout
    quantile = {}
    for share, value, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", out, re.M):
        quantile[int(share)] = float(value) * UNITS[unit]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return (float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), int(re.search(r"(\d+) requests in", out).group(1)), quantile[50], quantile[99],
            int(bad.group(1)) if bad else 0)


def bare(build, size, connections, seconds):
    with subprocess.Popen([str(Path(build) / "bench/bench-http-bare"), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        before = cpu_s(process.pid)
        got = wrk(f"http://127.0.0.1:{port}/", connections, seconds)
        cpu = cpu_s(process.pid) - before
        process.stdin.close()
    return got, cpu


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(str(c) for c in row) + " |")
    print()


def note(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def machine():
    """What it ran on, without its name."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="ascii"))
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="ascii")).group(1)) >> 20
    system = re.search(r'PRETTY_NAME="([^"]+)"', Path("/etc/os-release").read_text(encoding="utf-8")).group(1)
    return f"{os.cpu_count()} × {cpu.group(1) if cpu else os.uname().machine}, {memory} GiB, {system}, Linux {os.uname().release.split('-')[0]}"


def commit():
    """What was measured; the file that results are written to does not count as a change."""
    def git(*args):
        return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True).stdout.strip()
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if git("status", "--porcelain", "--", ".", ":!bench/RESULTS.md") else "")
