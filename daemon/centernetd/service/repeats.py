"""Gathers log records that say the same over and over into one line a second."""

import copy
import logging
from dataclasses import dataclass

PERIOD = 1.0
"""Seconds that the repeats of one record are gathered for."""

Cause = tuple[str, int, str, object]


@dataclass
class _Gathered:
    since: float
    last: logging.LogRecord
    count: int = 0


class Repeats:
    """Lets the first record of a cause through and counts those that follow within a second.

    Records have the same cause when logger, level, stream and the message before its arguments
    are put in are the same. Only warnings and errors are gathered: they alone can come with
    every frame. Not thread-safe; times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._gathered: dict[Cause, _Gathered] = {}

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether ``record`` is to be written now; else it is counted."""
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
        """Return one record, the last of its kind, for each cause whose second is over."""
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
