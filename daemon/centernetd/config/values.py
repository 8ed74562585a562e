"""Values with a notation of their own: text in the file, typed and checked in the program."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from centernetd.config import template
from centernetd.config.problems import show
from centernetd.config.secret import SourceUri
from centernetd.config.variables import Expanded

MAX_BATCH_SIZE = 64
MAX_CORNERS = 100  # of a polygon
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}
MAX_DURATION = 3650 * SECONDS["d"]  # longer waits overflow somewhere
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as ``500ms``, ``10s``, ``5min``, ``2h`` or ``14d``.

    Raises ValueError with a sentence for the user if the number or the unit is missing or
    unknown, or the duration is longer than ten years.
    """
    seconds = _parse(text, SECONDS, "500ms, 10s, 5min, 14d")
    if seconds > MAX_DURATION:
        raise ValueError(f"{show(text)} is more than {format_duration(MAX_DURATION)}")
    return seconds


def parse_size(text: str) -> int:
    """Return the bytes of a text such as ``500MB``, ``2GB`` (powers of 1000) or ``1GiB`` (of 1024).

    Raises ValueError with a sentence for the user if the number or the unit is missing or unknown.
    """
    return round(_parse(text, BYTES, "500MB, 2GB, 1GiB"))


def format_duration(seconds: float) -> str:
    """Format a duration as in the file, in the largest unit in which it is a whole number."""
    for unit in ("d", "h", "min", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:.0f}{unit}"
    return f"{seconds / SECONDS['ms']:.6f}".rstrip("0").rstrip(".") + "ms"


def format_size(count: int) -> str:
    """Format a size as in the file, in the largest decimal unit in which it is a whole number."""
    unit = next(unit for unit in ("TB", "GB", "MB", "kB", "B") if count % BYTES[unit] == 0)
    return f"{count // BYTES[unit]}{unit}"


def _parse(text: str, factors: dict[str, Any], examples: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{show(text)} is not a valid quantity; write one as in {examples}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"{show(text)} needs a unit, as in {examples}")
    if unit not in factors:
        raise ValueError(f"{unit!r} is not a known unit; write one of {', '.join(factors)}")
    return float(number) * float(factors[unit])


def _has_to_parse(value: object, info: ValidationInfo) -> bool:
    """Whether ``value`` is in the file's notation: there, even a plain number lacks a unit."""
    return isinstance(value, str) or (bool(info.context) and isinstance(value, int | float))


def _duration(value: object, info: ValidationInfo) -> object:
    return parse_duration(str(value)) if _has_to_parse(value, info) else value


def _size(value: object, info: ValidationInfo) -> object:
    return parse_size(str(value)) if _has_to_parse(value, info) else value


def _quantity_schema(factors: dict[str, Any], examples: list[str]) -> WithJsonSchema:
    pattern = rf"^[0-9]+(\.[0-9]+)? ?({'|'.join(factors)})$|^\$\{{.+\}}$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": examples})


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, when_used="json"),
    _quantity_schema(SECONDS, ["500ms", "10s", "5min", "14d"]),
]
"""Seconds; in the file, a number with a unit. Code may pass plain seconds."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, when_used="json"),
    _quantity_schema(BYTES, ["500MB", "2GB", "1GiB"]),
]
"""Bytes; in the file, a number with a unit. Code may pass plain bytes."""


class Address(NamedTuple):
    """A host (name, IPv4 or bare IPv6) and a port; port 0 lets the system choose one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse ``HOST:PORT``; raises ValueError with a sentence for the user."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > 65535:
            raise ValueError(
                f"{show(text)} is not HOST:PORT: write it as in 127.0.0.1:10864 or [::1]:10864"
            )
        if match[1]:
            ipaddress.IPv6Address(match[1])  # raises ValueError with a sentence of its own
        return cls(match[1] or match[2], int(match[3]))

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("write HOST:PORT, as in 127.0.0.1:10864")  # noqa: TRY004 (pydantic's)
    return Address.parse(value)


ListenAddress = Annotated[
    Address,
    PlainValidator(_address),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:10864", "[::1]:10864"]}),
]


def source_uri(value: object) -> SourceUri:
    """Return a source, parsing it if it is text; raises ValueError without repeating the text."""
    if isinstance(value, SourceUri):
        return value
    if not isinstance(value, str):
        raise ValueError("is not text")  # noqa: TRY004 (pydantic wants ValueError)
    return SourceUri(value, value.substituted if isinstance(value, Expanded) else ())


def _mp4(value: str) -> str:
    if not value.endswith(".mp4"):
        raise ValueError("must end in .mp4")
    return value


def _host(value: str) -> str:
    try:
        parts = urlsplit(f"//{value}")
        whole = parts.hostname and (value.endswith("]") or parts.port or ":" not in value)
    except ValueError:
        whole = False
    if not whole or parts.netloc != value or "@" in value:
        raise ValueError("is not a host: write it as in media.example.com or 192.0.2.7:8080")
    return value


HostAndPort = Annotated[str, AfterValidator(_host)]
EventsPath = Annotated[str, AfterValidator(template.check)]
RecordingPath = Annotated[EventsPath, AfterValidator(_mp4)]
SourceAddress = Annotated[SourceUri, PlainValidator(source_uri), WithJsonSchema({"type": "string"})]


def _batch_size(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if type(value) is int and 1 <= value <= MAX_BATCH_SIZE:
        return value
    raise ValueError(f"must be auto or a whole number from 1 to {MAX_BATCH_SIZE}")


def _version(value: object) -> int:
    if type(value) is not int or value != 1:
        raise ValueError("must be 1: no other version of the format exists")
    return value


def _plain_text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("is empty or contains control characters")
    return value


BatchSize = Annotated[
    int | Literal["auto"],
    PlainValidator(_batch_size),
    WithJsonSchema(
        {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MAX_BATCH_SIZE}]}
    ),
]


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A list; in the file, a single name may be written without brackets."""
Version = Annotated[int, PlainValidator(_version), WithJsonSchema({"const": 1})]
PathText = Annotated[str, AfterValidator(_plain_text)]
Side = Annotated[int, Field(ge=32, le=4096)]
DRAWN = ("boxes", "ids", "zones", "clock")
"""What can be drawn into a recording."""
FORMERLY_DRAWN: Mapping[str, tuple[str, ...]] = {"boxes": ("boxes",), "none": (), "blur": ()}
"""The words that a file may have in place of a list, from before it was one."""


def _drawing(value: object) -> tuple[str, ...] | str:
    if isinstance(value, str) and value in FORMERLY_DRAWN:
        return value
    if not isinstance(value, tuple):
        raise ValueError(f"must be a list of {', '.join(DRAWN)}, not {show(value)}")  # noqa: TRY004
    for item in value:
        if item not in DRAWN:
            raise ValueError(f"{show(item)} is not one of {', '.join(DRAWN)}")
    return value


Drawing = Annotated[
    tuple[str, ...] | str,
    PlainValidator(_drawing),
    PlainSerializer(lambda value: value if isinstance(value, str) else list(value)),
    WithJsonSchema({"type": "array", "items": {"enum": list(DRAWN)}, "uniqueItems": True}),
]
"""Some of `DRAWN`, or a word of `FORMERLY_DRAWN` until the configuration is resolved."""


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{show(value)} is no time zone here: write it as in Europe/Berlin"
        ) from None
    return value


TimeZone = Annotated[str, AfterValidator(_time_zone)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Share, Share]
"""x and y as shares of the picture's width and height, from its top left."""


def _turn(one: Point, two: Point, three: Point) -> float:
    """Return twice the signed area of a triangle: 0 if its corners are on one line."""
    return (two[0] - one[0]) * (three[1] - one[1]) - (two[1] - one[1]) * (three[0] - one[0])


def _within(one: Point, two: Point, point: Point) -> bool:
    """Return whether a point on the line through two others is between them."""
    return all(min(a, b) <= c <= max(a, b) for a, b, c in zip(one, two, point, strict=True))


def _touch(one: Point, two: Point, three: Point, four: Point) -> bool:
    """Return whether the segments from ``one`` to ``two`` and ``three`` to ``four`` meet."""
    ends = ((three, four, one), (three, four, two), (one, two, three), (one, two, four))
    turns = [_turn(*end) for end in ends]
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    return any(not turn and _within(*end) for turn, end in zip(turns, ends, strict=True))


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if not 3 <= len(points) <= MAX_CORNERS:
        raise ValueError(f"has {len(points)} points: a polygon has 3 to {MAX_CORNERS}")
    sides = list(zip(points, (*points[1:], points[0]), strict=True))
    if repeated := [list(one) for one, two in sides if one == two]:
        raise ValueError(f"repeats the point {repeated[0]}; the last point joins the first")
    for number, (one, two) in enumerate(sides):
        _, three = sides[(number + 1) % len(sides)]
        if not _turn(one, two, three) and (_within(one, two, three) or _within(two, three, one)):
            raise ValueError(f"turns back on itself at {list(two)}")
        for other in sides[number + 2 : len(sides) - (number == 0)]:
            if _touch(one, two, *other):
                raise ValueError(
                    f"crosses itself: the side from {list(one)} to {list(two)} meets the one from "
                    f"{list(other[0])} to {list(other[1])}"
                )
    return points


Polygon = Annotated[tuple[Point, ...], AfterValidator(_polygon)]
"""The corners of a polygon whose sides don't meet, in either order."""
