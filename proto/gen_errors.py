#!/usr/bin/env python3
"""Makes err_gen.h, err_gen.c or docs/errors.md from errors.tsv: gen_errors.py {h|c|md} errors.tsv OUT"""
import re
import sys


def rows(path):
    seen = set()
    for n, line in enumerate(open(path, encoding="utf-8"), 1):
        if line.startswith("#") or not line.strip():
            continue
        parts = line.rstrip("\n").split("\t")
        if len(parts) != 4:
            sys.exit(f"{path}:{n}: wants four columns separated by tabs")
        name, status, code, sentence = parts
        if not re.fullmatch(r"[A-Z][A-Z_]*", name) or not re.fullmatch(r"[a-z][a-z_]*", code) or not 400 <= int(status) <= 599:
            sys.exit(f"{path}:{n}: bad name, status or code")
        if name in seen or code in seen:
            sys.exit(f"{path}:{n}: {name} or {code} stands twice")
        seen |= {name, code}
        yield name, int(status), code, sentence


def main():
    kind, source, out = sys.argv[1:]
    text = []
    if kind == "h":
        text.append("/* Made from proto/errors.tsv. */\n#pragma once\nenum pl_err {\n    PL_OK = 0, /**< done */")
        text += [f"    PL_{n}, /**< {s} {c}: {t} */" for n, s, c, t in rows(source)]
        text.append("    PL_ERR_COUNT\n};\n")
    elif kind == "c":
        text.append('/* Made from proto/errors.tsv. */\n#include "err.h"\n\nconst struct pl_err_info pl_err_table[PL_ERR_COUNT] = {')
        text.append('    [PL_OK] = { 200, "ok", "Done." },')
        text += [f'    [PL_{n}] = {{ {s}, "{c}", "{t}" }},' for n, s, c, t in rows(source)]
        text.append("};\n")
    else:
        text.append("# Error codes\n\nMade from `proto/errors.tsv`. Every problem body carries one of these as `code`; a WebSocket closes with `4000 + status` "
                    "and the code as its reason.\n\n| code | status | meaning |\n| --- | --- | --- |")
        text += [f"| `{c}` | {s} | {t} |" for _, s, c, t in rows(source)]
        text.append("")
    open(out, "w", encoding="utf-8").write("\n".join(text))


main()
