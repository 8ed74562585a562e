"""An HTTP server whose answers are written byte by byte, for what no decent server sends."""

import re
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Request:
    """What was asked for; ``start`` is where the range begins that is wanted, if one is."""

    path: str
    headers: Mapping[str, str]
    start: int | None


Answer = Callable[[Request], Iterable[bytes]]
"""Gives what is sent, head and all; the connection is closed after it."""


@dataclass
class RawServer:
    """Where it answers, what it was asked, and how many bytes it could send."""

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
    """Yield ``block`` until nobody reads any more."""
    while True:
        yield block


def ranged(request: Request, content: bytes, *more: str, most: int | None = None) -> list[bytes]:
    """Return an answer with the part that was asked for, broken off after ``most`` bytes."""
    start = request.start or 0
    size = len(content)
    about = (f"Content-Length: {size - start}", f"Content-Range: bytes {start}-{size - 1}/{size}")
    begin = head("video/mp4", *about, *more, status="206 Partial Content")
    return [begin, content[start:][:most]]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def answering(answer: Answer) -> Iterator[RawServer]:
    """Serve what ``answer`` gives on 127.0.0.1."""

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

    with _Server(("127.0.0.1", 0), Handler) as listening:
        server = RawServer(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
