"""The documents are true: what a newcomer pastes from README.md and from the chapters for app developers is run here, block by block in one shell, against the
demo system, and the JSON shown after a block has the members that the server answers with."""
import json
import os
import re
import subprocess

from lib.openapi import ROOT
from lib.porch import BUILD

CHAPTERS = ["app-developers.md", "app-developers-devices.md", "app-developers-live.md", "app-developers-signing-in.md", "app-developers-leaving.md"]
LIMIT = 180


def blocks(path):
    """Fenced blocks of a document in order: (line, language, text, whether only blank lines stand between it and the block before)."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = f.read()
    found, end = [], 0
    for m in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        found.append((f"{path}:{text.count(chr(10), 0, m.start()) + 1}", m[1], m[2], not text[end:m.start()].strip()))
        end = m.end()
    return found


def last_json(text):
    """The last JSON value in what a block printed."""
    decoder, at, value = json.JSONDecoder(), 0, None
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
    return value


def same_members(shown, real, where):
    """Objects have the same members; of a list, the first one shown must be like the first real one; values are examples."""
    if isinstance(shown, dict):
        assert isinstance(real, dict) and set(shown) == set(real), f"{where}: the document shows {sorted(shown)}, the server answers {real}"
        for name in shown:
            same_members(shown[name], real[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(real, list), f"{where}: {real}"
        if shown and real:
            same_members(shown[0], real[0], f"{where}[0]")


def paste(porch, documents, folder):
    """Runs the sh blocks of the documents in one bash, and holds the JSON beside them against what they print."""
    found = [b for d in documents for b in blocks(d)]
    script = ["set -eu -o pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for i, (where, language, text, _) in enumerate(found):
        if language == "sh":
            script.append(f"echo {where} >&2\n{{\n{text}}} >'{folder}/{i}'")
    env = dict(os.environ, API=f"http://{porch.http}", WS=f"ws://{porch.ws}", PORCH=porch.dir, BUILD=BUILD, no_proxy="*")
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    printed = {i: open(f"{folder}/{i}", encoding="utf-8").read() if os.path.exists(f"{folder}/{i}") else "" for i in range(len(found))}
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{list(printed.values())}\n{porch.logs()}"
    for i, (where, language, text, close) in enumerate(found):
        if language == "json" and i and close and found[i - 1][1] == "sh":
            same_members(json.loads(text), last_json(printed[i - 1]), where)
    return {found[i][0]: printed[i] for i in printed if found[i][1] == "sh"}


def test_chapters_for_app_developers(own_porch, tmp_path):
    porch = own_porch(demo=True, transports=False, clock=False)
    printed = "".join(paste(porch, [f"docs/{c}" for c in CHAPTERS], tmp_path).values())
    seen = [s for s in map(last_json, printed.splitlines()) if s and "decode_errors" in s]
    assert seen and seen[0]["frames"] > 0 and seen[0]["decode_errors"] == 0
    # Nothing is left of it: the account is gone and its devices are free, so it can be pasted again.
    assert len(porch.ctl("accounts")["accounts"]) == 1


def test_readme(own_porch, tmp_path):
    porch = own_porch(demo=True, transports=False, clock=False)
    printed = paste(porch, ["README.md"], tmp_path)
    assert printed


def test_hub_makers(own_porch, tmp_path):
    porch = own_porch(demo=True, transports=False, clock=False)
    printed = "".join(paste(porch, ["docs/hub-makers.md"], tmp_path).values())
    assert re.search(r"^HUB00001 .*\btrue\b", printed, re.M), printed
    assert [s["end_code"] for s in porch.ctl("sessions")["sessions"]] == ["ended_by_user"]  # of the sender that is no hub


def test_close_codes_are_those_of_the_table():
    """4000 + status and the word, wherever a document names both, as proto/errors.tsv has them."""
    with open(os.path.join(ROOT, "proto", "errors.tsv"), encoding="utf-8") as f:
        known = {row.split("\t")[2]: row.split("\t")[1] for row in f if not row.startswith("#")}
    named = 0
    for path in subprocess.run(["git", "-C", ROOT, "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split():
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            for code, word in re.findall(r"`4(\d{3}) ([a-z_]+)`", f.read()):
                assert known.get(word) == code, f"{path}: 4{code} {word}"
                named += 1
    assert named >= 7


def test_links_lead_somewhere():
    """Each link to a file of this repository, in each document, names a file that is there."""
    for path in subprocess.run(["git", "-C", ROOT, "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split():
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            for target in re.findall(r"\]\(([^)#\s]+)", f.read()):
                if "://" not in target:
                    assert os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)), f"{path}: {target}"
