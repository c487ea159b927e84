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
