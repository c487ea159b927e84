"""Planted bugs: a patch on a copy of a source file (of the tree, or generated), compiled with the command of the build under test and linked before its archives. Nothing in the tree is touched."""
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PLANTS = os.path.join(HERE, "plants")
# Which checkers may name the bug, among people on the main path (None: not looked for there) and among accounts under kill -9; any other finding does not count.
CATCHERS = {
    "acknowledge-before-commit": {"people": {"set", "register", "total-queue"}, "accounts": {"set", "register", "total-queue"}},
    "bus-only-command": {"people": {"total-queue"}},
    "cached-owner": {"people": {"register"}},
    "pin-twice": {"accounts": {"unique"}},
    "reset-tries": {"people": {"counter"}, "accounts": {"counter"}},
}


def names(mode="people"):
    return sorted(name for name, by in CATCHERS.items() if mode in by)


class Failed(Exception):
    """A plant that does not apply, compile or link: it follows the code no longer."""


def run(args, cwd):
    os.makedirs(cwd, exist_ok=True)
    done = subprocess.run(args, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{shlex.join(args)[:200]} ended with {done.returncode}: {' '.join((done.stdout + done.stderr).split())[:600]}")
    return done.stdout


def sources_of(patch):
    with open(patch, encoding="utf-8") as f:
        return re.findall(r"^\+\+\+ b/(\S+)", f.read(), re.M)


def lay_out(root, source, folder):
    """A copy of a file of the tree, or of what the generator makes of a module's SQL there."""
    to = os.path.join(folder, source)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    if os.path.exists(os.path.join(root, source)):
        shutil.copy(os.path.join(root, source), to)
    else:
        sql = os.path.join(root, source.removesuffix("_sql.c"))
        run([os.path.join(root, "schema", "sqlgen.py"), sql + ".sql", sql + ".types", os.path.dirname(to)], root)


def changed(root, patch, folder):
    """Lays out what the patch changes, and changes it. Returns the changed files; raises Failed."""
    sources = sources_of(patch)
    for source in sources:
        lay_out(root, source, folder)
    run(["patch", "-p1", "--batch", "--no-backup-if-mismatch", "-i", os.path.abspath(patch)], folder)
    return sources


def wrong(root=ROOT, build=None):
    """What is wrong with the plants of a tree: each has its catchers and applies; with a build also: it compiles."""
    folder = os.path.join(root, os.path.relpath(PLANTS, ROOT))
    there = sorted(f.removesuffix(".patch") for f in os.listdir(folder))
    yield from (f"{name}: no checker is named for it" for name in there if name not in CATCHERS)
    yield from (f"{name}: there is no such patch" for name in CATCHERS if name not in there)
    for name in there:
        with tempfile.TemporaryDirectory(prefix="plant-") as scratch:
            try:
                for source in changed(root, os.path.join(folder, name + ".patch"), os.path.join(scratch, "src")):
                    if build:
                        compile_one(build, source, scratch)
            except Failed as e:
                yield f"{name}: {e}"


def compile_one(build, source, folder):
    """The build's own command, with the patched file in place of the original. Returns the object."""
    patched, out = os.path.join(folder, "src", source), os.path.join(folder, os.path.basename(source) + ".o")
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        mine = {os.path.join(ROOT, source), os.path.join(os.path.abspath(build), source)}  # of the tree, or generated
        entry = next((e for e in json.load(f) if os.path.normpath(os.path.join(e["directory"], e["file"])) in mine and "libpl_" in e["output"]), None)
    if not entry:
        raise Failed(f"{source} is not compiled in {build}")
    args = shlex.split(entry["command"])
    args[args.index("-o") + 1] = out
    args[args.index("-c") + 1] = patched
    for flag in ("-MF", "-MQ"):
        args[args.index(flag) + 1] = out + ".d"
    run(args, build)
    return out


@contextlib.contextmanager
def built(name, build):
    """A folder like a build folder whose porchlightd has the bug."""
    build = os.path.abspath(build)
    with tempfile.TemporaryDirectory(prefix="plant-") as folder:
        sources = changed(ROOT, os.path.join(PLANTS, name + ".patch"), os.path.join(folder, "src"))
        objects = [compile_one(build, source, folder) for source in sources]
        for part in ("server", "hub", "viewer"):
            os.makedirs(os.path.join(folder, part))
            for program in ("porchctl", "porchlight-relay", "porchlight-hub", "porchlight-watch"):
                if os.path.exists(os.path.join(build, part, program)):
                    shutil.copy(os.path.join(build, part, program), os.path.join(folder, part, program))
        link = shlex.split(run(["ninja", "-t", "commands", "-s", "server/porchlightd"], build).strip().splitlines()[-1])
        link[link.index("-o") + 1] = os.path.join(folder, "server", "porchlightd")
        at = next(i for i, a in enumerate(link) if a.endswith(".c.o")) + 1
        run(link[:at] + objects + link[at:], build)
        yield folder
