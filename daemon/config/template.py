"""Output paths: strftime directives and ``{stream}``, relative to the storage root."""

import re
from datetime import datetime
from pathlib import PurePosixPath

DIRECTIVES = frozenset("YymdHMSfjaAbBUWVGuw%")
LONGEST_NAME = 200  # bytes: file systems allow 255, ".part" and "-12" come on top
_SAMPLE = datetime(2020, 9, 30, 23, 59, 59, 999999)  # the longest English names


def expand(template: str, stream: str, at: datetime) -> PurePosixPath:
    """Return the relative path that ``template`` stands for, at a time (UTC by convention)."""
    return PurePosixPath(at.strftime(template).replace("{stream}", stream))


def check(template: str) -> str:
    """Return ``template`` if it always makes a name under the root, else raise ValueError."""
    if not template or not template.isprintable():
        raise ValueError("is empty or holds control characters")
    unknown = set(re.findall(r"%(.?)", template)) - DIRECTIVES
    if unknown:
        raise ValueError(f"%{sorted(unknown)[0]} is not one of %{' %'.join(sorted(DIRECTIVES))}")
    if re.search(r"[{}]", template.replace("{stream}", "")):
        raise ValueError("only {stream} may stand in braces")
    parts = template.split("/")
    if template.startswith("/"):
        raise ValueError("must be relative: it is taken under storage.root")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("must stay under storage.root: no '..', '.' or empty parts")
    names = expand(template, "s" * 63, _SAMPLE).parts
    if any(len(name.encode()) > LONGEST_NAME for name in names):
        raise ValueError(f"makes a name of more than {LONGEST_NAME} bytes")
    return template
