"""HTTP Live Streaming (RFC 8216): a playlist and its segments as one byte stream."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from re import compile as pattern
from urllib.parse import urljoin

from centernetd.capture.resource import Piece, Resource
from centernetd.capture.web import HttpClient
from centernetd.errors import SourceError

MARK = b"#EXTM3U"
"""First bytes of a playlist."""
MAX_PLAYLIST_SIZE = 1 << 20
"""Maximum size of a playlist."""
_LIVE_SEGMENTS = 3  # read from the end of a live playlist
_MAX_WAIT = 10.0  # seconds between two requests of a live playlist
_ATTRIBUTE = pattern(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')


@dataclass(frozen=True)
class Segment:
    """A piece of video and the piece needed to decode it, if any."""

    media: Piece
    header: Piece | None


@dataclass(frozen=True)
class Playlist:
    """The segments of the playlist at ``url``; the first has the number ``sequence``.

    ``complete`` is True if no more will be added. ``target`` is the longest segment in seconds.
    ``best`` is the URL of the best variant; ``segments`` is empty then.
    """

    url: str
    segments: tuple[Segment, ...]
    sequence: int
    target: float
    complete: bool
    best: str | None = None


def read_text(chunks: Generator[bytes, None, None]) -> bytes:
    """Return the text of a playlist; raise SourceError if it is too large."""
    text = bytearray()
    with closing(chunks):
        for chunk in chunks:
            text += chunk
            if len(text) > MAX_PLAYLIST_SIZE:
                why = f"its playlist is larger than {MAX_PLAYLIST_SIZE >> 20} MB"
                raise SourceError(why, "over_limit")
    return bytes(text)


def parse(text: bytes, url: str) -> Playlist:
    """Parse the playlist read from ``url``.

    Raises
    ------
    SourceError
        When it is damaged or encrypted.
    """
    try:
        return _Parser(url).parse(text.decode(errors="replace"))
    except (ValueError, OverflowError):
        raise SourceError("its playlist is damaged", "open_failed") from None


class _Parser:
    def __init__(self, url: str) -> None:
        self._url = url
        self._segments: list[Segment] = []
        self._variants: list[tuple[int, int, str]] = []
        self._sequence, self._target, self._complete = 0, 1.0, False
        self._header: Piece | None = None
        self._range: tuple[int, int | None] = (0, None)
        self._variant: tuple[int, int] | None = None

    def parse(self, text: str) -> Playlist:
        for line in map(str.strip, text.splitlines()):
            if line.startswith("#EXT"):
                self._tag(*line.partition(":")[::2])
            elif line and not line.startswith("#"):
                self._uri(urljoin(self._url, line))
        best = max(self._variants)[2] if self._variants else None
        segments = () if best else tuple(self._segments)
        return Playlist(self._url, segments, self._sequence, self._target, self._complete, best)

    def _tag(self, name: str, value: str) -> None:
        if name == "#EXT-X-TARGETDURATION":
            self._target = float(value)
        elif name == "#EXT-X-MEDIA-SEQUENCE":
            self._sequence = int(value)
        elif name == "#EXT-X-ENDLIST":
            self._complete = True
        elif name == "#EXT-X-BYTERANGE":
            after = self._segments[-1].media if self._segments else Piece("")
            self._range = _range(value, after.first + (after.length or 0))
        elif name == "#EXT-X-MAP":
            attributes = _attributes(value)
            part = _range(attributes["BYTERANGE"], 0) if "BYTERANGE" in attributes else (0, None)
            self._header = Piece(urljoin(self._url, attributes.get("URI", "")), *part)
        elif name == "#EXT-X-STREAM-INF":
            attributes = _attributes(value)
            width, _, height = attributes.get("RESOLUTION", "0x0").partition("x")
            self._variant = int(width) * int(height), int(attributes.get("BANDWIDTH", 0))
        elif name == "#EXT-X-KEY" and _attributes(value).get("METHOD") != "NONE":
            raise SourceError("its playlist is encrypted, which is not read", "open_failed")

    def _uri(self, url: str) -> None:
        if self._variant is not None:
            self._variants.append((*self._variant, url))
        else:
            self._segments.append(Segment(Piece(url, *self._range), self._header))
        self._range, self._variant = (0, None), None


def _range(value: str, default: int) -> tuple[int, int]:
    length, _, first = value.partition("@")
    return int(first) if first else default, int(length)


def _attributes(value: str) -> Mapping[str, str]:
    return {name: found.strip('"') for name, found in _ATTRIBUTE.findall(value)}


def open_playlist(client: HttpClient, text: bytes, url: str) -> Playlist:
    """Return the playlist in ``text``, which was read from ``url``, or that of its best variant.

    Raises
    ------
    SourceError
        When it lists no segments.
    """
    playlist = parse(text, url)
    if playlist.best is not None:
        variant = Resource(client, Piece(playlist.best))
        playlist = parse(read_text(variant.chunks()), variant.url)
    if playlist.best is not None or not (playlist.segments or not playlist.complete):
        raise SourceError("its playlist lists no segments", "open_failed")
    return playlist


def segments(
    client: HttpClient, playlist: Playlist, *, resumes: bool
) -> Generator[bytes, None, None]:
    """Yield the bytes of the segments until the playlist is complete.

    Raises
    ------
    SourceError
        When a segment can't be read or the playlist restarted.
    """
    listed = len(playlist.segments)
    due = playlist.sequence + (0 if playlist.complete else max(0, listed - _LIVE_SEGMENTS))
    header = None
    while True:
        for number, segment in enumerate(playlist.segments, playlist.sequence):
            if number < due:
                continue
            if segment.header is not None and segment.header != header:
                header = segment.header
                yield from _read(client, header, resumes=resumes)
            yield from _read(client, segment.media, resumes=resumes)
            due = number + 1
        if playlist.complete:
            return
        client.allowance.wait(min(max(0.2, playlist.target / 2), _MAX_WAIT))
        again = Resource(client, Piece(playlist.url)).chunks()
        playlist = parse(read_text(again), playlist.url)
        if playlist.sequence + len(playlist.segments) < due:
            raise SourceError("its playlist restarted", "ended")


def _read(client: HttpClient, piece: Piece, *, resumes: bool) -> Iterator[bytes]:
    return Resource(client, piece, resumes=resumes).chunks()
