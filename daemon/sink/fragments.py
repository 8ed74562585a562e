"""Fragmented MP4: a recording that loses nothing but its last moment when it is cut off."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.errors import SinkError
from daemon.sink.encoder import Encoder
from daemon.sink.file import OutputFile, part_of, unused

MUXER = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "250000",  # microseconds
    "flush_packets": "1",
}


class FragmentedMp4:
    """One MP4 file being written, as ``<path>.part`` until it is complete.

    The muxer holds packets back until their fragment is full. It writes that fragment, whole,
    when it is given the packet that begins the next one: so when the file has grown, exactly
    the packets before the present one are in it.
    """

    def __init__(
        self, path: Path, encoder: str, width: int, height: int, time_base: Fraction
    ) -> None:
        """Create the file, under another name if there is one of this name.

        Raises
        ------
        SinkError
            When the file can't be created or the encoder doesn't open.
        """
        self._wanted = path
        self.path = unused(path)
        self._file = OutputFile(part_of(self.path), "x")
        self._packets = self._safe = 0
        self._origin: int | None = None
        self._container = av.open(self._file, "w", format="mp4", options=MUXER)
        try:
            with _telling(self._file.path):
                self._encoder = Encoder(self._container, encoder, width, height, time_base)
                self._container.start_encoding()
        except SinkError:
            self.abandon()
            raise

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.size

    def write(self, image: NDArray[np.uint8], pts: int) -> int:
        """Encode a frame; returns how many frames came into the file by it.

        The file's time starts at the first ``pts``.

        Raises
        ------
        SinkError
            When the file can't be written; only `abandon` makes sense then.
        """
        if self._origin is None:
            self._origin = pts
        with _telling(self._file.path):
            count = self._mux(self._encoder.encode(image, pts - self._origin))
        self._file.sync()
        return count

    def close(self) -> int:
        """Complete the file and give it its name; returns how many frames came in by it.

        Raises
        ------
        SinkError
            When that fails; only `abandon` makes sense then.
        """
        before = self._safe
        with _telling(self._file.path):
            self._mux(self._encoder.flush())
            self._container.close()
            self._file.close()
            self._safe = self._packets
            self._rename()
        return self._safe - before

    def abandon(self) -> bool:
        """Put the file away after a failure, cut at its last whole fragment.

        Returns whether anything is left of it; a file without a frame is removed. Never raises.
        """
        self._file.abandon()
        with suppress(av.FFmpegError, OSError, SinkError):
            self._container.close()
        with suppress(OSError):
            if self._safe:
                self._rename()
            else:
                self._file.path.unlink()
        return self._safe > 0

    def _mux(self, packets: Sequence["Packet[VideoStream]"]) -> int:
        before = self._safe
        for packet in packets:
            size = self._file.size
            self._container.mux(packet)
            if self._file.size > size:
                self._safe = self._packets
                self._file.keep()
            self._packets += 1
        return self._safe - before

    def _rename(self) -> None:
        taken = os.path.lexists(self.path)  # it came while we wrote
        path = unused(self._wanted) if taken else self.path
        self._file.path.rename(path)
        self.path = path


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what the muxer or the system raises into a SinkError that names ``path``."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise SinkError(f"{path} can't be written: {error.strerror}") from error
