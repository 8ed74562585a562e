"""An HTTP source as a file object for FFmpeg, which needs no connection of its own."""

import io
import re
from collections.abc import Generator, Iterable, Iterator

from centernetd.capture.playlist import MARK, open_playlist, read_text, segments
from centernetd.capture.resource import Piece, Resource
from centernetd.capture.web import Allowance, HttpClient
from centernetd.config import StreamConfig
from centernetd.errors import SourceError

_PROBE_SIZE = 16  # bytes needed to recognise a playlist or JPEG
_POLL = 0.1  # seconds between two requests for a still picture
_START = b"\xff\xd8\xff"
# The next marker, except those that occur inside coded data: ITU-T T.81, B.1.1.2.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_LENGTH = frozenset(b"\x01\xd8\xd9")
_PART = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"


class HttpFile:
    """A file object for FFmpeg; an error while reading ends it and is raised by `check`.

    ``format`` is the format FFmpeg must use; None lets it probe. ``in_bursts`` is True if the
    source is fetched in pieces of many seconds, ``complete`` if it is a playlist that does not
    grow any more. With a ``resource`` (of known size) the file is seekable.
    """

    def __init__(
        self,
        chunks: Generator[bytes, None, None],
        resource: Resource | None = None,
        form: str | None = None,
        *,
        in_bursts: bool = False,
        complete: bool = False,
    ) -> None:
        self.format = form
        self.in_bursts, self.complete = in_bursts, complete
        self._resource, self._position = resource, 0
        self._chunks, self._rest = chunks, memoryview(b"")
        self._error: Exception | None = None

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes; b"" at the end or after an error."""
        try:
            if not self._rest and self._error is None:
                self._rest = memoryview(next(self._chunks, b""))
        except Exception as error:  # must not pass through FFmpeg
            # The traceback would keep megabytes of data alive.
            self._error = error.with_traceback(None) if isinstance(error, SourceError) else error
        taken, self._rest = self._rest[:count], self._rest[count:]
        self._position += len(taken)
        return bytes(taken)

    def seekable(self) -> bool:
        """Return whether it can be read from any position."""
        return self._resource is not None

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Continue reading at ``offset``, as `io.IOBase.seek`."""
        if self._resource is None:
            raise io.UnsupportedOperation("seek")
        offset += (0, self._position, self._resource.size or 0)[whence]
        if offset != self._position:
            self._chunks.close()
            self._position, self._rest = offset, memoryview(b"")
            self._chunks = self._resource.chunks(offset)
        return offset

    def check(self) -> None:
        """Raise the error that ended the file, if any, and clear it."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the connection."""
        self._chunks.close()


def open_http_file(stream: StreamConfig, allowance: Allowance) -> HttpFile:
    """Request the source of ``stream``; ``allowance`` limits that, and what is read per picture.

    A file has an end, and is resumed when the connection is lost.

    Raises
    ------
    SourceError
        When the request fails.
    """
    once = stream.from_file
    client = HttpClient(stream.source, stream.follow_hosts, allowance)
    resource = Resource(client, Piece(client.url), resumes=once)
    first = resource.chunks()
    head = b""
    while len(head) < _PROBE_SIZE and (chunk := next(first, b"")):
        head += chunk
    content = _joined((head,), first)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(MARK):
        playlist = open_playlist(client, read_text(content), resource.url)
        read = segments(client, playlist, resumes=once)
        return HttpFile(read, in_bursts=True, complete=playlist.complete)
    if resource.type.startswith(("multipart/", "image/jp")) or head.lstrip().startswith(
        (b"--", _START)
    ):
        shown = jpegs(content)
        if not once and resource.type.startswith("image/"):
            shown = _joined(shown, _poll(client))
        parts = (_PART % (len(jpeg), jpeg) for jpeg in shown)
        return HttpFile(parts, form="mpjpeg")
    return HttpFile(content, resource if once and resource.size is not None else None)


def _joined(*parts: Iterable[bytes]) -> Generator[bytes, None, None]:
    for part in parts:
        yield from part


def jpegs(chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield each JPEG in ``chunks``, ignoring anything around it."""
    held, at = bytearray(), 0
    for chunk in chunks:
        held += chunk
        while True:
            if not at:
                start = held.find(_START)
                if start < 0:
                    del held[:-2]
                    break
                del held[:start]
                at = 2
            at, is_whole = _walk(held, at)
            if not is_whole:
                break
            yield bytes(held[:at])
            del held[:at]
            at = 0


def _walk(held: bytearray, at: int) -> tuple[int, bool]:
    """Walk the markers; return the position reached and whether the picture ends there."""
    while marker := _MARKER.search(held, at):
        code, after = held[marker.start() + 1], marker.end()
        if code == 0xD9:
            return after, True
        if code == 0xD8:  # the next picture begins
            return marker.start(), True
        if code not in _NO_LENGTH:
            if len(held) < after + 2:
                return marker.start(), False
            after += int.from_bytes(held[after : after + 2], "big")
        at = after
    return max(at, len(held) - 1), False


def _poll(client: HttpClient) -> Iterator[bytes]:
    """Request a still picture repeatedly and yield it, until none is returned."""
    found = True
    while found:
        found = False
        client.allowance.wait(_POLL)
        for jpeg in jpegs(Resource(client, Piece(client.url)).chunks()):
            found = True
            yield jpeg
