"""Choosing and opening the class that reads a source."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from centernetd.capture.camera import CameraSource
from centernetd.capture.decoding import DecoderChoice, GpuDecoderError
from centernetd.capture.masks import MaskedSource
from centernetd.capture.source import Picture, Source, SourceInfo
from centernetd.capture.video import VideoSource, open_video
from centernetd.config import StreamConfig


def open_stream(stream: StreamConfig, choice: DecoderChoice | None = None) -> Source:
    """Open the source of ``stream``; its pictures carry their packets if these are recorded.

    They are masked as ``privacy.masks`` requires, so nothing else ever sees them otherwise.

    ``choice`` selects the decoder. A stream that is reopened passes the same one each time, so
    that a GPU decoder that failed is not tried again.

    Raises
    ------
    SourceError
        When it can't be opened.
    """
    source = _open(stream, choice)
    masks = stream.privacy.masks.values()
    return MaskedSource(source, masks) if masks else source


def _open(stream: StreamConfig, choice: DecoderChoice | None) -> Source:
    if stream.source.scheme == "v4l2":
        return CameraSource(stream.source, stream.stall_timeout)
    opener = partial(open_video, stream, choice or DecoderChoice(stream))
    is_pipe = stream.source.is_file and Path(stream.source.reveal()).is_fifo()
    return FileSource(opener) if stream.from_file and not is_pipe else opener()


class FileSource(Source):
    """A file that is reread by software if the GPU's decoder fails, so that no picture is lost."""

    def __init__(self, opener: Callable[[], VideoSource]) -> None:
        """Open the file with ``opener``, which must open the same one each time.

        Raises
        ------
        SourceError
            When it can't be opened or has no video.
        """
        self._open = opener
        try:
            self._source = opener()
        except GpuDecoderError:
            self._source = opener()

    @property
    def info(self) -> SourceInfo:
        """Properties of the file."""
        return self._source.info

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded in the last reading."""
        return self._source.damaged

    @property
    def held_back(self) -> int:
        """Always 0: every picture of a file is returned."""
        return self._source.held_back

    def __iter__(self) -> Iterator[Picture]:
        """Yield each picture exactly once.

        Raises
        ------
        SourceError
            When reading the file fails.
        """
        given = 0
        try:
            for picture in self._source:
                given += 1
                yield picture
        except GpuDecoderError:
            self._source.close()
            self._source = self._open()
            yield from islice(self._source, given, None)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
