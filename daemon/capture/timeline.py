"""One strictly increasing timeline a stream, whatever its source's clock does."""

from fractions import Fraction

_LIVE_TIME_BASE = Fraction(1, 90_000)  # the RTP clock of video (RFC 3551)
_LARGEST_JUMP = 2.0  # seconds: what strays farther is no longer the same clock
_LARGEST_LEAD = 10.0  # seconds in all: what servers keep of the past comes at once on connecting
_DRIFT = 2e-4  # by which a camera's clock may run slow or fast; crystals stay under 1e-4


class Timeline:
    """Maps a source's pts onto the stream's timeline.

    A file keeps its own pts and time base, and is only corrected where they don't increase;
    where they start anew (recordings joined end to end), what follows is moved behind what was.
    A live stream is counted in 1/90000 s from its first frame; where its pts are missing, go
    back or run ahead of the monotonic clock, by 2 s at once or by 10 s in all, and after
    `reconnected`, it continues by that clock. Pts that fall behind it are kept: such pictures
    are late, which `lag` tells. What two clocks drift apart is no lag: 50 ppm would come to
    10 s in two days.
    """

    def __init__(self, time_base: Fraction | None = None) -> None:
        """Start a file's timeline in its ``time_base``, or a live one without."""
        self.time_base = time_base or _LIVE_TIME_BASE
        self._live = time_base is None
        self._last: int | None = None
        self._last_at = 0.0
        self._step = 1  # between the last two frames
        self._shift = 0  # added to a file's own pts
        self._source_start: Fraction | None = None  # the source's time that is our time 0
        self._source_last = Fraction(0)
        self._anchor: tuple[int, float] | None = None  # where and when this connection began
        self._drift = 0.0  # seconds of what seems to be lag, on this connection

    def reconnected(self) -> None:
        """Forget the source's clock: the next frame begins a new one."""
        self._source_start = None
        self._anchor = None
        self._drift = 0.0

    @property
    def lag(self) -> float:
        """Seconds by which the last frame came later than its pts says, on this connection."""
        if self._anchor is None or self._last is None:
            return 0.0
        start, started_at = self._anchor
        behind = self._last_at - started_at - float((self._last - start) * self.time_base)
        return behind - self._drift

    def stamp(self, pts: int | None, time_base: Fraction, now: float) -> int:
        """Return the timeline's pts for a picture decoded at the monotonic time ``now``."""
        stamped = (
            self._live_pts(pts, time_base, now) if self._live else self._file_pts(pts, time_base)
        )
        if self._last is not None:
            stamped = max(stamped, self._last + 1)
            self._step = stamped - self._last
        passed = now - self._last_at
        self._last, self._last_at = stamped, now
        self._anchor = self._anchor or (stamped, now)
        most = _DRIFT * passed
        self._drift += min(max(self.lag, -most), most)
        return stamped

    def _file_pts(self, pts: int | None, time_base: Fraction) -> int:
        if pts is None:
            return 0 if self._last is None else self._last + 1
        stamped = round(pts * time_base / self.time_base) + self._shift
        if self._last is not None and (self._last - stamped) * self.time_base > _LARGEST_JUMP:
            anew = self._last + self._step
            self._shift += anew - stamped
            return anew
        return stamped

    def _live_pts(self, pts: int | None, time_base: Fraction, now: float) -> int:
        by_clock = 0
        if self._last is not None:
            by_clock = self._last + round((now - self._last_at) / self.time_base)
        if pts is None:
            return by_clock
        source_time = pts * time_base
        went_back = source_time < self._source_last
        self._source_last = source_time
        if self._source_start is not None and self._anchor is not None and not went_back:
            by_source = round((source_time - self._source_start) / self.time_base)
            start, started_at = self._anchor  # a late source that catches up doesn't run ahead
            expected = start + round((now - started_at) / self.time_base)
            jump = (by_source - max(by_clock, expected)) * self.time_base
            lead = (by_source - expected) * self.time_base + self._drift
            if jump <= _LARGEST_JUMP and lead <= _LARGEST_LEAD:
                return by_source
        self._source_start = source_time - by_clock * self.time_base
        return by_clock
