"""Source addresses, which contain passwords but never show them; and the redaction of text."""

import base64
import copy
import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from centernetd.config.camera import CameraAddress
from centernetd.config.variables import Expanded

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
MAX_LENGTH = 2048
MASK = "***"
CONTAINERS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)
"""The suffixes of video files."""

Span = tuple[int, int]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.,-]*):")
_SCHEME_OF_URL = re.compile(rf"{_SCHEME.pattern}//")
# A URL in any text, even if it was taken for a path: user and password, host and port, the rest.
# User and password extend to the last "@" before a space; `_check_url` accepts no URL for which
# that could be wrong. The bounds keep matching linear.
_URL = re.compile(
    rf":/{{1,2}}(?:(\S{{0,{MAX_LENGTH}}})@)?([^\s/?#]{{0,{MAX_LENGTH}}})(\S{{0,{MAX_LENGTH}}})"
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::([0-9]{0,5}))?")
_HOST_IN_TEXT = re.compile(rf"(?:{_HOST.pattern})?\W*")
_LOGIN = re.compile(rf"://\S{{0,{MAX_LENGTH}}}@")
_BEHIND_PATH = re.compile(r"[?#]")
_BEHIND_HOST = re.compile(r"[/?#]")
_PIECE = re.compile(r"[^?&#]+")
_IN_PATH = re.compile(r"(?<=/)[^/=]*=[^/]*")
_NAME = re.compile(r"[A-Za-z_][\w.;-]{0,63}=(?=[^=])")
# Settings that select a camera or one of its streams; they grant no access.
_HARMLESS = re.compile(
    r"-?(?:(?:ch|chn|channel|cam|camera|input|subtype|(?:real_?)?stream|profile|size|resolution|"
    r"width|height|fps|frame_?rate|rate|quality|compression|rotation|codec|format|audio|video|"
    r"proto|protocol|transport(?:mode)?|unicast|multicast)_?(?:id|no|type|mode)?)"
    r"(?:=[\w.:-]{0,24})?\W{0,4}",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:pas|pwd|psk|token|secret|key|auth|sig|credential|jwt|session|login)[\w-]{0,64}=([^&#\s]+)",
    re.IGNORECASE,
)
# A common word or number: masked in URLs, but not searched for in other text.
_ORDINARY = re.compile(r"[a-z]{1,12}|[0-9]{1,4}")


def redact(text: str) -> str:
    """Mask user names, passwords and possible secrets in the URLs of any text.

    Outside of URLs, values with names such as ``password=`` or ``token=`` are masked.
    """
    return _masked(text, _spans(text))


def secrets_in(text: str, substituted: Iterable[str] = ()) -> frozenset[str]:
    """Return what `redact` would mask, and ``substituted``: raw, decoded and percent-encoded.

    Common words and numbers are left out unless they are passwords.
    """
    found = {*substituted, *(match[1] for match in _NAMED.finditer(text))}
    for url in _URL.finditer(text):
        user, _, password = (url[1] or "").partition(":")
        found.add(password or user)
        values = (user, *(url[3][start:end] for start, end in _spans_behind_host(url[3])))
        found.update(value for value in values if not _ORDINARY.fullmatch(value))
    plain = found | {unquote(value) for value in found}
    encoded = {form for value in plain for form in (quote(value, safe=""), quote(value))}
    return frozenset(plain | encoded | {quote_plus(value) for value in plain}) - {""}


class Redactor:
    """Masks known secrets, even if quoted or percent-encoded, and all that `redact` masks."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._plain: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask ``secrets`` as well from now on."""
        for secret in secrets:
            forms = (secret, unquote(secret), unquote(secret, "latin-1"), unquote_plus(secret))
            self._plain.update(form for form in forms if form.strip("*"))
        longest_first = sorted(self._plain, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_any_encoding, longest_first)) or r"(?!)")

    def __call__(self, text: str) -> str:
        """Return ``text`` with every secret masked."""
        known = (match.span() for match in self._pattern.finditer(text))
        return _masked(text, chain(_spans(text), known))


class SourceUri:
    """A camera, a network stream or a file; printed without its secrets.

    ``text`` is ``rtsp[s]://``, ``http[s]://``, ``v4l2:`` as in `CameraAddress`, or a plain path;
    anything else raises ValueError with a sentence that does not repeat it. ``substituted`` holds
    the values of ``${NAME}``, which are secret anywhere in the text.
    """

    __slots__ = ("_raw", "_shown", "_substituted", "scheme")

    scheme: str
    """``rtsp``, ``rtsps``, ``http``, ``https``, ``v4l2`` or ``file``."""

    def __init__(self, text: str, substituted: Iterable[str] = ()) -> None:
        self.scheme = _scheme_of(text)
        self._raw = text
        self._substituted = tuple(substituted)
        # If a value contains the scheme, and so is the URL, its host and path are shown.
        urls = {value for value in self._substituted if "://" in value and text.startswith(value)}
        self._shown = Redactor({*self._substituted} - urls)(text)

    @property
    def is_file(self) -> bool:
        """True for a path: a regular file or a named pipe."""
        return self.scheme == "file"

    @property
    def is_web(self) -> bool:
        """True for an ``http[s]://`` URL."""
        return self.scheme in ("http", "https")

    @property
    def is_recording(self) -> bool:
        """True if the name implies an end: a path, or a URL with a video file's suffix."""
        url = _URL.search(self._raw) if self.is_web else None
        path = "" if url is None else unquote(_BEHIND_PATH.split(url[3])[0])
        return self.is_file or Path(path).suffix.lower() in CONTAINERS

    def login(self) -> tuple[str, str] | None:
        """Return user and password of a URL, decoded, or None if it has none."""
        url = _URL.search(self._raw)
        if self.is_file or url is None or not url[1]:
            return None
        user, _, password = url[1].partition(":")
        return unquote(user), unquote(password)

    def without_login(self) -> str:
        """Return a URL without user and password; other parts may still contain secrets."""
        return self._raw if self.is_file else _LOGIN.sub("://", self._raw, 1)

    def reveal(self) -> str:
        """Return the full text including the password; only for the call that opens it."""
        return self._raw

    def under(self, folder: Path) -> "SourceUri":
        """Return a relative path made absolute under ``folder``, still printed as written.

        Anything but a path is returned unchanged.
        """
        if not self.is_file:
            return self
        moved = copy.copy(self)
        moved._raw = str(folder / self._raw)
        return moved

    def secrets(self) -> frozenset[str]:
        """Return the strings never to print: those of `secrets_in`, and HTTP Basic credentials."""
        return secrets_in(self._raw, self._substituted) | set(self._basic())

    def _basic(self) -> Iterator[str]:
        """Yield user and password as encoded in an Authorization header (RFC 7617)."""
        if login := self.login():
            yield base64.b64encode(":".join(login).encode(errors="surrogateescape")).decode()

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"SourceUri({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceUri) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)


def shown(value: str) -> str:
    """Return a value that is, or was meant to be, a source, without its secrets."""
    substituted = value.substituted if isinstance(value, Expanded) else ()
    try:
        return str(SourceUri(value, substituted))
    except ValueError:
        before, at, rest = value.rpartition("@")
        scheme = _SCHEME_OF_URL.match(before)
        return Redactor(substituted)(
            f"{scheme[0] if scheme else ''}{MASK}{at}{rest}" if at else value
        )


def _masked(text: str, spans: Iterable[Span]) -> str:
    """Return ``text`` masked; adjacent spans share one mask."""
    parts: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start > at or not parts:
            parts += (text[at:start], MASK)
        at = max(at, end)
    return "".join(parts) + text[at:]


def _spans(text: str) -> Iterator[Span]:
    for url in _URL.finditer(text):
        if url[1] is not None:
            yield url.span(1)
        elif not _HOST_IN_TEXT.fullmatch(url[2]):  # cut off before the "@"
            yield url.span(2)
        for start, end in _spans_behind_host(url[3]):
            yield url.start(3) + start, url.start(3) + end
    yield from (match.span(1) for match in _NAMED.finditer(text))


def _spans_behind_host(rest: str) -> Iterator[Span]:
    """Yield the parts of path, query and fragment that are not known to be harmless.

    In a path, only ``name=value`` may be a secret; if one is, everything after it is masked too.
    """
    for piece in _PIECE.finditer(rest):
        settings = _IN_PATH.finditer(rest, 0, piece.end()) if piece.start() == 0 else (piece,)
        for setting in settings:
            if not _HARMLESS.fullmatch(setting[0]):
                name = _NAME.match(setting[0])
                yield setting.start() + (name.end() if name else 0), piece.end()
                break


def _any_encoding(secret: str) -> str:
    """Return a pattern that matches ``secret`` with any of its characters encoded or escaped.

    No text matches in two ways, so that searching for what it nearly is stays linear.
    """
    return "".join(_run(character, len(list(run))) for character, run in groupby(secret))


def _run(character: str, count: int) -> str:
    """Return a pattern that matches ``count`` times the same character."""
    encoded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    plain, escaped = re.escape(character), re.escape(repr(character)[1:-1])
    if character == "\\":  # repr() shows two of them
        return rf"(?:(?i:{encoded})|{plain}){{{count},{2 * count}}}"
    if character in "'\"":  # repr() may show a backslash before it
        plain = escaped = rf"\\?{plain}"
    if character == " ":
        plain = escaped = "[ +]"
    forms = dict.fromkeys((f"(?i:{encoded})", escaped, plain))  # the longest first
    return f"(?:{'|'.join(forms)}){{{count}}}"


def _scheme_of(text: str) -> str:
    """Return the scheme of a source, or raise ValueError explaining why it is not valid."""
    if not text or not text.isprintable():
        raise ValueError("is empty or contains control characters")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    match = _SCHEME.match(text)
    if match is None:
        if text.startswith("//") and "@" in text:
            raise ValueError("is not a complete URL: write rtsp: or http: before it")
        if text.startswith("/dev/video"):
            raise ValueError("is a camera: write v4l2: before it")
        return "file"
    scheme = match[1].lower()
    if scheme == "v4l2":
        CameraAddress.parse(text)
    elif scheme in NETWORK_SCHEMES:
        _check_url(_URL.match(text, len(scheme)))
    else:
        raise ValueError(
            "has a scheme that is not supported: give rtsp://, rtsps://, http://, https://, "
            "v4l2:0 or a path (one with a colon in its name as ./name)"
        )
    return scheme


def _check_url(url: re.Match[str] | None) -> None:
    """Raise ValueError for an invalid URL, and for one that `redact` might not fully mask."""
    if url is None or not url[0].startswith("://") or url.end() < len(url.string) or not url[2]:
        raise ValueError(
            "is not a complete URL: write it as in rtsp://host:554/path, and a space as %20"
        )
    if _BEHIND_HOST.search(url[1] or ""):
        raise ValueError(
            "has an @ behind a / ? or #: percent-encode these in a user name or password "
            "(%2F %3F %23), and an @ behind the host (%40)"
        )
    host = _HOST.fullmatch(url[2])
    if host is None or int(host[1] or 0) > 65535:
        raise ValueError(
            "has a host or port that can't be read; in a user name or password percent-encode "
            "/ ? # @ and :, but not the @ before the host"
        )
