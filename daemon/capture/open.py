"""Which class reads a source."""

from pathlib import Path

from daemon.capture.camera import CameraSource
from daemon.capture.decoding import Decoding
from daemon.capture.file import FileSource
from daemon.capture.source import Source
from daemon.capture.video import VideoSource
from daemon.config.secret import SourceUri
from daemon.config.stream import Transport


def open_source(
    uri: SourceUri,
    timeout: float,
    decoding: Decoding | None = None,
    *,
    packets: bool = False,
    transport: Transport = "tcp",
) -> Source:
    """Open ``uri``; ``timeout`` seconds limit opening it and, on a network, each read.

    ``decoding``, which lasts longer than one source, decides what decodes it: software, if it is
    left out. The pictures bring their ``packets`` along where they are asked for. ``transport``
    is how rtsp:// sends them.

    Raises
    ------
    SourceError
        When it can't be opened.
    """
    if uri.scheme == "v4l2":
        return CameraSource(uri, timeout)
    decoding = decoding or Decoding()
    if uri.is_file and Path(uri.reveal()).is_file():
        return FileSource(uri, timeout, decoding, packets=packets)
    return VideoSource(uri, timeout, decoding, packets=packets, transport=transport)
