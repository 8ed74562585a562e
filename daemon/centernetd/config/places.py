"""The file and line of each configuration key, for error messages."""

from dataclasses import dataclass, field

from centernetd.config.secret import Redactor, shown
from centernetd.errors import ConfigError

Location = tuple[str | int, ...]
LONGEST_SHOWN = 60


def show(value: object) -> str:
    """Format a value of the file for an error message: short, and on one line."""
    if value in (None, ""):
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    text = repr(shown(value)) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def dotted(location: Location) -> str:
    """Format a location as users write it: ``engine.devices[1]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isprintable() and 0 < len(part) <= LONGEST_SHOWN
            text += f".{shown(part) if plain else show(part)}"
    return text.removeprefix(".")


@dataclass
class Places:
    """The file and line of every key read, and the values that must not be printed."""

    lines: dict[Location, tuple[str, int]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def find(self, location: Location) -> tuple[str, int]:
        """Return the file and line of a key, of the default it came from, or of its parent."""
        while location not in self.lines:
            default = ("defaults", *location[2:])
            if location[0] == "streams" and len(location) > 2 and default in self.lines:
                return self.lines[default]
            location = location[:-1]
        return self.lines[location]

    def error(self, location: Location, sentence: str) -> ConfigError:
        """Return an error about a key: file, line, key and sentence, with secrets masked."""
        file, line = self.find(location)
        name = f"{dotted(location)}: " if location else ""
        return ConfigError(f"{file}:{line}: {Redactor(self.taken)(name + sentence)}")
