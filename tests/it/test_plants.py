"""The planted bugs of tests/chaos follow the code: what the lint says of a tree in which one does not. The trees are exported ones, without .git."""
import os
import shutil
import sys

import pytest
from lib.openapi import ROOT

sys.path.append(os.path.join(ROOT, "tests", "chaos"))
import plant  # noqa: E402


@pytest.fixture
def tree(tmp_path):
    for folder in ("server", "schema", "tests/chaos/plants"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder)
    return tmp_path


def test_all_plants_apply_to_an_exported_tree(tree):
    assert list(plant.wrong(tree)) == []


@pytest.mark.parametrize("path, old, new, name", [
    ("server/db/db.c", 'db_exec(db, "COMMIT", "COMMIT"', 'db_exec(db, "COMMIT WORK", "COMMIT"', "acknowledge-before-commit"),
    ("server/device/device_link.c", "device_sql_commands_again(c->tx, m->serial, NULL)", "device_sql_commands_again(c->tx, m->serial, &again)", "bus-only-command"),
])
def test_the_lint_sees_a_plant_that_does_not_apply(tree, path, old, new, name):
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new))
    assert [w.split(":")[0] for w in plant.wrong(tree)] == [name]


def test_the_lint_sees_a_plant_that_nobody_looks_for(tree):
    plants = tree / "tests/chaos/plants"
    shutil.move(plants / "cached-owner.patch", plants / "other.patch")
    assert list(plant.wrong(tree)) == ["other: no checker is named for it", "cached-owner: there is no such patch"]
