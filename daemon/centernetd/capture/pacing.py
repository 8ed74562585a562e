"""Letting frames through at the right moments: evenly thinned, or at the source's own pace."""

import random
import threading
import time

_FIRST_WAIT = 0.5  # seconds
_LONGEST_WAIT = 5.0
_LATEST = 0.5  # seconds a frame may be late before the pace is set anew
_MEMORY = 10.0  # seconds that count in the share of time that is spent waiting
_ROUNDING = 1e-3  # pts are rounded to their time base


class Thinner:
    """Lets at most ``max_fps`` frames a second of stream time through, evenly spread."""

    def __init__(self, max_fps: float | None) -> None:
        self._interval = 0.0 if max_fps is None else 1 / max_fps
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Return whether the frame at ``at`` seconds of its stream is let through."""
        if self._due is None or at - self._due > self._interval:
            self._due = at  # the first frame, or the first after a gap
        if at < self._due - _ROUNDING:
            return False
        self._due += self._interval  # from when it was due, so that the mean rate is kept
        return True


class Pacer:
    """Holds frames that come early back until their time, as a camera would give them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._offset: float | None = None

    def wait(self, at: float) -> None:
        """Return when the frame at ``at`` seconds of its stream is due, or ``stop`` is set.

        After a delay all that follows is due later, so that the pace stays even.
        """
        now = time.monotonic()
        if self._offset is None or now - at > self._offset + _LATEST:
            self._offset = now - at
        self._stop.wait(max(0.0, self._offset + at - now))


class Idle:
    """Measures which ``share`` of the last seconds was spent waiting for pictures."""

    def __init__(self) -> None:
        self.share = 0.0
        self._came_at = self._left_at = time.monotonic()

    def came(self, now: float, took: float) -> None:
        """Note a picture that came at the monotonic time ``now`` and took ``took`` s to decode."""
        passed = now - self._came_at
        if passed > 0:
            waited = max(0.0, now - self._left_at - took)
            self.share += (waited / passed - self.share) * min(1.0, passed / _MEMORY)
        self._came_at = now

    def left(self, now: float) -> None:
        """Note that the next one is waited for from now on."""
        self._left_at = now


class Backoff:
    """How long to wait between tries: doubling, with jitter, up to 5 s.

    The jitter (up to a quarter less) keeps cameras behind one switch from coming back as one.
    """

    def __init__(self) -> None:
        self._wait = _FIRST_WAIT

    def after(self, took: float) -> float:
        """Return the seconds to wait after a try that took ``took`` seconds to fail.

        These count as waited: who waits for a silent server shouldn't pause for as long again.
        """
        wait = max(self._wait - took, _FIRST_WAIT)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return wait * random.uniform(0.75, 1.0)  # noqa: S311 (nothing is secret here)
