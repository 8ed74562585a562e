"""Files that can be read twice."""

from collections.abc import Callable, Iterator
from itertools import islice

from centernetd.capture.decoding import GpuDecoderError
from centernetd.capture.source import Picture, SourceInfo
from centernetd.capture.video import VideoSource


class FileSource:
    """A file that is read anew by software where the GPU's decoder fails: no picture is lost."""

    def __init__(self, opener: Callable[[], VideoSource]) -> None:
        """Open with ``opener`` what will be the same when it is opened again.

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
        """What is known of the file."""
        return self._source.info

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded, in the last reading."""
        return self._source.damaged

    @property
    def held_back(self) -> int:
        """Always 0: of a file, every picture is given out."""
        return self._source.held_back

    def __iter__(self) -> Iterator[Picture]:
        """Yield each picture once.

        Raises
        ------
        SourceError
            When the file can't be read on.
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
