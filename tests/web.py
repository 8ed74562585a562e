"""A small HTTP server for what cameras and servers of playlists serve."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BOUNDARY = "b"
Pages = Mapping[str, "Path | bytes | int | Callable[[], Iterator[bytes]]"]
"""By path: a file's or a body's content, the status that is answered instead, or JPEG pictures."""


class _Server(ThreadingHTTPServer):
    pages: Pages
    closing: threading.Event


class _Handler(BaseHTTPRequestHandler):
    """Answers GET from the server's pages, all else with 404."""

    server: _Server

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
        """Say nothing."""


@contextmanager
def serving(pages: Pages, port: int = 0) -> Iterator[str]:
    """Serve ``pages`` on 127.0.0.1; yields the URL without a path."""
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.pages, server.closing = pages, threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
