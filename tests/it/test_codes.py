"""The check at the end of the integration run: every error code of the table was seen on the wire, and no other (S-S8, lib/codes.py)."""
import os
import subprocess
import sys

from lib import codes
from lib.openapi import ROOT

CONFTEST = os.path.join(ROOT, "tests", "it", "conftest.py")
TABLE = sorted(code for code in codes.KNOWN if code not in codes.UNIT_ONLY)


def test_s_s8_the_check_sees_what_is_outside_the_table_and_what_nobody_saw():
    known = {"a": "A", "b": "B", "c": "C"}
    assert list(codes.compare({"a": "here", "b": "there"}, True, known, {"c": "…"})) == []
    assert list(codes.compare({"a": "here"}, True, known, {"c": "…"})) == ["b was not seen on the wire by any test"]
    assert list(codes.compare({"a": "here"}, False, known, {})) == []
    assert list(codes.compare({"x": "there"}, False, known, {})) == ["x is not in proto/errors.tsv; seen in there"]


def test_s_s8_what_only_a_unit_test_raises_is_raised_by_that_test():
    for code, (why, program, test) in codes.UNIT_ONLY.items():
        with open(os.path.join(ROOT, "tests", "unit", program), encoding="utf-8") as f:
            text = f.read()
        body = text.split(f"static void {test}(void **state)\n", 1)
        assert len(body) == 2, f"{code}: {program} has no test {test}"
        assert f"PL_{codes.KNOWN[code]}" in body[1].split("\n}\n", 1)[0] or f'"{code}"' in body[1].split("\n}\n", 1)[0], f"{test} does not raise {code}"
        assert why


def a_run(folder, files, args):
    """A run of pytest over these tests with the conftest of the integration tests; its exit code and what it printed."""
    for name, text in {"conftest.py": f"import sys\nsys.path.insert(0, {os.path.dirname(CONFTEST)!r})\n" + open(CONFTEST, encoding="utf-8").read(), **files}.items():
        (folder / name).write_text(text)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args], cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout


def test_s_s8_the_run_as_a_whole_fails_and_a_part_of_it_does_not(tmp_path):
    """Two files that see all of the table but one between them, by two workers; one of them alone; one, and it saw a code outside the table."""
    half, other, two = TABLE[::2], TABLE[1::2], ["-n", "2", "--dist", "loadfile"]
    test = "from lib import codes\ndef test():\n    for c in {!r}:\n        codes.saw(c, 'a test')\n"
    files = {"test_a.py": test.format(half), "test_b.py": test.format(other[1:])}
    code, said = a_run(tmp_path, files, [*two, str(tmp_path)])
    assert code == 1 and [line for line in said.splitlines() if "S-S8" in line][1:] == [f"FAILED S-S8: {other[0]} was not seen on the wire by any test"]
    assert a_run(tmp_path, files, [str(tmp_path / "test_a.py")])[0] == 0
    code, said = a_run(tmp_path, {**files, "test_b.py": test.format(["sesame"])}, [str(tmp_path / "test_b.py")])
    assert code == 1 and "FAILED S-S8: sesame is not in proto/errors.tsv; seen in a test" in said
