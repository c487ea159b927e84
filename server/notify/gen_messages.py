#!/usr/bin/env python3
"""Embeds the texts of deploy/messages, so that an empty configuration has them: gen_messages.py OUT.c FILE..."""
import sys

out, files = sys.argv[1], sys.argv[2:]
with open(out, "w", encoding="utf-8") as f:
    f.write("/* Made from deploy/messages. */\n#include \"notify_int.h\"\n\n")
    for i, path in enumerate(files):
        with open(path, "rb") as text:
            f.write(f"static const unsigned char text_{i}[] = {{ {', '.join(map(str, text.read()))} }};\n")
    f.write("\nconst struct notify_embedded notify_embedded[] = {\n")
    for i, path in enumerate(files):
        locale, name = path.split("/")[-2:]
        f.write(f"    {{ \"{locale}\", \"{name.removesuffix('.txt')}\", {{ (const char *)text_{i}, sizeof text_{i} }} }},\n")
    f.write("};\nconst size_t notify_embedded_n = sizeof notify_embedded / sizeof *notify_embedded;\n")
