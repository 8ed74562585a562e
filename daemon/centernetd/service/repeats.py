"""Groups repeated log records into one line per second."""

import copy
import logging
from dataclasses import dataclass

PERIOD = 1.0
"""Seconds over which the repeats of a record are grouped."""

Cause = tuple[str, int, str, object]


@dataclass
class _Gathered:
    since: float
    last: logging.LogRecord
    count: int = 0


class Repeats:
    """Passes the first record of a cause and counts those that follow within a second.

    Records have the same cause if they share logger, level, stream and unformatted message. Only
    warnings and errors are grouped, since only they can occur with every frame. Not thread-safe;
    times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._gathered: dict[Cause, _Gathered] = {}

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether to write ``record`` now; otherwise count it."""
        if record.levelno < logging.WARNING:
            return True
        cause = (record.name, record.levelno, str(record.msg), getattr(record, "stream", None))
        known = self._gathered.get(cause)
        if known is None:
            self._gathered[cause] = _Gathered(now, record)
            return True
        known.count += 1
        known.last = record
        return False

    def due(self, now: float) -> list[logging.LogRecord]:
        """Return the last record of each cause whose second is over, with its count."""
        over = [cause for cause, known in self._gathered.items() if now - known.since >= PERIOD]
        records = []
        for cause in over:
            known = self._gathered.pop(cause)
            if known.count:
                records.append(_counted(known.last, known.count))
                self._gathered[cause] = _Gathered(now, known.last)
        return records


def _counted(record: logging.LogRecord, count: int) -> logging.LogRecord:
    if count == 1:
        return record
    counted = copy.copy(record)
    counted.msg = f"{record.getMessage()} ({count} times)"
    counted.args = None
    return counted
