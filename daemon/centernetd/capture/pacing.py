"""Timing of frames: thinning to a maximum rate, the source's own pace, retry backoff."""

import random
import threading
import time

_FIRST_WAIT = 0.5  # seconds
_LONGEST_WAIT = 5.0
_LATEST = 0.5  # seconds a frame may be late before the pace is reset
_MEMORY = 10.0  # seconds over which the share of time spent waiting is averaged
_ROUNDING = 1e-3  # pts are rounded to their time base


class Thinner:
    """Passes at most ``max_fps`` frames per second of stream time, evenly spaced."""

    def __init__(self, max_fps: float | None) -> None:
        self._interval = 0.0 if max_fps is None else 1 / max_fps
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Return whether to pass the frame at ``at`` seconds of its stream."""
        if self._due is None or at - self._due > self._interval:
            self._due = at  # the first frame, or the first after a gap
        if at < self._due - _ROUNDING:
            return False
        self._due += self._interval  # from when it was due, to keep the mean rate
        return True


class Pacer:
    """Delays frames that arrive early until they are due, as a camera would send them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._offset: float | None = None

    def wait(self, at: float) -> None:
        """Return when the frame at ``at`` seconds of its stream is due, or ``stop`` is set.

        After a delay all later frames are delayed too, so that the pace stays even.
        """
        now = time.monotonic()
        if self._offset is None or now - at > self._offset + _LATEST:
            self._offset = now - at
        self._stop.wait(max(0.0, self._offset + at - now))


class Idle:
    """Measures the ``share`` of the last seconds that was spent waiting for pictures."""

    def __init__(self) -> None:
        self.share = 0.0
        self._came_at = self._left_at = time.monotonic()

    def came(self, now: float, took: float) -> None:
        """Record a picture that arrived at the monotonic ``now`` and took ``took`` s to decode."""
        passed = now - self._came_at
        if passed > 0:
            waited = max(0.0, now - self._left_at - took)
            self.share += (waited / passed - self.share) * min(1.0, passed / _MEMORY)
        self._came_at = now

    def left(self, now: float) -> None:
        """Record the start of the wait for the next picture."""
        self._left_at = now


class Backoff:
    """Delays between retries: doubling, with jitter, up to 5 s.

    The jitter (up to a quarter less) keeps cameras behind one switch from reconnecting together.
    """

    def __init__(self) -> None:
        self._wait = _FIRST_WAIT

    def after(self, took: float) -> float:
        """Return the seconds to wait after a try that failed after ``took`` seconds.

        That time counts as waited: after a silent server's timeout no equal pause is needed.
        """
        wait = max(self._wait - took, _FIRST_WAIT)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return wait * random.uniform(0.75, 1.0)  # noqa: S311 (not used for secrets)
