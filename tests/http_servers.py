"""HTTP servers of cameras: one for files and pictures, one whose answers are written byte by byte.

The latter sends what no correct server sends.
"""

import re
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BOUNDARY = "b"
Pages = Mapping[str, "Path | bytes | int | Callable[[], Iterator[bytes]]"]
"""By path: a file, a body, an error status, or a function that yields JPEG pictures."""


class _PageServer(ThreadingHTTPServer):
    pages: Pages
    closing: threading.Event


class _PageHandler(BaseHTTPRequestHandler):
    """Answers GET with the server's pages, and everything else with 404."""

    server: _PageServer

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path, 404)
        if isinstance(page, int):
            self.send_error(page)
            return
        if callable(page):
            self._show(page())
            return
        body = page if isinstance(page, bytes) else page.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _show(self, pictures: Iterator[bytes]) -> None:
        """Send pictures as HTTP cameras do, until they end or the server does."""
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        with suppress(OSError):
            for jpeg in pictures:
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(f"--{BOUNDARY}\r\n{head}".encode() + jpeg + b"\r\n")
                if self.server.closing.wait(0.1):
                    return

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serving(pages: Pages, port: int = 0) -> Iterator[str]:
    """Serve ``pages`` on 127.0.0.1; yields the URL without a path."""
    with _PageServer(("127.0.0.1", port), _PageHandler) as server:
        server.pages, server.closing = pages, threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@dataclass
class Request:
    """A request; ``start`` is the beginning of the requested range, if any."""

    path: str
    headers: Mapping[str, str]
    start: int | None


Answer = Callable[[Request], Iterable[bytes]]
"""Returns the bytes to send, including the head; the connection is closed after them."""


@dataclass
class RawServer:
    """The URL of a server, the requests it got, and how many bytes it sent."""

    url: str
    requests: list[Request] = field(default_factory=list)
    sent: int = 0

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


def head(content_type: str, *more: str, status: str = "200 OK") -> bytes:
    """Return the head of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *more, "", ""]
    return "\r\n".join(lines).encode()


def forever(block: bytes) -> Iterator[bytes]:
    """Yield ``block`` forever."""
    while True:
        yield block


def ranged(request: Request, content: bytes, *more: str, most: int | None = None) -> list[bytes]:
    """Return an answer with the requested range, cut off after ``most`` bytes."""
    start = request.start or 0
    size = len(content)
    about = (f"Content-Length: {size - start}", f"Content-Range: bytes {start}-{size - 1}/{size}")
    begin = head("video/mp4", *about, *more, status="206 Partial Content")
    return [begin, content[start:][:most]]


class _RawTcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def answering(answer: Answer) -> Iterator[RawServer]:
    """Serve what ``answer`` returns on 127.0.0.1."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self._handle()

        def _handle(self) -> None:
            path = self.rfile.readline().split(b" ")[1].decode()
            headers = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(": ")
                headers[name.lower()] = value
            wanted = re.match(r"bytes=(\d+)-", headers.get("range", ""))
            request = Request(path, headers, int(wanted[1]) if wanted else None)
            server.requests.append(request)
            for block in answer(request):
                self.wfile.write(block)
                server.sent += len(block)

    with _RawTcpServer(("127.0.0.1", 0), Handler) as listening:
        server = RawServer(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
