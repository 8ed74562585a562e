"""Progress reporting and cancellation for builds and preparations, which take minutes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from centernetd.errors import CenternetdError

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class BuildStoppedError(CenternetdError):
    """A build was cancelled by its `Progress`."""


class Progress(Protocol):
    """Receives progress reports of a build; may be called from any thread."""

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Note that ``phase`` has done ``step`` of ``of`` steps; return False to stop the build.

        Phases nest: inner phases begin and end before the outer one continues.
        """


@dataclass(frozen=True)
class Onlooker:
    """Whoever waits for a build: receives occasional status lines, and may cancel it.

    Both callables may be called from any thread.
    """

    stopping: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda _line: None


class LoggedProgress:
    """Logs a line every few seconds and passes it to ``onlooker``, who may stop the build."""

    def __init__(self, doing: str, onlooker: Onlooker) -> None:
        """Start tracking ``doing``, such as building a plan."""
        self._doing = doing
        self._onlooker = onlooker
        self._started = self._logged = time.monotonic()

    def __call__(self, phase: str = "", step: int = 0, of: int = 0) -> bool:
        """Log a line if the last one is old enough; return False if the onlooker wants to stop."""
        now = time.monotonic()
        if now - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = now
            line = f"{self._doing} for {now - self._started:.0f} s"
            if phase:
                line += f": {phase}, {step} of {of}"
            log.info("%s", line)
            self._onlooker.tell(line)
        return not self._onlooker.stopping()
