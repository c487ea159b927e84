"""The demo household: made over REST as an app would, kept, and watched for real."""
import json
import os
import subprocess

from lib.porch import program
from lib.wait import until


def watch(porch, out, seconds=3):
    done = subprocess.run([program("porchctl"), "--dir", porch.dir, "demo", "watch", "--out", str(out), "--seconds", str(seconds)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr + porch.logs()
    return json.loads(done.stdout)


def test_demo_shows_a_moving_picture_and_a_tone(own_porch, tmp_path):
    porch = own_porch(demo=True, transports=False)
    told = porch.ready["demo"]
    seen = watch(porch, tmp_path / "out", seconds=6)
    assert seen["frames"] >= 100 and seen["decode_errors"] == 0
    assert seen["strip"]["read"] == seen["frames"] and seen["strip"]["backwards"] == 0
    assert seen["strip"]["missing"] < 50 and seen["video_lost"] == 0  # one gap at most: from the cached key frame to the fresh one (V-A4)
    assert abs(seen["tone"]["hz"] - 440) < 5 and seen["tone"]["level"] > 0.05
    assert [f for f in os.listdir(tmp_path / "out") if f.endswith(".png")]
    # Signed in again by the kept refresh token: no second client appears, no PIN is asked for.
    sent = len(porch.ctl("outbox")["messages"])
    watch(porch, tmp_path / "out2", seconds=1)
    assert len(porch.ctl("outbox")["messages"]) == sent
    # What was cut off a moment ago is waited for, not reported.
    for name in ("porchlight-hub", "porchlight-relay", "porchlightd"):
        porch.kill(name)
        assert watch(porch, tmp_path / name, seconds=1)["frames"] > 0
    porch.stop()
    # A second run keeps all of it.
    porch.start()
    assert porch.ready["demo"] == told
    assert watch(porch, tmp_path / "out3", seconds=1)["frames"] > 0
    assert porch.stop() == 0


def test_what_the_console_tells_can_be_pasted(own_porch, tmp_path):
    """Also when the folder has a blank in its name."""
    porch = own_porch(demo=True, transports=False, name="my data")
    told = until(lambda: next((line for line in porch.console if "demo watch" in line), None), "the console tells how to see it")
    done = subprocess.run(["bash", "-c", told.split("See it")[1].strip() + f" --out '{tmp_path}/out' --seconds 1"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and json.loads(done.stdout)["frames"] > 0, (told, done.stderr)


def test_demo_with_real_transports(own_porch, tmp_path):
    """The household is made although messages go to providers, whom porchctl cannot ask for a PIN; afterwards messages are sent."""
    porch = own_porch(demo=True)
    porch.sign_up()
    assert watch(porch, tmp_path / "out", seconds=1)["frames"] > 0
    assert porch.stop() == 0
