"""Where a stream comes from, holding its password without ever showing it."""

import base64
import copy
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

from daemon.config.camera import CameraAddress

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
LONGEST = 2048
MASK = "***"
CONTAINERS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)
"""The suffixes of video files."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.,-]*):")
# Greedy up to the last "@", so that an unescaped "@" or "/" in a password stays hidden too; with
# bounds, so that no text takes more than linear time.
_PASSWORD = re.compile(r"(?<=://)([^\s:/?#@]{0,256}):(\S{0,2048})@")
_NAMED = re.compile(
    r"([\w-]{0,64}(?:pass|pwd|token|secret|key|auth|sig|credential)[\w-]{0,64}=)([^&#\s]+)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Mask in any text the passwords of URLs and values named like ``password=`` or ``token=``."""
    return _NAMED.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", text))


def secrets_in(text: str, taken: Iterable[str] = ()) -> frozenset[str]:
    """Return what `redact` would mask, and ``taken``: raw, decoded and percent-encoded."""
    found = {match[2] for pattern in (_PASSWORD, _NAMED) for match in pattern.finditer(text)}
    found.update(taken)
    plain = found | {unquote(value) for value in found}
    encoded = {form for value in plain for form in (quote(value, safe=""), quote(value))}
    return frozenset(plain | encoded | {quote_plus(value) for value in plain}) - {""}


class SourceUri:
    """A camera, a network stream or a file; prints without its secrets.

    ``text`` is ``rtsp[s]://``, ``http[s]://``, ``v4l2:`` as in `CameraAddress`, or a plain path;
    all else raises ValueError with a sentence that doesn't repeat it. ``taken`` are values that
    came from ``${NAME}``: they count as secrets wherever they stand.
    """

    __slots__ = ("_raw", "_shown", "_taken", "scheme")

    scheme: str
    """``rtsp``, ``rtsps``, ``http``, ``https``, ``v4l2`` or ``file``."""

    def __init__(self, text: str, taken: Iterable[str] = ()) -> None:
        self.scheme = _scheme_of(text)
        self._raw = text
        self._taken = tuple(taken)
        shown = redact(text)
        for value in self._taken:
            if "://" not in value:
                shown = shown.replace(value, MASK)
        self._shown = shown

    @property
    def is_file(self) -> bool:
        """True for a path: a regular file or a named pipe."""
        return self.scheme == "file"

    def reveal(self) -> str:
        """Return what is to be opened, password and all: for the call that opens it only."""
        return self._raw

    def under(self, folder: Path) -> "SourceUri":
        """Return a relative path made absolute under ``folder``, still printed as it was written.

        What isn't a path is returned unchanged.
        """
        if not self.is_file:
            return self
        moved = copy.copy(self)
        moved._raw = str(folder / self._raw)
        return moved

    def secrets(self) -> frozenset[str]:
        """Return the strings that must never be printed: as `secrets_in`, and for HTTP's Basic."""
        return secrets_in(self._raw, self._taken) | set(self._basic())

    def _basic(self) -> Iterator[str]:
        """Yield user and password as an Authorization header has them (RFC 7617)."""
        for user, password in _PASSWORD.findall(self._raw):
            pair = f"{unquote(user)}:{unquote(password)}".encode(errors="surrogateescape")
            yield base64.b64encode(pair).decode()

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"SourceUri({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceUri) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)


def _scheme_of(text: str) -> str:
    """Return the scheme of a source, or raise ValueError saying why it is none."""
    if not text or not text.isprintable():
        raise ValueError("is empty or holds control characters")
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    match = _SCHEME.match(text)
    if match is None:
        if text.startswith("/dev/video"):
            raise ValueError("is a camera: write v4l2: before it")
        return "file"
    scheme = match[1].lower()
    if scheme == "v4l2":
        CameraAddress.parse(text)
    elif scheme in NETWORK_SCHEMES:
        _check_url(text)
    else:
        raise ValueError(
            "has a scheme that isn't read here: give rtsp://, rtsps://, http://, https://, "
            "v4l2:0 or a path (one with a colon in its name as ./name)"
        )
    return scheme


def _check_url(text: str) -> None:
    """Raise ValueError for a URL without host, with spaces or with a port that is no number."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            "has a host or port that can't be read; in a password percent-encode / ? # @ and :"
        ) from None
    if not text[len(parts.scheme) :].startswith("://") or not host or " " in text:
        raise ValueError("is no full URL: write it as in rtsp://host:554/path")
