"""What `centernetd doctor` says of one thing."""

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"  # something is absent that not everybody needs
    MISSING = "missing"  # without it nothing runs, not even on the CPU


@dataclass(frozen=True)
class Finding:
    """One thing, what was found of it, and the command or the setting that mends it."""

    topic: str
    level: Level
    found: str
    mend: str = ""
