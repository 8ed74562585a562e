"""One strictly increasing timeline per stream, whatever the clock of its source or file does."""

from collections import deque
from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MAX_REORDERED = 16
"""Pictures that may be decoded before one that is shown before them."""
_LIVE_TIME_BASE = Fraction(1, 90_000)  # the RTP clock of video (RFC 3551)
_MAX_JUMP = 2.0  # seconds: timestamps off by more belong to another clock
_MAX_LEAD = 10.0  # seconds in total: servers send their backlog immediately on connecting
_DRIFT = 2e-4  # by which a camera's clock may run slow or fast; crystals stay below 1e-4
_STEPS = 4  # slips, each as large as the largest, that show that timestamps run at another rate
_BACK = 2.0  # seconds by which a file may step back without a cut
_HOLE = 10.0  # seconds without pictures that are accepted in any case
_GAPS = 100  # number of gaps remembered
_UNLIKE = 10  # times the largest gap remembered


class Timeline:
    """Maps a source's pts onto the stream's timeline.

    A file keeps its own pts and time base, corrected only where pts do not increase. A live
    stream counts 1/90000 s from its first frame. It continues by the monotonic clock after
    `reconnected`, and where pts are missing, repeat, go back or run ahead of that clock, by
    2 s in one step or by 10 s in total. Pts that fall behind the clock are kept: such pictures
    are late, which `lag` measures. Clock drift is not lag: 50 ppm would add up to 10 s in two
    days. Pts that steadily run at another rate than their pictures arrive are wrong: see
    `distrust`.
    """

    def __init__(self, time_base: Fraction | None = None, *, by_arrival: bool = False) -> None:
        """Start a file's timeline in its ``time_base``, or a live one if that is None.

        With ``by_arrival``, a live timeline is based on the arrival of pictures.
        """
        self.time_base = time_base or _LIVE_TIME_BASE
        self._tick = float(self.time_base)  # seconds; fractions cost too much for every picture
        self._source_base = self.time_base
        self._ratio: tuple[int, int] | None = None  # of the source's units to ours, unless equal
        self.by_arrival = by_arrival
        self._always_by_arrival = by_arrival
        self._live = time_base is None
        self._last: int | None = None
        self._last_at = 0.0
        self._source_start: int | None = None  # the source's time at our time 0, in our units
        self._source_last: int | None = None
        self._begun_at = 0.0  # monotonic time of this connection's first frame
        self._origin: float | None = None  # when our time 0 would be due; moves with clock drift
        self._largest_slip = 0.0  # seconds; largest delay of a single picture, on this connection

    def reconnected(self) -> None:
        """Reset the source's clock: the next frame starts a new one."""
        self.by_arrival = self._always_by_arrival
        self._source_start = self._source_last = self._origin = None
        self._largest_slip = 0.0

    def seconds(self, pts: int) -> float:
        """Return the time of ``pts``, in seconds of this timeline."""
        return pts * self._tick

    @property
    def lag(self) -> float:
        """Seconds by which the last frame arrived later than its pts, on this connection."""
        return 0.0 if self._last is None else self._behind(self._last, self._last_at)

    def distrust(self) -> bool:
        """Switch to arrival times if the present lag built up evenly; return `by_arrival`.

        A network or camera that pauses makes some pictures very late; timestamps that run at
        another rate make each a little later.
        """
        if self._is_even(self.lag):
            self._take_clock()
        return self.by_arrival

    def _is_even(self, off: float) -> bool:
        return off > _STEPS * self._largest_slip

    def _take_clock(self) -> None:
        self.by_arrival = True
        self._origin = None  # earlier lag no longer counts

    def stamp(self, pts: int | None, time_base: Fraction, now: float) -> int:
        """Return the timeline's pts for a picture decoded at the monotonic time ``now``."""
        last = self._last
        if not self._live:
            stamped = self._file_pts(pts, time_base)
            stamped = stamped if last is None else max(stamped, last + 1)
        elif last is None:
            stamped = self._live_pts(pts, time_base, now)
            self._origin = self._begun_at = now
        else:
            stamped = max(self._live_pts(pts, time_base, now), last + 1)
            self._measure_lag(stamped, last, now)
        self._last, self._last_at = stamped, now
        return stamped

    def _measure_lag(self, stamped: int, last: int, now: float) -> None:
        passed, due = now - self._last_at, stamped * self._tick
        slip = passed - due + last * self._tick
        if slip > self._largest_slip:
            self._largest_slip = slip
        if self._origin is None:
            self._origin, self._begun_at = now - due, now
            return
        behind, most = now - due - self._origin, _DRIFT * passed
        self._origin += most if behind > most else max(behind, -most)

    def _file_pts(self, pts: int | None, time_base: Fraction) -> int:
        if pts is None:
            return self._last or 0  # `stamp` moves it behind the last
        return self._converted(pts, time_base)

    def _converted(self, pts: int, time_base: Fraction) -> int:
        """Return a source's ``pts`` in units of `time_base`."""
        if time_base is not self._source_base:
            self._source_base = time_base
            ratio = time_base / self.time_base
            self._ratio = None if ratio == 1 else (ratio.numerator, ratio.denominator)
        if self._ratio is None:
            return pts
        numerator, denominator = self._ratio
        return round(pts * numerator / denominator)

    def _live_pts(self, pts: int | None, time_base: Fraction, now: float) -> int:
        if pts is None or self.by_arrival:
            return self._by_clock(now)
        source_time = self._converted(pts, time_base)
        repeated, self._source_last = source_time == self._source_last, source_time
        if repeated:
            return self._by_clock(now)
        if self._source_start is not None and self._last is not None:
            by_source = source_time - self._source_start
            if by_source > self._last and self._is_believed(by_source, now):
                return by_source
        by_clock = self._by_clock(now)
        self._source_start = source_time - by_clock
        return by_clock

    def _by_clock(self, now: float) -> int:
        if self._last is None:
            return 0
        return self._last + round((now - self._last_at) / self._tick)

    def _is_believed(self, by_source: int, now: float) -> bool:
        """Return whether a picture may be this early; a source catching up after a delay is not."""
        lead = -self._behind(by_source, now)
        if lead <= _MAX_JUMP:
            return True
        if lead > _MAX_LEAD:
            if now - self._begun_at > _MAX_LEAD and self._is_even(lead):
                self._take_clock()
            return False
        return (by_source - self._by_clock(now)) * self._tick <= _MAX_JUMP

    def _behind(self, pts: int, now: float) -> float:
        """Return by how many seconds a picture with these ``pts`` is late."""
        return 0.0 if self._origin is None else now - pts * self._tick - self._origin


class FileTimes:
    """The times of a file's packets and pictures, with cuts closed.

    If the format is ``without_pts``, a picture gets the earliest dts not shown yet.
    """

    def __init__(self, time_base: Fraction, *, without_pts: bool) -> None:
        """Start with times in units of ``time_base`` seconds."""
        self.end = 0
        """The end of the last shown picture."""
        self._without_pts = without_pts
        self._splice = Splice(time_base)
        self._next_dts = 0
        self._decoded: deque[int] = deque(maxlen=MAX_REORDERED + 1)  # dts of pictures not shown

    @property
    def cuts(self) -> int:
        """The number of cuts closed."""
        return self._splice.cuts

    def place(self, packet: "Packet[VideoStream]") -> None:
        """Shift a packet to its place on the timeline, before it is decoded or copied."""
        if self._without_pts and packet.size:
            if packet.dts is None:  # an elementary stream has only a rate, in its durations
                packet.dts = self._next_dts
            self._next_dts = packet.dts + (packet.duration or 1)
            packet.pts = packet.dts  # the decoder hands it on to the picture: see `show`
        if shift := self._splice.shift(packet.dts, packet.pts):
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        if packet.dts is not None:
            self._decoded.append(packet.dts)

    def forget(self, packet: "Packet[VideoStream]") -> None:
        """Take back the last placed packet, which makes no picture."""
        if packet.dts is not None:
            self._decoded.pop()

    def show(self, frame: VideoFrame) -> tuple[int, int]:
        """Return the dts of the packet that made ``frame``, if without pts, and the frame's pts."""
        decoded = pts = self.end if frame.pts is None else frame.pts
        if self._without_pts and self._decoded:  # FFmpeg's guess is off by a picture now and then
            pts = self._decoded.popleft()
        self.end = pts + (frame.duration or 1)
        return decoded, pts


class Splice:
    """Finds cuts, and moves what follows a cut directly behind what precedes it.

    It is called for each packet, in decoding order, so that pictures and copied packets move
    alike. A cut is a step back by more than 2 s or ten times the largest of the last hundred
    gaps, or a step forward by more than 10 s and ten times that gap.
    """

    def __init__(self, time_base: Fraction) -> None:
        """Start with times in units of ``time_base`` seconds."""
        self.cuts = 0
        self._most_back, self._longest_hole = round(_BACK / time_base), round(_HOLE / time_base)
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._last: int | None = None  # dts as in the file
        self._end = 0  # of the shown pictures, after shifting
        self._shift = 0

    def shift(self, dts: int | None, pts: int | None) -> int:
        """Return the offset to add to the times of a packet with this ``dts`` and ``pts``."""
        decoded = pts if dts is None else dts
        if decoded is None:
            return self._shift
        shown = decoded if pts is None else pts
        if self._last is None:
            self._end = shown
        elif self._is_cut(decoded - self._last):
            self.cuts += 1
            step = self._gaps[-1] if self._gaps else 1
            moved = self._last + self._shift
            self._shift = step + max(self._end - shown, moved - decoded)
        elif decoded > self._last:
            self._gaps.append(decoded - self._last)
        self._last, self._end = decoded, max(self._end, shown + self._shift)
        return self._shift

    def _is_cut(self, gap: int) -> bool:
        if 0 <= gap <= self._longest_hole:
            return False
        if not self._gaps:
            return -gap > self._most_back
        unlike = _UNLIKE * max(self._gaps)
        return -gap > min(self._most_back, unlike) or gap > max(self._longest_hole, unlike)
