"""Checking whether a file was read to its end."""

from collections import deque
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from centernetd.capture.timeline import MAX_REORDERED
from centernetd.errors import SourceError

_ONE_DURATION = frozenset({"asf"})  # formats that announce the same for every track
CONTINUES = "its video continues in another track, which is not read"
_HELD = 4  # packets of a track a demuxer may still hold when the next track begins
_MAX_GAP = 1.0  # seconds a file may end before its announced end


class Ending:
    """Tracks the packets of a file, to find out at its end what is missing."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        """Check the reading of ``stream``."""
        self._stream = stream
        self._own, self._longest = _announced_ends(container, stream)
        self._ends: dict[Stream, int] = {}  # of each track, in its time base
        self._read = 0  # packets of the stream
        self._last: deque[int] = deque(maxlen=2 * MAX_REORDERED)  # pictures that came with them
        self._others: dict[int, tuple[int, int]] = {}  # ours read before, and theirs

    def note(self, packet: "Packet[Stream]") -> None:
        """Record a packet of any track."""
        if packet.pts is not None:
            end, track = packet.pts + (packet.duration or 0), packet.stream
            self._ends[track] = max(self._ends.get(track, end), end)
        if packet.stream is self._stream:
            self._read += 1
        elif isinstance(packet.stream, VideoStream) and packet.size:
            begun, count = self._others.get(packet.stream.index, (self._read, 0))
            self._others[packet.stream.index] = (begun, count + 1)

    def note_decoded(self, packet: "Packet[VideoStream]", pictures: int) -> None:
        """Record how many pictures came with a packet of the stream, if it is to be shown."""
        if packet.size and not packet.is_discard:
            self._last.append(pictures)

    def check(self, pictured: Fraction, *, cut: bool) -> None:
        """Check a file whose pictures end at the second ``pictured``.

        Some formats announce only the end of the longest track, which may be audio or subtitles.
        If times were ``cut``, the announced end is ignored.

        Raises
        ------
        SourceError
            When the video continues in another track or, as it seems, in another coding, or ends
            long before its announced end.
        """
        moved = sum(
            count
            for begun, count in self._others.values()
            if count > _HELD and self._read - begun <= _HELD
        )
        if moved:
            raise SourceError(f"{CONTINUES}: {moved} packets of it")
        last = len(self._last)
        if last == self._last.maxlen and 2 * sum(self._last) < last:
            raise SourceError(
                f"its last {last} video packets yield {sum(self._last)} pictures: they are "
                "damaged, or coded differently from its beginning, which is not supported"
            )
        ends = [end * (track.time_base or 0) for track, end in self._ends.items()]
        own, end = self._own, max([pictured, *ends])
        missing = float(self._longest - end if own is None else own - pictured)
        if missing > _MAX_GAP and not cut:
            raise SourceError(
                f"the file was cut off {missing:.1f} s before its end, or announces a wrong one"
            )


def _announced_ends(
    container: InputContainer, stream: VideoStream
) -> tuple[Fraction | None, Fraction]:
    """Return when the pictures (None if unknown) and the longest track should end, in seconds.

    Formats count from 0 or from the first picture; the earlier end is used.
    """
    longest = Fraction(_earlier(container.duration, container.start_time), av.time_base)
    if container.format.name in _ONE_DURATION or not (stream.duration and stream.time_base):
        return None, longest
    return _earlier(stream.duration, stream.start_time) * stream.time_base, longest


def _earlier(duration: int | None, start: int | None) -> int:
    """Return the end if the time counts from 0, or from a ``start`` before it (33 bits wrapped)."""
    return (duration or 0) + min(start or 0, 0)
