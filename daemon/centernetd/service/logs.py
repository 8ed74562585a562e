"""Logging: text for people, JSON lines for the journal, secrets masked, repeats grouped.

To name the stream a record is about, pass ``extra={"stream": name}``. What may happen with every
frame is just logged, and grouped here; for states that last there is `centernetd.flow.Incident`.
"""

import contextlib
import copy
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from centernetd.config import Redactor

LogFormat = Literal["auto", "text", "json"]

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG_PRIORITY = 7
PERIOD = 1.0
"""Seconds over which the repeats of a record are grouped."""

_Cause = tuple[str, int, str, object]
"""Logger, level, unformatted message, stream."""


class TextFormatter(logging.Formatter):
    """``12:00:00 WARNING gate: message`` in local time, with tracebacks below."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self.redactor = redactor

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Put the stream in front of the message."""
        stream = getattr(record, "stream", None)
        if stream is not None:
            record.message = f"{stream}: {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without secrets."""
        return self.redactor(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, stream, message, exception."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; secrets are masked before JSON escapes could hide them."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        fields = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "stream": getattr(record, "stream", None),
            "message": record.getMessage(),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        clean = {key: self.redactor(str(value)) for key, value in fields.items() if value}
        return json.dumps(clean, ensure_ascii=False)


@dataclass
class _Group:
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
        self._groups: dict[_Cause, _Group] = {}

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Return whether to write ``record`` now; otherwise count it."""
        if record.levelno < logging.WARNING:
            return True
        cause = (record.name, record.levelno, str(record.msg), getattr(record, "stream", None))
        group = self._groups.get(cause)
        if group is None:
            self._groups[cause] = _Group(now, record)
            return True
        group.count += 1
        group.last = record
        return False

    def due(self, now: float) -> list[logging.LogRecord]:
        """Return the last record of each cause whose second is over, with its count."""
        over = [cause for cause, group in self._groups.items() if now - group.since >= PERIOD]
        records = []
        for cause in over:
            group = self._groups.pop(cause)
            if group.count:
                records.append(_counted(group.last, group.count))
                self._groups[cause] = _Group(now, group.last)
        return records


def _counted(record: logging.LogRecord, count: int) -> logging.LogRecord:
    if count == 1:
        return record
    counted = copy.copy(record)
    counted.msg = f"{record.getMessage()} ({count} times)"
    counted.args = None
    return counted


class LogHandler(logging.Handler):
    """Writes to the current standard error (a progress bar may wrap it).

    With ``journal``, each line begins with its priority, as in sd-daemon(3).
    """

    def __init__(
        self,
        formatter: TextFormatter | JsonFormatter,
        journal: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.redactor = formatter.redactor
        self._journal = journal
        self._clock = clock
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it if it repeats a recent one."""
        try:
            now = self._clock()
            self._write_due(now)
            if self._repeats.admit(record, now):
                self._write(record)
        except Exception:
            self.handleError(record)

    def flush_repeats(self) -> None:
        """Write the counts that are due; called once per second, so that none waits long."""
        self.acquire()
        try:
            self._write_due(self._clock())
        finally:
            self.release()

    def close(self) -> None:
        """Write all remaining counts."""
        self._write_due(math.inf)
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Report where the failed log call is; logging's own report would show its arguments."""
        with contextlib.suppress(OSError, ValueError):
            print(f"the log call at {record.pathname}:{record.lineno} failed", file=sys.stderr)

    def _write_due(self, now: float) -> None:
        for record in self._repeats.due(now):
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if self._journal:
            prefix = f"<{_priority(record.levelno)}>"
            text = "\n".join(prefix + line for line in text.splitlines())
        print(text, file=sys.stderr, flush=True)


def configure(
    level: str,
    format: LogFormat = "auto",
    secrets: Collection[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> LogHandler:
    """Send all logging to standard error; return the handler, for calls of `flush_repeats`.

    ``auto`` means JSON if standard error goes to the systemd journal, text otherwise. Another call
    replaces the previous setup.
    """
    mask = Redactor(secrets)
    journal = _goes_to_journal(environ)
    structured = journal if format == "auto" else format == "json"
    formatter = JsonFormatter(mask) if structured else TextFormatter(mask)
    handler = LogHandler(formatter, journal)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LogHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler


def redactor() -> Redactor:
    """Return the redactor of the log, which should mask all other output too."""
    handlers = logging.getLogger().handlers
    return next((old.redactor for old in handlers if isinstance(old, LogHandler)), Redactor())


def _goes_to_journal(environ: Mapping[str, str]) -> bool:
    """Return whether standard error is the journal stream named by systemd."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _priority(level: int) -> int:
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)
