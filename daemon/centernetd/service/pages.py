"""The pages /metrics, /healthz, /readyz and /status, as one WSGI application."""

import json
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder, gzip_accepted

from centernetd.service.health import Verdict, readiness
from centernetd.service.status import DaemonStatus

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_Answer = tuple[HTTPStatus, str, str]
"""Status, content type, body."""

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"
FRESH = 1.0
"""Seconds for which a generated text answers every scrape of its kind."""
_MAX_KINDS = 8

_Kind = tuple[str, bool, str]
"""Content type, whether it is compressed, and the query, which may name some metrics."""


class Pages:
    """Answers GET and HEAD; no page waits for a stage, changes anything or shows images."""

    def __init__(self, daemon: DaemonStatus, registry: CollectorRegistry) -> None:
        self._daemon = daemon
        self._metrics = ScrapePage(registry)
        self._routes = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/status": self._status,
        }

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == "/metrics" and method == "GET":
            return self._metrics(environ, start)
        code, kind, body = self._answer(path, method, environ.get("QUERY_STRING", ""))
        payload = body.encode()
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(payload))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if code is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        start(f"{code.value} {code.phrase}", headers)
        return [] if method == "HEAD" else [payload]

    def _answer(self, path: str, method: str, query: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are answered\n"
        if path == "/metrics":
            return HTTPStatus.OK, PLAIN, ""
        page = self._routes.get(path)
        if page is None:
            pages = ", ".join(["/metrics", *self._routes])
            return HTTPStatus.NOT_FOUND, PLAIN, f"no such page; there are {pages}\n"
        return page(query)

    def _healthz(self, _query: str) -> _Answer:
        return _answer_to(self._daemon.health)

    def _readyz(self, query: str) -> _Answer:
        streams = self._daemon.streams
        name = parse_qs(query, keep_blank_values=True).get("stream", [None])[-1]
        if name is not None:
            streams = [view for view in streams if view.name == name]
            if not streams:
                return HTTPStatus.NOT_FOUND, PLAIN, f"there is no stream {name!r}\n"
        loaded = bool(self._daemon.models)
        return _answer_to(readiness(loaded, streams, time.monotonic()))

    def _status(self, _query: str) -> _Answer:
        return HTTPStatus.OK, JSON, json.dumps(self._daemon.document(), indent=2) + "\n"


def _answer_to(verdict: Verdict) -> _Answer:
    code = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return code, PLAIN, "\n".join(["ok" if verdict.ok else "not ok", *verdict.reasons]) + "\n"


class _Scrape(NamedTuple):
    expires_at: float
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
        self._answers: dict[_Kind, _Scrape] = {}

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
        if answer is None or now >= answer.expires_at:
            if len(self._answers) >= _MAX_KINDS:
                self._answers.clear()
            answer = self._answers[kind] = self._ask(environ, now + FRESH)
        start("200 OK", answer.headers)
        return answer.body

    def _ask(self, environ: "WSGIEnvironment", expires_at: float) -> _Scrape:
        headers: list[tuple[str, str]] = []

        def start(
            _daemon: str, given: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], object]:
            headers.extend(given)
            return lambda _: None

        return _Scrape(expires_at, headers, list(self._app(environ, start)))
