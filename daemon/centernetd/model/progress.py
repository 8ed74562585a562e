"""Following what takes minutes, as a build or a preparation does, and stopping it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from centernetd.errors import CenternetdError

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


class BuildStoppedError(CenternetdError):
    """A build was given up because its `Progress` said so."""


class Progress(Protocol):
    """Is told how a build goes; may be called by any thread."""

    def __call__(self, phase: str, step: int, of: int) -> bool:
        """Take note that ``phase`` has done ``step`` of ``of`` steps; False stops the build.

        Phases nest: others begin and end before the first one goes on.
        """


@dataclass(frozen=True)
class Onlooker:
    """Whoever waits for a build: is told a line now and then, and may want it stopped.

    Both are called by any thread.
    """

    stopping: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda _line: None


class LoggedProgress:
    """Logs a line now and then, and tells it ``onlooker``, who may stop the build."""

    def __init__(self, doing: str, onlooker: Onlooker) -> None:
        """Begin to follow what is being done, such as building a plan."""
        self._doing = doing
        self._onlooker = onlooker
        self._started = self._logged = time.monotonic()

    def __call__(self, phase: str = "", step: int = 0, of: int = 0) -> bool:
        """Log if the last line is some time ago."""
        now = time.monotonic()
        if now - self._logged >= _SECONDS_BETWEEN_LINES:
            self._logged = now
            line = f"{self._doing} for {now - self._started:.0f} s"
            if phase:
                line += f": {phase}, {step} of {of}"
            log.info("%s", line)
            self._onlooker.tell(line)
        return not self._onlooker.stopping()
