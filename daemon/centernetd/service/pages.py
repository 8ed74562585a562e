"""The pages /metrics, /healthz, /readyz and /status, as one WSGI application."""

import json
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry

from centernetd.service.health import Verdict, health, readiness
from centernetd.service.scrape import ScrapePage
from centernetd.service.status import status
from centernetd.service.view import Pipeline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Answer = tuple[HTTPStatus, str, str]
"""Status, content type, body."""

PLAIN, JSON = "text/plain; charset=utf-8", "application/json"


class Pages:
    """Answers GET and HEAD; no page waits for the pipeline, changes it or shows images."""

    def __init__(self, pipeline: Pipeline, registry: CollectorRegistry) -> None:
        self._pipeline = pipeline
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

    def _answer(self, path: str, method: str, query: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are answered\n"
        if path == "/metrics":
            return HTTPStatus.OK, PLAIN, ""
        page = self._routes.get(path)
        if page is None:
            pages = ", ".join(["/metrics", *self._routes])
            return HTTPStatus.NOT_FOUND, PLAIN, f"no such page; there are {pages}\n"
        return page(query)

    def _healthz(self, _query: str) -> Answer:
        known = self._pipeline
        return _told(health(known.engine() is not None, known.progress, known.storage))

    def _readyz(self, query: str) -> Answer:
        streams = self._pipeline.streams()
        name = parse_qs(query, keep_blank_values=True).get("stream", [None])[-1]
        if name is not None:
            streams = [view for view in streams if view.name == name]
            if not streams:
                return HTTPStatus.NOT_FOUND, PLAIN, f"there is no stream {name!r}\n"
        return _told(readiness(self._pipeline.engine() is not None, streams, time.monotonic()))

    def _status(self, _query: str) -> Answer:
        return HTTPStatus.OK, JSON, json.dumps(status(self._pipeline), indent=2) + "\n"


def _told(verdict: Verdict) -> Answer:
    code = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return code, PLAIN, "\n".join(["ok" if verdict.ok else "not ok", *verdict.reasons]) + "\n"
