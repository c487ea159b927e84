"""Fixtures of the integration tests. `porch` is one running system for the whole session: tests make their own accounts and devices in it.

    def test_rename(porch, account):
        system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)

A test that stops, fills or breaks the system takes `own_porch(…)`, which makes one for it alone."""
import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import codes  # noqa: E402
from lib.porch import Porch  # noqa: E402


@pytest.fixture(scope="session")
def porch(tmp_path_factory):
    p = Porch(tmp_path_factory.mktemp("porch") / "data")
    try:
        yield p.start()
        code = p.stop()
        assert code == 0
    finally:
        p.close()
        with open(os.path.join(os.path.dirname(p.dir), "exchanges.jsonl"), "w", encoding="utf-8") as f:
            for e in p.exchanges:
                f.write(json.dumps([e.method, e.path, e.status]) + "\n")


@pytest.fixture
def own_porch(tmp_path):
    """Makes systems of a test's own: own_porch(demo=True, …) returns one that runs."""
    made = []

    def make(start=True, name="data", **how):
        p = Porch(tmp_path / name, **how)
        made.append(p)
        return p.start() if start else p

    yield make
    for p in made:
        p.close()


@pytest.fixture
def account(porch):
    """A fresh account with a signed-in client."""
    return porch.sign_up()


@pytest.fixture
def other_account(porch):
    """Somebody else."""
    return porch.sign_up()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the ends of the daemons' logs."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        p = item.funcargs.get("porch")
        if p is not None:
            report.sections.append(("daemons", p.logs()))
            report.sections.append(("last exchanges", "\n".join(f"{e.method} {e.path} {e.status}" for e in list(p.exchanges)[-12:])))


# ---- S-S8: the error codes that the run saw, from all its workers, are held against proto/errors.tsv at its end.

def is_whole(config):
    """All tests of this folder were asked for, by nothing but its name."""
    picked = [config.getoption(name, None) for name in ("keyword", "markexpr", "deselect", "lf", "ignore", "ignore_glob")]
    return not any(picked) and [os.path.realpath(a) for a in config.args] == [os.path.dirname(os.path.realpath(__file__))]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    for code, where in getattr(node, "workeroutput", {}).get("codes", {}).items():
        codes.saw(code, where)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["codes"] = codes.SEEN
        return
    session.config.codes_wrong = list(codes.compare(codes.SEEN, is_whole(session.config)))
    if session.config.codes_wrong and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    wrong = getattr(config, "codes_wrong", [])
    if wrong:
        terminalreporter.section("error codes on the wire (S-S8)")
        for line in wrong:
            terminalreporter.line("FAILED S-S8: " + line)
