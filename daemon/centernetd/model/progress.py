"""Progress of builds and preparations, which take minutes and can be stopped."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """Receives progress reports of a build; may be called from any thread."""

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Note that ``phase`` has done ``step`` of ``of`` steps; return False to stop the build.

        Phases nest: inner phases begin and end before the outer one continues.
        """


class LoggedProgress(Progress):
    """Logs a line every few seconds, and also passes it to ``report``.

    The build is stopped as soon as ``stopping`` returns True. Both may be called from any thread.
    """

    def __init__(
        self,
        report: Callable[[str], None] = lambda _line: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._report = report
        self._stopping = stopping
        self._started = self._logged = time.monotonic()

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Log a line if the last one is old enough; return False if the build must stop."""
        now = time.monotonic()
        if now - self._logged >= SECONDS_BETWEEN_LINES:
            self._logged = now
            steps = f", {step} of {of}" if of > 1 else ""
            line = f"{phase}{steps} ({now - self._started:.0f} s so far)"
            log.info("%s", line)
            self._report(line)
        return not self._stopping()
