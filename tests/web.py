"""A small HTTP server for what cameras and servers of playlists serve."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Pages = Mapping[str, Path | bytes | int]
"""By path: a file's or a body's content, or the status that is answered instead."""


class _Server(ThreadingHTTPServer):
    pages: Pages


class _Handler(BaseHTTPRequestHandler):
    """Answers GET from the server's pages, all else with 404."""

    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path, 404)
        if isinstance(page, int):
            self.send_error(page)
            return
        body = page if isinstance(page, bytes) else page.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(pages: Pages) -> Iterator[str]:
    """Serve ``pages`` on 127.0.0.1; yields the URL without a path."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.pages = pages
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
