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
# Which checkers may name the bug; any other finding does not count.
CATCHERS = {
    "acknowledge-before-commit": {"set", "register", "total-queue"},
    "cached-owner": {"register"},
    "reset-tries": {"counter"},
    "bus-only-command": {"total-queue"},
}


def names():
    return sorted(CATCHERS)


def run(args, cwd):
    done = subprocess.run(args, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(args)[:300]}\n{done.stdout}{done.stderr}")
    return done.stdout


def original(build, source):
    """A file of the tree, or what the build's generators made of it."""
    here = os.path.join(ROOT, source)
    return here if os.path.exists(here) else os.path.join(build, source)


def compile_one(build, source, folder):
    """The build's own command, with the patched file in place of the original. Returns the object."""
    patched, out = os.path.join(folder, "src", source), os.path.join(folder, os.path.basename(source) + ".o")
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entry = next(e for e in json.load(f) if os.path.normpath(os.path.join(e["directory"], e["file"])) == original(build, source) and "libpl_" in e["output"])
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
        patch = os.path.join(PLANTS, name + ".patch")
        with open(patch, encoding="utf-8") as f:
            sources = re.findall(r"^\+\+\+ b/(\S+)", f.read(), re.M)
        for source in sources:
            os.makedirs(os.path.join(folder, "src", os.path.dirname(source)), exist_ok=True)
            shutil.copy(original(build, source), os.path.join(folder, "src", source))
        run(["patch", "-p1", "--no-backup-if-mismatch", "-i", patch], os.path.join(folder, "src"))
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
