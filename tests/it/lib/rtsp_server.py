"""A real RTSP camera: GStreamer's server with one stream of H.264 (1280x720, a key frame every four seconds, nobody can ask for one) and Opus (440 Hz).

    with RtspCamera() as camera: camera.url        (unplug() and plug_in() again, at the same address)"""
import os
import subprocess
import sys

PIPELINE = """( videotestsrc is-live=true ! video/x-raw,width=1280,height=720,framerate=25/1 ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=1500 key-int-max=100
  ! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 audiotestsrc is-live=true freq=440 ! audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay name=pay1 pt=97 )"""


class RtspCamera:
    def __enter__(self):
        return self.plug_in()

    def plug_in(self, port="0"):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), port], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("rtsp://"), "GStreamer's RTSP server does not start"
        return self

    def unplug(self):
        """Returns the port that it had."""
        self.process.kill()
        self.process.communicate()
        return self.url.split(":")[2].split("/")[0]

    def __exit__(self, *_):
        self.unplug()


def main():
    import gi
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/camera", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
