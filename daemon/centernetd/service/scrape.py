"""The page /metrics."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder, gzip_accepted

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FRESH = 1.0
"""Seconds for which a generated text answers every scrape of its kind."""
_MOST_KINDS = 8

_Kind = tuple[str, bool, str]
"""Content type, whether it is compressed, and the query, which may name some metrics."""


class _Answer(NamedTuple):
    good_until: float
    headers: list[tuple[str, str]]
    body: list[bytes]


class ScrapePage:
    """Answers scrapes of ``registry``, generating its text at most once per `FRESH` and kind.

    Generating takes tens of milliseconds with 64 streams, under Python's lock: eager clients must
    not take that time from inference. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app: WSGIApplication = make_wsgi_app(registry)
        self._clock = clock
        self._answers: dict[_Kind, _Answer] = {}

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Answer one GET."""
        try:
            _, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        except (TypeError, ValueError):  # the requested version is not a number
            environ = {**environ, "HTTP_ACCEPT": ""}
            _, content_type = choose_encoder("")
        packed = gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", ""))
        kind = content_type, packed, environ.get("QUERY_STRING", "")
        now, answer = self._clock(), self._answers.get(kind)
        if answer is None or now >= answer.good_until:
            if len(self._answers) >= _MOST_KINDS:
                self._answers.clear()
            answer = self._answers[kind] = self._ask(environ, now + FRESH)
        start("200 OK", answer.headers)
        return answer.body

    def _ask(self, environ: "WSGIEnvironment", good_until: float) -> _Answer:
        headers: list[tuple[str, str]] = []

        def start(
            _status: str, given: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            headers.extend(given)
            return lambda _: None

        return _Answer(good_until, headers, list(self._app(environ, start)))
