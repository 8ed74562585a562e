"""Writing packets into files, cut according to the clock and the codec."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from centernetd.flow import Packet
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.stage import SinkContext

log = logging.getLogger(__name__)

# The beginnings of a recording's mark, which identifies it and ends with its stream's name.
FROM_CAMERA = "recorded by centernetd"  # such files may be deleted to make room
FROM_FILE = "made from a file by centernetd"

BURST = 10
INTERVAL = 1.0  # seconds per file on average; BURST may begin in quick succession
TOO_OFTEN = (
    "its recordings would start more often than once per second (does its coding keep "
    "changing?): what does not fit into the present one is dropped"
)


class RateLimit:
    """Limits how often something begins: one per `INTERVAL` on average, bursts of `BURST`.

    A full burst is allowed only after a pause. A limit per ten seconds would allow a burst every
    ten seconds, by all streams at the same moment, faster than the oldest recordings are deleted.
    """

    def __init__(
        self, *, limited: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Set up the limit; unless ``limited``, everything may begin."""
        self._limited = limited
        self._clock = clock
        self._used_until = clock()  # one per interval; ahead of the clock after a burst

    @property
    def allowed(self) -> bool:
        """Whether another may begin now."""
        return not self._limited or self._used_until - self._clock() <= (BURST - 1) * INTERVAL

    def begin(self) -> None:
        """Record that one begins."""
        self._used_until = max(self._used_until, self._clock()) + INTERVAL


class Segments:
    """Writes one stream's packets into consecutive files.

    A new file begins with the first key frame

    - after the wall clock has passed a multiple of ``config.segment``,
    - after the present file has grown to ``storage.largest``,
    - of another coding, such as another size,
    - that is hidden, because hidden packets must be at a file's beginning,
    - after a gap or a failure,

    but, unless the source is a file, no more often than `RateLimit` allows. Until then the
    present file is continued, or, if that is impossible, packets are dropped.
    """

    def __init__(self, context: SinkContext, clock: Callable[[], float] = time.monotonic) -> None:
        stream = context.stream
        self._stream = stream.name
        self._config = stream.record
        self._storage = context.storage
        self._status = context.status
        self._mark = f"{FROM_FILE if stream.from_file else FROM_CAMERA}: {stream.name}"
        self._limit = RateLimit(limited=not stream.from_file, clock=clock)
        self._file: FragmentedMp4 | None = None
        self._completed: str | None = None  # the path of the last file that was kept

    @property
    def may_begin(self) -> bool:
        """Whether a new file may begin now."""
        return self._limit.allowed

    @property
    def last(self) -> int:
        """The number of the last packet in the present file, 0 without one."""
        return 0 if self._file is None else self._file.last

    def due(self, wall_time: float) -> bool:
        """Return whether a new file should begin at a Unix time, and may."""
        file = self._file
        if file is None:
            return self.may_begin
        over = self._period(wall_time) != self._period(file.first.wall_time)
        return (over or file.size >= self._storage.largest) and self.may_begin

    def ends_before(self, packet: Packet) -> bool:
        """Return whether the present file must be completed before ``packet``."""
        file = self._file
        if file is None:
            return False
        if packet.number != file.last + 1:
            return True
        other = packet.coding != file.first.coding
        return packet.is_keyframe and (other or packet.hidden or self.due(packet.wall_time))

    def may_lead(self, packet: Packet) -> bool:
        """Return whether pictures shown before a key frame, needing this file, may follow it."""
        file = self._file
        if file is None or packet.number != file.last + 1 or packet.hidden:
            return False
        return packet.coding == file.first.coding and packet.pts > packet.dts

    def takes(self, packet: Packet) -> bool:
        """Return whether ``packet`` can be written, after acting on `ends_before`."""
        if self._file is None and packet.is_keyframe and not self.may_begin:
            log.warning(TOO_OFTEN, extra={"stream": self._stream})
            return False
        return self._file is not None or packet.is_keyframe

    def write(self, packet: Packet) -> int:
        """Write a packet accepted by `takes`; return the number of the last packet now safe.

        Raises
        ------
        SinkError
            When all packets not reported as safe are lost; only `abandon` may be called then.
        """
        self._storage.require_writable()
        file = self._file or self._open(packet)
        before = file.size
        try:
            file.write(packet)
        finally:
            self._status.bytes_written += file.size - before
        return file.safe

    def finish(self) -> int:
        """Complete the file; returns and raises as `write` does."""
        file = self._file
        if file is None:
            return 0
        before = file.size
        file.close()
        self._status.bytes_written += file.size - before
        self._complete(file, file.part)
        return file.safe

    def abandon(self) -> None:
        """Close the file, if any, after a failure."""
        if self._file is not None:
            part = self._file.part
            if self._file.abandon():
                self._complete(self._file, part)
            else:
                self._storage.end(part, None)
                self._status.output = self._completed
        self._file = None

    def _period(self, wall_time: float) -> int:
        return int(wall_time // self._config.segment) if self._config.segment else 0

    def _open(self, first: Packet) -> FragmentedMp4:
        self._limit.begin()
        path = self._storage.place(self._config.path, self._stream, first.wall_time)
        self._file = FragmentedMp4(path, first, self._mark)
        self._storage.begin(self._file.part)
        self._status.output = str(self._file.path)
        return self._file

    def _complete(self, file: FragmentedMp4, part: Path) -> None:
        self._storage.end(part, file.path)
        self._status.segments += 1
        self._status.output = self._completed = str(file.path)
        self._file = None
