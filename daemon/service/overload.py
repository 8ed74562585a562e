"""Says which streams lose frames because something can't keep up."""

import logging
from collections.abc import Iterable, Mapping

from daemon.flow import Lane, Reason, StageName
from daemon.flow.ledger import Book

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds of drops that are told in one line."""

_REMEDIES: Mapping[str, str] = {
    "detection": "set detect.max_fps, or run fewer streams",
    StageName.RECORD.value: "its encoder or its disk is too slow",
    StageName.EVENTS.value: "its disk is too slow",
}


class Overload:
    """Logs, for each stream and period, how many frames a second were dropped and by what."""

    def __init__(self) -> None:
        self._since = 0.0
        self._before: Mapping[str, tuple[Lane, Book]] = {}
        self._behind: set[tuple[str, str]] = set()

    def tick(self, lanes: Iterable[Lane], now: float) -> None:
        """Look at the books, at monotonic ``now``; one thread calls this about once a second."""
        seconds = now - self._since
        if self._before and seconds < PERIOD:
            return
        books = {lane.name: (lane, lane.ledger.read()) for lane in lanes}
        for name, (lane, book) in books.items():
            known = self._before.get(name)
            if known is not None and known[0] is lane:
                self._compare(name, known[1], book, seconds)
        self._since, self._before = now, books

    def _compare(self, stream: str, before: Book, book: Book, seconds: float) -> None:
        lost, lost_before = _lost(book), _lost(before)
        for where, remedy in _REMEDIES.items():
            count = lost.get(where, 0) - lost_before.get(where, 0)
            about = {"stream": stream}
            if count:
                self._behind.add((stream, where))
                came = (book.captured - before.captured) / seconds
                message = f"{where} can't keep up: %.1f of %.1f frames/s dropped; {remedy}"
                log.warning(message, count / seconds, came, extra=about)
            elif (stream, where) in self._behind:
                self._behind.remove((stream, where))
                log.info("%s keeps up again", where, extra=about)


def _lost(book: Book) -> Mapping[str, int]:
    """Return the frames that somebody was too slow for, by whom."""
    dropped = book.dropped
    detection = (
        dropped[StageName.CAPTURE, Reason.OVERFLOW] + dropped[StageName.INFERENCE, Reason.TOO_OLD]
    )
    sinks = {sink.value: dropped[sink, Reason.OVERFLOW] for sink in book.written}
    return {"detection": detection, **sinks}
