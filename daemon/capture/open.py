"""Which class reads a source."""

from daemon.capture.camera import CameraSource
from daemon.capture.source import Source
from daemon.capture.video import VideoSource
from daemon.config.secret import SourceUri


def open_source(uri: SourceUri, timeout: float, *, packets: bool = False) -> Source:
    """Open ``uri``; ``timeout`` seconds limit opening it and, on a network, each read.

    Its pictures bring their ``packets`` along where they are asked for.

    Raises
    ------
    SourceError
        When it can't be opened.
    """
    if uri.scheme == "v4l2":
        return CameraSource(uri)
    return VideoSource(uri, timeout, packets=packets)
