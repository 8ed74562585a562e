"""Durations and sizes: with units in the file, in seconds and bytes in the program."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

from centernetd.config.places import show

SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}
LONGEST = 3650 * SECONDS["d"]  # longer waits overflow somewhere
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as ``500ms``, ``10s``, ``5min``, ``2h`` or ``14d``.

    Raises ValueError with a sentence for the user if the number or the unit is missing or
    unknown, or the duration is longer than ten years.
    """
    seconds = _parse(text, SECONDS, "500ms, 10s, 5min, 14d")
    if seconds > LONGEST:
        raise ValueError(f"{show(text)} is more than {format_duration(LONGEST)}")
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
        raise ValueError(f"{show(text)} is no such quantity; write one as in {examples}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"{show(text)} needs a unit, as in {examples}")
    if unit not in factors:
        raise ValueError(f"{unit!r} is no known unit; write one of {', '.join(factors)}")
    return float(number) * float(factors[unit])


def _from_file(info: ValidationInfo) -> bool:
    return bool(info.context)


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) or (_from_file(info) and isinstance(value, int | float)):
        return parse_duration(str(value))
    return value


def _size(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) or (_from_file(info) and isinstance(value, int | float)):
        return parse_size(str(value))
    return value


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
