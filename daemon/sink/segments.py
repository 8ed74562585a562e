"""Packets into files, cut where the clock and the codec say."""

from pathlib import Path

from daemon.config import RecordConfig
from daemon.flow import Packet, StreamStatus
from daemon.sink.fragments import FragmentedMp4
from daemon.sink.storage import Storage


class Segments:
    """Writes one stream's packets into files that follow one another.

    A new one begins with the first key frame

    - after the wall clock has passed a multiple of ``config.segment``,
    - of another coding, such as another size,
    - after a gap or a failure.
    """

    def __init__(
        self, stream: str, config: RecordConfig, storage: Storage, status: StreamStatus, mark: str
    ) -> None:
        self._stream = stream
        self._config = config
        self._storage = storage
        self._status = status
        self._mark = mark
        self._file: FragmentedMp4 | None = None
        self._first: Packet | None = None  # of the present file
        self._last = 0

    def due(self, wall_time: float) -> bool:
        """Whether a new file is to begin at a Unix time."""
        return self._first is None or self._period(wall_time) != self._period(self._first.wall_time)

    def ends_before(self, packet: Packet) -> bool:
        """Whether the present file is to be completed before ``packet`` comes."""
        if self._first is None:
            return False
        if not self._follows(packet):
            return True
        other = packet.coding != self._first.coding
        return packet.is_keyframe and (other or self.due(packet.wall_time))

    def takes(self, packet: Packet) -> bool:
        """Whether ``packet`` can be decoded where it would come."""
        return packet.is_keyframe or (self._file is not None and self._follows(packet))

    def write(self, packet: Packet) -> int:
        """Write a packet that `takes` lets pass; returns the number of the last one safe by it.

        Raises
        ------
        SinkError
            When every packet not told to be safe is lost; only `abandon` makes sense then.
        """
        self._storage.check()
        file = self._file or self._open(packet)
        before = file.size
        try:
            file.write(packet)
        finally:
            self._status.bytes_written += file.size - before
        self._last = packet.number
        return file.safe

    def finish(self) -> int:
        """Complete the file; returns as `write` does, and raises as it does."""
        file = self._file
        if file is None:
            return 0
        before = file.size
        file.close()
        self._status.bytes_written += file.size - before
        self._complete(file, file.part)
        return file.safe

    def _follows(self, packet: Packet) -> bool:
        return packet.number == self._last + 1

    def _period(self, wall_time: float) -> int:
        return int(wall_time // self._config.segment) if self._config.segment else 0

    def _open(self, first: Packet) -> FragmentedMp4:
        path = self._storage.place(self._config.path, self._stream, first.wall_time)
        self._file = FragmentedMp4(path, first, self._mark)
        self._first = first
        self._storage.begin(self._file.part)
        self._status.output = str(self._file.path)
        return self._file

    def abandon(self) -> None:
        """Put away the file after a failure; there may be none."""
        if self._file is not None:
            part = self._file.part
            if self._file.abandon():
                self._complete(self._file, part)
            else:
                self._storage.end(part, None)
        self._file = self._first = None

    def _complete(self, file: FragmentedMp4, part: Path) -> None:
        self._storage.end(part, file.path)
        self._status.segments += 1
        self._status.output = str(file.path)
        self._file = self._first = None
