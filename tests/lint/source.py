"""The repository as the checks see it: tracked files, C text with and without comments, the table of modules."""
import functools
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.lru_cache(maxsize=None)
def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def tracked():
    """Files under version control and those that are about to be; outside a checkout (a release archive) all files."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        found = done.stdout.splitlines()
    else:
        found = [os.path.relpath(os.path.join(d, f), ROOT) for d, folders, files in os.walk(ROOT) for f in files if "/build" not in d and "/." not in d]
    return sorted(p for p in set(found) if os.path.isfile(os.path.join(ROOT, p)))


def modules():
    """name -> set of modules that its row in server/meson.build lists, in order."""
    table = re.search(r"^modules = \[\n(.*?)^\]", read("server/meson.build"), re.S | re.M)[1]
    return {m[1]: set(re.findall(r"'(\w+)'", m[2])) for m in re.finditer(r"^  \['(\w+)', \[([^\]]*)\]", table, re.M)}


_token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_comments_and_strings(text):
    """Line numbers stay; strings become empty."""
    return _token.sub(lambda m: '""' if m[0][0] == '"' else "' '" if m[0][0] == "'" else "\n" * m[0].count("\n"), text)


class Source:
    def __init__(self):
        self.files = [p for p in tracked() if not p.endswith((".png", ".wav", ".gz", ".bin", ".pcap", ".mp4", ".h264", ".opus"))]
        self.headers = [p for p in self.files if p.endswith(".h") and p.startswith(("server/", "hub/", "viewer/"))]
        self.release = None

    def c_and_h(self, *folders):
        for p in self.files:
            if p.startswith(folders) and p.endswith((".c", ".h")):
                yield p, read(p)

    def code(self, *folders):
        for p, text in self.c_and_h(*folders):
            yield p, without_comments_and_strings(text)

    @staticmethod
    def functions(code):
        """(name, lines) of each function: in this house its braces stand alone in the first column."""
        lines = code.splitlines()
        start = None
        for i, line in enumerate(lines):
            if line == "{":
                start = i
            elif line == "}" and start is not None:
                head = " ".join(lines[max(0, start - 4):start])
                names = re.findall(r"(\w+)\s*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*$", head)
                yield (names[-1] if names else "?"), i - start + 1
                start = None
