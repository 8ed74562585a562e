"""A wall clock for deleting by age, which distrusts leaps."""

PATIENCE = 3600.0  # seconds until a leap is accepted
DRIFT = 60.0  # seconds that do not count as a leap


class BelievedClock:
    """Returns Unix time; accepts a leap forward only when it has lasted for an hour.

    A clock that is temporarily wrong, even from the start, must not make every recording look
    old.
    """

    def __init__(self, wall_time: float, monotonic: float, newest: float | None = None) -> None:
        """Begin at ``wall_time``, or at the time of the ``newest`` recording if that is earlier."""
        self._offset = (wall_time if newest is None else min(wall_time, newest)) - monotonic
        self._leapt_at: float | None = None

    def read(self, wall_time: float, monotonic: float) -> float:
        """Return the time to use; both clocks are read at the same moment, in seconds."""
        offset = wall_time - monotonic
        if offset <= self._offset + DRIFT:
            self._offset, self._leapt_at = offset, None
            return wall_time
        if self._leapt_at is None:
            self._leapt_at = monotonic
        elif monotonic - self._leapt_at >= PATIENCE:
            self._offset, self._leapt_at = offset, None
        return monotonic + self._offset
