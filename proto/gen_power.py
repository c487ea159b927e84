#!/usr/bin/env python3
"""Makes power_gen.h from power.tsv: gen_power.py power.tsv OUT"""
import sys

source, out = sys.argv[1:]
rows = [line.rstrip("\n").split("\t") for line in open(source, encoding="utf-8") if line.strip() and not line.startswith("#")]
lines = ["/* Made from proto/power.tsv. */", "#pragma once", "#include <stdint.h>", "struct live_power {", "    const char *name;", "    int32_t step_s, hard_s, warn_s; /**< seconds */", "};"]
lines += [f"enum {{ {', '.join('LIVE_' + r[0].upper() for r in rows)} }};", "static const struct live_power live_powers[] = {"]
lines += [f'    {{ "{r[0]}", {int(r[1])}, {int(r[2])}, {int(r[3])} }},' for r in rows]
lines += ["};", ""]
open(out, "w", encoding="utf-8").write("\n".join(lines))
