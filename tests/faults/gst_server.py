"""A real RTSP server, for Debian's own Python: `/usr/bin/python3 gst_server.py PORT`.

It serves the same moving ball as /h264 and as /h265 at ten frames per second; as /sliced with
parameter sets before each slice of a key frame, and as /refreshed without key frames.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURES = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=128,framerate=10/1"
)
ENCODERS = {
    "h264": "x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0",
    "sliced": "x264enc tune=zerolatency key-int-max=10 ! rtph264pay config-interval=-1 name=pay0",
    "refreshed": "x264enc tune=zerolatency key-int-max=10 intra-refresh=true sliced-threads=false"
    " ! rtph264pay name=pay0",
    "h265": "x265enc tune=zerolatency key-int-max=10 ! rtph265pay name=pay0",
}


def main(port: str) -> None:
    """Serve until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_service(port)
    for name, encoder in ENCODERS.items():
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(f"( {PICTURES} ! {encoder} )")
        factory.set_shared(True)
        server.get_mount_points().add_factory(f"/{name}", factory)
    assert server.attach(None), f"port {port} can't be had"
    print("serving", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
