#!/usr/bin/env python3
"""Embeds a document as bytes, YAML as JSON, of Markdown the first block of HTML: gen_embed.py SOURCE OUT.c NAME HEADER"""
import json
import re
import sys

import yaml

source, out, name, header = sys.argv[1:]
text = open(source, encoding="utf-8").read()
if source.endswith(".yaml"):
    text = json.dumps(yaml.safe_load(text), separators=(",", ":"), ensure_ascii=False, default=str)
elif source.endswith(".md"):
    text = re.search(r"^```html\n(.*?)^```$", text, re.M | re.S)[1]
text = text.encode()
rows = [", ".join(str(b) for b in text[i:i + 32]) for i in range(0, len(text), 32)]
with open(out, "w", encoding="utf-8") as f:
    f.write(f"/* Made from {source.rsplit('/', 1)[-1]}. */\n#include \"{header}\"\n\nstatic const unsigned char bytes[] = {{\n    ")
    f.write(",\n    ".join(rows))
    f.write(f"\n}};\nconst struct pl_str {name} = {{ (const char *)bytes, sizeof bytes }};\n")
