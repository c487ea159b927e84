"""The two programs of the home as a person meets them at a terminal: the reference hub and the native viewer."""
import os
import signal
import subprocess

import pytest
from lib.porch import program
from lib.wait import until


def run(name, *args):
    return subprocess.run([program(name), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("name", ["porchlight-hub", "porchlight-watch"])
def test_help_is_no_error(name):
    asked, wrong = run(name, "--help"), run(name, "--nonsense")
    assert asked.returncode == 0 and asked.stdout.startswith(name) and not asked.stderr
    assert wrong.returncode == 64 and name in wrong.stderr and not wrong.stdout


@pytest.mark.parametrize("name", ["porchlight-hub", "porchlight-watch"])
def test_a_word_that_is_no_option_is_refused(name):
    refused = run(name, "session.json")
    assert refused.returncode == 64 and refused.stderr.startswith(name)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_viewer_that_waits_for_its_session_can_be_ended(tmp_path, sign):
    def as_at_a_terminal():  # a shell's background job, which these tests may be part of, ignores SIGINT and hands that on
        signal.signal(sign, signal.SIG_DFL)
    with subprocess.Popen([program("porchlight-watch"), "--out", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          preexec_fn=as_at_a_terminal) as viewer:
        until(lambda: os.path.exists(tmp_path / "audio.wav"), "it has begun, and reads its stdin next")
        viewer.send_signal(sign)
        assert viewer.wait(20) == -sign
