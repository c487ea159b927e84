"""Sources as they come out of recorders and cheap cameras, played by the reference hub and seen by the native viewer: what changes within them changes nothing for who watches."""
import subprocess

from lib.household import Household, watch


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
