"""Choosing and opening the class that reads a source."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from centernetd.capture.camera import CameraSource
from centernetd.capture.decoding import Decoding
from centernetd.capture.file import FileSource
from centernetd.capture.source import Source
from centernetd.capture.video import VideoSource
from centernetd.config.secret import SourceUri
from centernetd.config.stream import StreamConfig, Transport


def open_source(
    uri: SourceUri,
    timeout: float,
    decoding: Decoding | None = None,
    *,
    packets: bool = False,
    transport: Transport = "tcp",
    follow_hosts: Sequence[str] = (),
    once: bool | None = None,
) -> Source:
    """Open ``uri``; ``timeout`` seconds limit opening it and, on a network, each read.

    ``decoding``, which is shared by successive sources, selects the decoder; by default it is
    software. With ``packets``, pictures carry their packets. ``transport`` is used by rtsp://.
    http(s):// may lead to its own host and to ``follow_hosts``. A source read ``once`` is
    treated as a file, wherever it is; with None only paths are.

    Raises
    ------
    SourceError
        When it can't be opened.
    """
    if uri.scheme == "v4l2":
        return CameraSource(uri, timeout)
    once = uri.is_file if once is None else once
    opener = partial(
        VideoSource,
        uri,
        timeout,
        decoding or Decoding(),
        packets=packets,
        transport=transport,
        follow_hosts=follow_hosts,
        once=once,
    )
    if once and not (uri.is_file and Path(uri.reveal()).is_fifo()):
        return FileSource(opener)
    return opener()


def stream_opener(stream: StreamConfig, *, packets: bool = False) -> Callable[..., Source]:
    """Return a function that opens the sources of ``stream`` one after another."""
    return partial(
        open_source,
        decoding=Decoding(stream.decode, stream.device, stream.name),
        packets=packets,
        transport=stream.transport,
        follow_hosts=stream.follow_hosts,
        once=stream.from_file,
    )


def open_stream(stream: StreamConfig, *, packets: bool = False) -> Source:
    """Open the source of ``stream``; raise SourceError when it can't be opened."""
    return stream_opener(stream, packets=packets)(stream.source, stream.stall_timeout)
