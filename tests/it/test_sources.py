"""Sources as they come out of recorders and cheap cameras, played by the reference hub and seen by the native viewer: what changes within them changes nothing for who watches."""
import subprocess

import pytest

from lib.household import Household, watch
from lib.rtsp_server import RtspCamera
from lib.wait import until


def clip(path, seconds, *coding, layout="mono", rate=48000, tone=440, size="320x240"):
    """Some seconds of a moving picture and a tone, as MPEG-TS: such files can be put behind each other as they are."""
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}", "-f", "lavfi", "-i",
                    f"sine=frequency={tone}:sample_rate={rate}:duration={seconds},aformat=channel_layouts={layout}", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0",
                    "-pix_fmt", "yuv420p", "-c:a", "aac", *coding, "-f", "mpegts", "-y", str(path)], check=True, timeout=60)
    return path.read_bytes()


def test_sound_that_changes_its_channels_and_rate_goes_on(porch, account, tmp_path):
    """As a broadcast does between programme and film: 5.1, stereo, mono; and another rate. The tone is the same all the time."""
    part = tmp_path / "part.ts"
    recording = tmp_path / "rec.ts"
    recording.write_bytes(b"".join(clip(part, 1.5, "-ac", str(channels), layout=layout, rate=rate)
                                   for channels, layout, rate in ((6, "5.1", 48000), (2, "stereo", 48000), (1, "mono", 48000), (2, "stereo", 32000))))
    home = Household(porch, account, source=str(recording))
    try:
        seen = watch(porch, home.live().ok(201), tmp_path / "out", 250)  # more than one round
        assert seen["decode_errors"] == 0 and seen["audio_seconds"] > 8, seen
        assert seen["tone"]["ratio"] > 0.9 and seen["tone"]["level"] > 0.01, seen
    finally:
        home.close()


def opus_clip(path, seconds, *coding, offset=0):
    return clip(path, seconds, "-output_ts_offset", str(offset), *coding, "-c:a", "libopus")


@pytest.mark.parametrize("copied", ["", "copy:"], ids=["coded", "copied"])
def test_a_clock_that_is_set_goes_on_V_A4(porch, account, tmp_path, copied):
    """An hour forwards, and then back: neither waits anybody for it nor ends the session, and picture and sound stay together."""
    part, recording = tmp_path / "part.ts", tmp_path / "rec.ts"
    recording.write_bytes(b"".join(opus_clip(part, 2, offset=offset) for offset in (0, 3600, 1800)))
    home = Household(porch, account, source=f"{copied}{recording}")
    try:
        seen = watch(porch, home.live().ok(201), tmp_path / "out", 220)  # 8.8 s of a film of 6 s
        assert seen["damaged_frames"] == 0 and seen["audio_seconds"] > 7, seen
        assert seen["tone"]["ratio"] > 0.8 and abs(seen["video_after_audio_ms"]) < 100, seen
    finally:
        home.close()


def test_b_frames_that_come_later_are_refused_V_C7(porch, account, tmp_path):
    part, recording = tmp_path / "part.ts", tmp_path / "rec.ts"
    recording.write_bytes(opus_clip(part, 8) + opus_clip(part, 2, "-bf", "2", "-profile:v", "main", "-preset", "medium", "-b_strategy", "0", offset=8))
    home = Household(porch, account, source=f"copy:{recording}")
    try:
        live = home.live().ok(201)
        seen = watch(porch, live, tmp_path / "out", 50)
        assert seen["decode_errors"] == 0, seen
        home.ended(live["live_id"], "hub_failed")
    finally:
        home.close()


def test_a_camera_that_is_unplugged_is_away_until_it_is_there_again(porch, account, tmp_path):
    with RtspCamera() as camera:
        home = Household(porch, account, source=camera.url)
        try:
            def connectivity():
                seen = home.api.get(f"/v1/devices/{home.cameras[0]}").ok(200)
                return seen["connectivity"], seen["cause"], seen["status"]["wifi_rssi"]
            assert connectivity() == ("online", None, None)
            port = camera.unplug()
            home.ended(home.live().ok(201)["live_id"], "hub_failed")
            until(lambda: connectivity() == ("offline", "camera_silent", None), "the hub has said so")
            home.live().refused("hub_offline")
            camera.plug_in(port)
            until(lambda: connectivity()[0] == "online", "the hub has found it", deadline=40)
            seen = watch(porch, home.live().ok(201), tmp_path / "out", 50)
            assert seen["frames"] >= 50 and seen["decode_errors"] == 0, seen
        finally:
            home.close()
