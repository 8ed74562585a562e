"""Formatting of the daemon's /status document for `centernetd status`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from centernetd.errors import StartupError

HEADING = ("stream", "state", "frames/s", "last frame", "captured", "lost", "lost connections", "")

Document = Mapping[str, Any]


def read(body: str) -> Document:
    """Return the document in the body of /status; raise `StartupError` if it is invalid."""
    try:
        document = json.loads(body)
        rows(document)
        headline(document)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StartupError("what answers is not centernetd, or another version of it") from None
    return dict(document)


def headline(document: Document) -> str:
    """Return a one-line summary of the daemon."""
    engine = document["engine"]
    runs = "the engine is not loaded yet"
    if engine is not None:
        runs = "{backend} in {precision} on {device}, because {reason}".format(**engine)
    troubles = "; ".join(document["troubles"])
    condition = "healthy" if document["healthy"] else f"NOT HEALTHY: {troubles}"
    up = _span(document["uptime"])
    return f"centernetd {document['version']}, started {up} ago, {condition}; {runs}"


def rows(document: Document) -> list[tuple[str, ...]]:
    """Return a row for each stream, in the columns of `HEADING`."""
    return [_row(name, stream) for name, stream in document["streams"].items()]


def _row(name: str, stream: Document) -> tuple[str, ...]:
    return (
        name,
        stream["state"] if stream["fresh"] or stream["state"] != "running" else "silent",
        f"{stream['fps']:.1f}",
        "never" if stream["frame_age"] is None else f"{_span(stream['frame_age'])} ago",
        str(stream["captured"]),
        ", ".join(_lost(stream["dropped"])) or "0",
        str(stream["lost_connections"]),
        stream["last_error"] or "",
    )


def _lost(dropped: Mapping[str, int]) -> Iterator[str]:
    """Yield counts of dropped frames by place and reason, except unwanted ones."""
    for place, count in dropped.items():
        if not place.endswith("/unwanted"):
            yield f"{count} {place}"


def _span(seconds: float) -> str:
    """Return a duration in its largest sensible unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
