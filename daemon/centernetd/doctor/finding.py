"""One result of `centernetd doctor`."""

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """Severity of a finding."""

    OK = "ok"
    NOTE = "note"  # an optional component is absent
    MISSING = "missing"  # nothing runs without it, not even on the CPU


@dataclass(frozen=True)
class Finding:
    """A component, what was found, and the command or setting that fixes it."""

    topic: str
    level: Level
    found: str
    mend: str = ""
