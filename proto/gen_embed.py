#!/usr/bin/env python3
"""Embeds an OpenAPI document as JSON bytes: gen_embed.py openapi.yaml OUT.c NAME"""
import json
import sys

import yaml

source, out, name = sys.argv[1:]
text = json.dumps(yaml.safe_load(open(source, encoding="utf-8")), separators=(",", ":"), ensure_ascii=False, default=str).encode()
rows = [", ".join(str(b) for b in text[i:i + 32]) for i in range(0, len(text), 32)]
with open(out, "w", encoding="utf-8") as f:
    f.write(f"/* Made from {source.rsplit('/', 1)[-1]}. */\n#include \"node_http.h\"\n\nstatic const unsigned char bytes[] = {{\n    ")
    f.write(",\n    ".join(rows))
    f.write(f"\n}};\nconst struct pl_str {name} = {{ (const char *)bytes, sizeof bytes }};\n")
