"""Which class reads a source."""

from daemon.capture.camera import CameraSource
from daemon.capture.source import Source
from daemon.capture.video import VideoSource
from daemon.config.secret import SourceUri


def open_source(uri: SourceUri, timeout: float) -> Source:
    """Open ``uri``; ``timeout`` seconds limit opening it and, on a network, each read.

    Raises
    ------
    SourceError
        When it can't be opened.
    """
    return CameraSource(uri) if uri.scheme == "v4l2" else VideoSource(uri, timeout)
