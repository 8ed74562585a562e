"""Output paths: strftime directives and ``{stream}``, relative to the storage root."""

import re
from datetime import datetime
from pathlib import PurePosixPath

DIRECTIVES = frozenset("YymdHMSfjaAbBUWVGuw%")
MAX_NAME_LENGTH = 200  # bytes; file systems allow 255, and ".part" and "-12" may be added
STREAM_NAME = "[a-z0-9_-]{1,63}"
LOCK_NAME = ".centernetd.lock"
"""The daemon's own file under the storage root."""
PART = ".part"
"""The suffix of a recording that is not complete."""
_SAMPLE = datetime(2020, 9, 30, 23, 59, 59, 999999)  # the longest English names


def expand(template: str, stream: str, at: datetime) -> PurePosixPath:
    """Return the relative path for ``template`` at a time (UTC by convention)."""
    return PurePosixPath(at.strftime(template).replace("{stream}", stream))


def patterns(template: str, stream: str | None = None) -> tuple[re.Pattern[str], ...]:
    """Return a pattern for each part of a path from ``template``, for any time and ``stream``.

    Without ``stream``, any stream's name fits. The last pattern, for the file, allows for the
    ``-1``, ``-2`` ... appended to a name that is taken.
    """
    if stream is not None:
        template = template.replace("{stream}", stream)
    *folders, name = template.split("/")
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    file = rf"{_pattern(stem)}(-[0-9]+)?{_pattern(suffix)}"
    return tuple(re.compile(part) for part in (*map(_pattern, folders), file))


def _pattern(part: str) -> str:
    digits = {"Y": 4, "G": 4, "j": 3, "f": 6, "u": 1, "w": 1}
    pattern = ""
    for directive, text in re.findall(r"%(.)|([^%]+)", part):
        if text:
            pattern += re.escape(text).replace(re.escape("{stream}"), STREAM_NAME)
        elif directive in "aAbB":
            pattern += r"[^\W\d_]+"
        else:
            pattern += "%" if directive == "%" else f"[0-9]{{{digits.get(directive, 2)}}}"
    return pattern


def check(template: str) -> str:
    """Return ``template`` if it always expands to a path under the root, or raise ValueError."""
    if not template or not template.isprintable():
        raise ValueError("is empty or contains control characters")
    unknown = set(re.findall(r"%(.?)", template)) - DIRECTIVES
    if unknown:
        raise ValueError(f"%{sorted(unknown)[0]} is not one of %{' %'.join(sorted(DIRECTIVES))}")
    if re.search(r"[{}]", template.replace("{stream}", "")):
        raise ValueError("only {stream} is allowed in braces")
    parts = template.split("/")
    if template.startswith("/"):
        raise ValueError("must be relative: it is a path under storage.root")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("must stay under storage.root: no '..', '.' or empty parts")
    if template.endswith(PART) or (len(parts) == 1 and patterns(template)[0].fullmatch(LOCK_NAME)):
        raise ValueError(f"must not end in {PART} or be {LOCK_NAME}, which the daemon uses itself")
    names = expand(template, "s" * 63, _SAMPLE).parts
    if any(len(name.encode()) > MAX_NAME_LENGTH for name in names):
        raise ValueError(f"produces a name of more than {MAX_NAME_LENGTH} bytes")
    return template
