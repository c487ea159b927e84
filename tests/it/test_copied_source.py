"""Cameras whose own coded stream is handed on (`copy:`): nothing is decoded in the hub, and nobody can ask them for a key frame."""
import json
import os
import subprocess

from lib.household import Household, Viewer, watch
from lib.rtsp_server import RtspCamera
from lib.wait import until


def size_of_a_picture(folder):
    """Of the first PNG that the viewer wrote."""
    name = next(n for n in sorted(os.listdir(folder)) if n.endswith(".png"))
    with open(os.path.join(folder, name), "rb") as f:
        head = f.read(24)
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def clip(path, *coding):
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=3", "-f", "lavfi", "-i",
                    "sine=frequency=440:sample_rate=48000:duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-g", "75", "-pix_fmt", "yuv420p", *coding, "-c:a", "libopus", "-y",
                    str(path)], check=True, timeout=60)
    return f"copy:{path}"


def test_an_rtsp_cameras_stream_is_handed_on_as_it_is(porch, account, tmp_path):
    with RtspCamera() as camera:
        home = Household(porch, account, source="copy:" + camera.url)
        try:
            first = home.live().ok(201)
            viewer = Viewer(porch, first["srtp"], tmp_path / "one", "--frames", 250)
            until(lambda: home.api.get(f"/v1/live/{first['live_id']}").ok(200)["state"] == "live", "the camera's first key frame has come")
            # In the middle of a GOP, and with nobody to ask: the relay's ring has what a viewer needs.
            joined = watch(porch, home.live().ok(201), tmp_path / "two", 50)
            assert joined["frames"] >= 50 and joined["decode_errors"] == 0, joined
            seen = viewer.summary()
            assert seen["frames"] >= 250 and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, seen
            assert seen["tone"]["ratio"] > 0.8 and seen["tone"]["level"] > 0.01, seen
            assert size_of_a_picture(tmp_path / "one") == (1280, 720)  # the hub's own encoder makes 640x360 of it
            video = home.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)["video"]
            assert video["can"] == [] and 100 <= video["gop_ms"] <= 10_000, video
        finally:
            home.close()
        # `can: []` is obeyed: two viewers came, one in the middle of a GOP, and the source was asked for nothing.
        done = [json.loads(line) for line in open(home.hub.log, encoding="utf-8") if "stream.done" in line]
        assert done and all(d["key_asked"] == 0 and d["frames"] > 250 for d in done), done


def test_a_file_is_copied_over_and_over(porch, account, tmp_path):
    home = Household(porch, account, source=clip(tmp_path / "film.mp4", "-bf", "0"))
    try:
        seen = watch(porch, home.live().ok(201), tmp_path / "out", 200)  # 8 s of a film of 3 s
        assert seen["frames"] >= 200 and seen["decode_errors"] == 0 and seen["damaged_frames"] == 0, seen
        assert seen["tone"]["ratio"] > 0.8 and size_of_a_picture(tmp_path / "out") == (1280, 720), seen
    finally:
        home.close()


def test_b_frames_are_refused_V_C7(porch, account, tmp_path):
    home = Household(porch, account, source=clip(tmp_path / "film.mp4", "-bf", "2", "-profile:v", "main", "-preset", "medium"))
    try:
        home.ended(home.live().ok(201)["live_id"], "hub_failed")
    finally:
        home.close()
