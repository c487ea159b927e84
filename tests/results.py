"""bench/RESULTS.md by its sections: what was measured, and what long runs were and came to."""
import os

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench", "RESULTS.md")


def _change(heading, of):
    """of(the section's text) takes its place; a section that is not there yet comes last."""
    text, heading = "# Results\n", f"## {heading}\n"
    if os.path.exists(PATH):
        with open(PATH, encoding="utf-8") as f:
            text = f.read()
    if heading not in text:
        text = text.rstrip() + "\n\n" + heading
    before, after = text.split(heading)
    section, mark, rest = after.partition("\n## ")
    with open(PATH, "w", encoding="utf-8") as f:
        f.write(before + heading + "\n" + of(section.strip("\n")) + "\n" + (mark + rest if mark else ""))


def record(heading, line):
    """One line more under this heading."""
    _change(heading, lambda section: section + "\n" + line if section else line)


def replace(heading, text):
    """A measurement in the place of the one before it."""
    _change(heading, lambda section: text)
