"""Packets into files, cut where the clock and the codec say."""

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from centernetd.config import RecordConfig
from centernetd.flow import Packet, StreamStatus
from centernetd.sink.fragments import FragmentedMp4
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

MOST = 10
WITHIN = 10.0  # seconds in which MOST files of a stream may begin, whatever its camera does
TOO_OFTEN = (
    "its recordings would begin more often than once a second (does its coding change again and "
    "again?): what they would hold is dropped"
)


class Floor:
    """Lets one thing begin a second on average, and ten at once."""

    def __init__(
        self, *, limited: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Let everything begin where it is not ``limited``."""
        self._begun: deque[float] = deque(maxlen=MOST if limited else 0)
        self._clock = clock

    @property
    def passed(self) -> bool:
        """Whether one more may begin now."""
        return len(self._begun) < MOST or self._clock() - self._begun[0] >= WITHIN

    def begin(self) -> None:
        """Note that one begins."""
        self._begun.append(self._clock())


class Segments:
    """Writes one stream's packets into files that follow one another.

    A new one begins with the first key frame

    - after the wall clock has passed a multiple of ``config.segment``,
    - after the present one has grown to ``storage.largest``,
    - of another coding, such as another size,
    - that is hidden: only at a file's beginning can pictures be,
    - after a gap or a failure,

    but no sooner than ``floor`` allows: till then the present one is continued, and where that
    can't be, nothing is taken.
    """

    def __init__(
        self,
        stream: str,
        config: RecordConfig,
        storage: Storage,
        status: StreamStatus,
        mark: str,
        floor: Floor,
    ) -> None:
        self._stream = stream
        self._config = config
        self._storage = storage
        self._status = status
        self._mark = mark
        self._floor = floor
        self._file: FragmentedMp4 | None = None

    @property
    def may_begin(self) -> bool:
        """Whether a new file may begin now."""
        return self._floor.passed

    @property
    def last(self) -> int:
        """The number of the last packet in the present file, 0 if there is none."""
        return 0 if self._file is None else self._file.last

    def due(self, wall_time: float) -> bool:
        """Whether a new file is to begin at a Unix time, and may."""
        file = self._file
        if file is None:
            return self.may_begin
        over = self._period(wall_time) != self._period(file.first.wall_time)
        return (over or file.size >= self._storage.largest) and self.may_begin

    def ends_before(self, packet: Packet) -> bool:
        """Whether the present file is to be completed before ``packet`` comes."""
        file = self._file
        if file is None:
            return False
        if packet.number != file.last + 1:
            return True
        other = packet.coding != file.first.coding
        return packet.is_keyframe and (other or packet.hidden or self.due(packet.wall_time))

    def may_lead(self, packet: Packet) -> bool:
        """Whether what is shown before a key frame, and needs the present file, may follow it."""
        file = self._file
        if file is None or packet.number != file.last + 1 or packet.hidden:
            return False
        return packet.coding == file.first.coding and packet.pts > packet.dts

    def takes(self, packet: Packet) -> bool:
        """Whether ``packet`` has a file that it can come into, once `ends_before` was obeyed."""
        if self._file is None and packet.is_keyframe and not self.may_begin:
            log.warning(TOO_OFTEN, extra={"stream": self._stream})
            return False
        return self._file is not None or packet.is_keyframe

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

    def abandon(self) -> None:
        """Put away the file after a failure; there may be none."""
        if self._file is not None:
            part = self._file.part
            if self._file.abandon():
                self._complete(self._file, part)
            else:
                self._storage.end(part, None)
        self._file = None

    def _period(self, wall_time: float) -> int:
        return int(wall_time // self._config.segment) if self._config.segment else 0

    def _open(self, first: Packet) -> FragmentedMp4:
        self._floor.begin()
        path = self._storage.place(self._config.path, self._stream, first.wall_time)
        self._file = FragmentedMp4(path, first, self._mark)
        self._storage.begin(self._file.part)
        self._status.output = str(self._file.path)
        return self._file

    def _complete(self, file: FragmentedMp4, part: Path) -> None:
        self._storage.end(part, file.path)
        self._status.segments += 1
        self._status.output = str(file.path)
        self._file = None
