"""What an HTTP server sends, as bytes that FFmpeg reads without a connection of its own."""

import io
import re
from collections.abc import Generator, Iterable, Iterator, Sequence

from centernetd.capture.playlist import MARK, open_playlist, read_text, segments
from centernetd.capture.web import Allowance, Body, Web
from centernetd.config.secret import SourceUri
from centernetd.errors import SourceError

_ENOUGH = 16  # bytes that tell a playlist or JPEG from the rest
_POLL = 0.1  # seconds between two looks at a still picture
_START = b"\xff\xd8\xff"
# The next marker but those that stand inside coded data: ITU-T T.81, B.1.1.2.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_LENGTH = frozenset(b"\x01\xd8\xd9")
_PART = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"


class Feed:
    """A file to FFmpeg; what goes wrong while it is read ends it, and `check` raises that.

    ``format`` is what FFmpeg must read it as, None leaves that to it. ``in_bursts`` tells that
    it is fetched in pieces of many seconds, ``complete`` that it is a playlist to which no more
    is added. Where there is a ``body`` (of known size) it can be read from anywhere.
    """

    def __init__(
        self,
        chunks: Generator[bytes, None, None],
        body: Body | None = None,
        form: str | None = None,
        *,
        in_bursts: bool = False,
        complete: bool = False,
    ) -> None:
        self.format = form
        self.in_bursts, self.complete = in_bursts, complete
        self._body, self._position = body, 0
        self._chunks, self._rest = chunks, memoryview(b"")
        self._error: Exception | None = None

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes, none at the end or when something went wrong."""
        try:
            if not self._rest and self._error is None:
                self._rest = memoryview(next(self._chunks, b""))
        except Exception as error:  # must not pass through FFmpeg
            # Its traceback holds what was read, megabytes of it.
            self._error = error.with_traceback(None) if isinstance(error, SourceError) else error
        taken, self._rest = self._rest[:count], self._rest[count:]
        self._position += len(taken)
        return bytes(taken)

    def seekable(self) -> bool:
        """Whether it can be read from anywhere."""
        return self._body is not None

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read on from ``offset``, as `io.IOBase.seek`."""
        if self._body is None:
            raise io.UnsupportedOperation("seek")
        offset += (0, self._position, self._body.size or 0)[whence]
        if offset != self._position:
            self._chunks.close()
            self._position, self._rest = offset, memoryview(b"")
            self._chunks = self._body.chunks(offset)
        return offset

    def check(self) -> None:
        """Raise what ended it, if it wasn't its end; once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Close its connection."""
        self._chunks.close()


def open_feed(uri: SourceUri, allowance: Allowance, hosts: Sequence[str], *, once: bool) -> Feed:
    """Ask for ``uri``; ``allowance`` limits that, and then what is read for each picture.

    What is read ``once`` has an end, and is resumed where the connection is lost.

    Raises
    ------
    SourceError
        When it can't be had.
    """
    web = Web(uri, hosts, allowance)
    body = Body(web, web.url, once=once)
    first = body.chunks()
    head = b""
    while len(head) < _ENOUGH and (chunk := next(first, b"")):
        head += chunk
    content = _joined((head,), first)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(MARK):
        playlist, url = open_playlist(web, read_text(content), body.url)
        read = segments(web, playlist, url, once=once)
        return Feed(read, in_bursts=True, complete=playlist.complete)
    if body.type.startswith(("multipart/", "image/jp")) or head.lstrip().startswith(
        (b"--", _START)
    ):
        shown = jpegs(content)
        if not once and body.type.startswith("image/"):
            shown = _joined(shown, _asked_again(web))
        parts = (_PART % (len(jpeg), jpeg) for jpeg in shown)
        return Feed(parts, form="mpjpeg")
    return Feed(content, body if once and body.size is not None else None)


def _joined(*parts: Iterable[bytes]) -> Generator[bytes, None, None]:
    for part in parts:
        yield from part


def jpegs(chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield each JPEG in ``chunks``, whatever is around it."""
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
    """Go from marker to marker; return how far, and whether that is the picture's end."""
    while marker := _MARKER.search(held, at):
        code, after = held[marker.start() + 1], marker.end()
        if code == 0xD9:
            return after, True
        if code == 0xD8:  # the next picture's
            return marker.start(), True
        if code not in _NO_LENGTH:
            if len(held) < after + 2:
                return marker.start(), False
            after += int.from_bytes(held[after : after + 2], "big")
        at = after
    return max(at, len(held) - 1), False


def _asked_again(web: Web) -> Iterator[bytes]:
    """Yield a still picture again and again, until there is none."""
    found = True
    while found:
        found = False
        web.allowance.wait(_POLL)
        for jpeg in jpegs(Body(web, web.url).chunks()):
            found = True
            yield jpeg
