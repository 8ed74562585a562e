"""The video that benchmarks run on."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centernetd.config import StreamConfig
from centernetd.errors import ConfigError
from centernetd.flow import Packet
from centernetd.sink.encoder import Encoder
from centernetd.sink.muxer import FragmentedMp4


class Clip:
    """An MP4 file, complete once its context exits; encoder and muxer are the recorder's."""

    def __init__(
        self, path: Path, encoder: str, width: int, height: int, time_base: Fraction
    ) -> None:
        """Open the encoder or raise `SinkError`; the file is created with the first frame."""
        self._path = path
        self._encoder = Encoder(encoder, width, height, time_base)
        self._file: FragmentedMp4 | None = None

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._store(self._encoder.flush())
        if self._file is not None:
            self._file.close()

    def write(self, image: NDArray[np.uint8], pts: int) -> None:
        """Encode and write a BGR image at ``pts`` time bases, or raise `SinkError`."""
        self._store(self._encoder.encode(image, pts))

    def _store(self, packets: list[Packet]) -> None:
        for packet in packets:
            self._file = self._file or FragmentedMp4(self._path, packet)
            self._file.write(packet)


def file_stream(streams: Iterable[StreamConfig]) -> StreamConfig:
    """Return the first stream that is a file.

    Raises
    ------
    ConfigError
        No stream reads a file.
    """
    for stream in streams:
        if stream.source.is_file:
            return stream
    raise ConfigError("bench needs a stream whose source is a file; the configuration has none")
