"""A resource on a web server, read from any offset and resumed after a lost connection."""

import http.client
import re
from collections.abc import Generator
from dataclasses import dataclass

from centernetd.capture.web import HttpClient
from centernetd.errors import SourceError

_RETRY_AFTER = 0.5  # seconds between two attempts to resume
_MAX_DIGITS = 20  # digits
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Piece:
    """``length`` bytes starting at ``first`` of the resource at ``url``, or all of it."""

    url: str
    first: int = 0
    length: int | None = None


class Resource:
    """A piece of a resource, or all of it.

    ``url`` is the URL after redirects, ``type`` the media type. ``size`` is in bytes, None if
    unknown.
    """

    def __init__(self, client: HttpClient, piece: Piece, *, resumes: bool = False) -> None:
        """Request ``piece``; with ``resumes``, a lost connection is resumed."""
        self._client, self._piece, self._resumes = client, piece, resumes
        self._response: http.client.HTTPResponse | None = self._request(0)
        self.url = self._response.url
        self.type = self._response.headers.get_content_type()
        self._version = _version(self._response)
        self.size = piece.length or self._version[0]

    def chunks(self, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the bytes from ``offset`` on."""
        response, self._response = self._response, None
        if response is not None and offset:
            response.close()
            response = None
        if self.size is not None and offset >= self.size:
            return
        response = response or self._resume(offset)
        while True:
            try:
                for data in self._client.chunks(response):
                    wanted = data if self.size is None else data[: self.size - offset]
                    offset += len(wanted)
                    yield wanted
                    if offset == self.size:
                        response.close()
                        return
            except SourceError as error:
                if not self._resumes or self.size is None or error.reason != "read_failed":
                    raise
            else:
                return
            response = self._resume(offset)

    def _request(self, offset: int) -> http.client.HTTPResponse:
        piece = self._piece
        start = piece.first + offset
        if not start and piece.length is None and not self._resumes:
            return self._client.open(piece.url)
        end = "" if piece.length is None else str(piece.first + piece.length - 1)
        response = self._client.open(piece.url, f"{start}-{end}")
        found = _RANGE.match(response.headers.get("Content-Range", ""))
        begins = int(found[1]) if response.status == 206 and found else 0
        if begins > start:
            response.close()
            raise SourceError("the server sends a different part than requested", "open_failed")
        self._client.skip(response, start - begins)  # a server without ranges sends everything
        return response

    def _resume(self, offset: int) -> http.client.HTTPResponse:
        while True:
            try:
                response = self._request(offset)
                break
            except SourceError as error:
                try:
                    self._client.allowance.wait(_RETRY_AFTER)
                except TimeoutError:
                    raise error from None
        if _version(response) != self._version:
            response.close()
            raise SourceError("it was changed on the server while it was read")
        return response


def _version(response: http.client.HTTPResponse) -> tuple[int | None, str | None]:
    """Return the total size and the validator that identifies the version."""
    headers = response.headers
    found = _RANGE.match(headers.get("Content-Range", ""))
    total = headers.get("Content-Length", "") if found is None else found[2]
    size = int(total) if total.isdecimal() and len(total) < _MAX_DIGITS else None
    return size, headers.get("ETag") or headers.get("Last-Modified")
