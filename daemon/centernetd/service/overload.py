"""Logs which streams lose frames because something can't keep up."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from centernetd.flow import CAPTURE, INFERENCE, Incident, Lane, Reason, StageName
from centernetd.flow.ledger import Book

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two readings of the ledgers."""
REMINDER = 3600.0
"""Minimum seconds between two warnings about the same problem."""
CALM = 600.0
"""Seconds without a loss after which a stream counts as keeping up again."""

_REMEDIES: Mapping[str, str] = {
    "detection": "set a lower detect.max_fps, or run fewer streams",
    "record": "its encoder or its disk is too slow",
    "events": "its disk is too slow",
}


@dataclass(frozen=True)
class _Reading:
    """A copy of a stream's ledger at a monotonic time."""

    time: float
    book: Book


class Overload:
    """Warns about frames dropped because a stage was too slow, and about no others.

    The first loss is logged within `PERIOD`; recurring losses are logged once per `REMINDER`,
    with the total dropped since.
    """

    def __init__(self) -> None:
        self._read_at = 0.0
        self._stages: dict[Lane, list[_Stage]] = {}

    def tick(self, lanes: Iterable[Lane], now: float) -> None:
        """Read the ledgers, at monotonic ``now``; called from one thread about once per second."""
        if self._stages and now - self._read_at < PERIOD:
            return
        self._read_at = now
        self._stages = {
            lane: self._stages.get(lane) or [_Stage(where, lane.name) for where in _REMEDIES]
            for lane in lanes
        }
        for lane, stages in self._stages.items():
            reading = _Reading(now, lane.ledger.read())
            for stage in stages:
                stage.check(reading)


class _Stage:
    """The losses of one stream in one stage."""

    def __init__(self, where: str, stream: str) -> None:
        self._where, self._about = where, {"stream": stream}
        self._last: _Reading | None = None
        self._now = self._lost_at = -math.inf
        self._incident = Incident(REMINDER, lambda: self._now)
        self._unlogged: _Reading | None = None  # before the first loss not logged yet

    def check(self, now: _Reading) -> None:
        before, self._last = self._last or now, now
        self._now = now.time
        if _lost(now.book, self._where) > _lost(before.book, self._where):
            self._lost_at = now.time
            self._unlogged = self._unlogged or before
            if self._incident.occurred():
                self._warn(self._unlogged, now)
        elif now.time - self._lost_at >= CALM and self._incident.resolved():
            log.info("%s keeps up again", self._where, extra=self._about)

    def _warn(self, since: _Reading, now: _Reading) -> None:
        self._unlogged = None
        log.warning(
            "%s can't keep up: %d of %d frames dropped in %s; %s",
            self._where,
            _lost(now.book, self._where) - _lost(since.book, self._where),
            now.book.captured - since.book.captured + _waiting(since.book, self._where),
            _span(now.time - since.time),
            _REMEDIES[self._where],
            extra=self._about,
        )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _waiting(book: Book, where: str) -> int:
    """Return the number of frames that ``where`` can still drop although they were captured."""
    return sum(book.in_flight.get(stage, 0) for stage in (CAPTURE, INFERENCE, StageName(where)))


def _lost(book: Book, where: str) -> int:
    """Return the number of frames dropped because ``where`` was too slow."""
    if where == "detection":
        causes = [(CAPTURE, Reason.OVERFLOW), (INFERENCE, Reason.TOO_OLD)]
    else:
        causes = [(StageName(where), Reason.OVERFLOW)]
    return sum(book.dropped.get(cause, 0) for cause in causes)
