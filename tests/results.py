"""Adds a line to bench/RESULTS.md under its heading: what the long runs were, and what came of them."""
import os

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench", "RESULTS.md")


def record(heading, line):
    text, heading = "", f"## {heading}\n"
    if os.path.exists(PATH):
        with open(PATH, encoding="utf-8") as f:
            text = f.read()
    if heading not in text:
        text = (text.rstrip() + "\n\n" if text else "# Results\n\n") + heading + "\n"
    before, after = text.split(heading)
    section, mark, rest = after.partition("\n## ")
    with open(PATH, "w", encoding="utf-8") as f:
        f.write(before + heading + section.rstrip("\n") + "\n" + line + "\n" + (mark + rest if mark else ""))
