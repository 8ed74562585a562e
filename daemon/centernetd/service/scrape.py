"""The page /metrics."""

import gzip
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder, gzip_accepted

from centernetd.service.exposition import Exposition

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SHARE = 0.005
"""The share of one core that scraping may use, however often it happens."""
FRESH = 3.0
"""Seconds after which a text is generated again, however long that takes."""


class _Text(NamedTuple):
    body: bytes
    good_until: float


class ScrapePage:
    """Answers a scrape of ``registry`` in the requested format.

    A generated text is reused for 200 times as long as it took to generate, at most `FRESH`. With
    few streams that is an instant; with many it keeps frequent scrapes from using the cores that
    inference needs. ``clock`` is monotonic; both clocks are in seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        exposition = Exposition(registry)
        self._makers = {"text": exposition.text, "openmetrics": exposition.openmetrics}
        self._texts: dict[tuple[str, bool], _Text] = {}
        self._clock, self._cpu_clock = clock, cpu_clock
        self._library = make_wsgi_app(registry)

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Answer one GET."""
        try:
            _, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        except (TypeError, ValueError):  # the requested version is not a number
            environ = {**environ, "HTTP_ACCEPT": ""}
            _, kind = choose_encoder("")
        if _is_unusual(kind, environ.get("QUERY_STRING", "")):
            answer: Iterable[bytes] = self._library(environ, start)
            return answer
        form = "openmetrics" if "openmetrics" in kind else "text"
        packed = gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body = self._text(form, packed)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start("200 OK", headers + [("Content-Encoding", "gzip")] * packed)
        return [body]

    def _text(self, form: str, packed: bool) -> bytes:
        known = self._texts.get((form, packed))
        now = self._clock()
        if known is not None and now < known.good_until:
            return known.body
        before = self._cpu_clock()
        body = self._makers[form]()
        if packed:
            body = gzip.compress(body, compresslevel=1)
        cost = self._cpu_clock() - before
        self._texts[form, packed] = _Text(body, now + min(FRESH, cost / SHARE))
        return body


def _is_unusual(kind: str, query: str) -> bool:
    """Return whether a subset of the metrics, or another escaping of names, is requested."""
    return "escaping=dots" in kind or "escaping=values" in kind or "name[]" in parse_qs(query)
