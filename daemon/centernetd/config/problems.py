"""How mistakes in the configuration are reported: where each key is, and what is wrong with it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from centernetd.config.secret import Redactor, shown
from centernetd.errors import ConfigError

Location = tuple[str | int, ...]
MAX_SHOWN = 60

_LIMITS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_EXPECTED = {
    "string_type": "text; put it in quotes",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list, as in [a, b]",
    "model_type": "a mapping of keys ({} for the defaults)",
    "dict_type": "a mapping of names",
}


def show(value: object) -> str:
    """Format a value of the file for an error message: short, and on one line."""
    if value in (None, ""):
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    text = repr(shown(value)) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def dotted(location: Location) -> str:
    """Format a location as users write it: ``engine.devices[1]``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isprintable() and 0 < len(part) <= MAX_SHOWN
            text += f".{shown(part) if plain else show(part)}"
    return text.removeprefix(".")


@dataclass
class Origins:
    """The file and line of every key read, and the values that must not be printed."""

    lines: dict[Location, tuple[str, int]] = field(default_factory=dict)
    substituted: set[str] = field(default_factory=set)

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
        return ConfigError(f"{file}:{line}: {Redactor(self.substituted)(name + sentence)}")


def validation_errors(
    error: ValidationError, model: type[BaseModel], origins: Origins
) -> list[ConfigError]:
    """Return an error for each key of ``model`` with a problem, in file order.

    Missing keys come last, because usually they are present but misspelt.
    """
    every = [each for each in error.errors(include_url=False) if not _counts_valid_only(each)]
    every.sort(key=lambda details: (details["type"] == "missing", *origins.find(details["loc"])))
    problems: dict[Location, str] = {}
    for location, problem in map(partial(_translate, model), every):
        problems.setdefault(location, problem)
    return [origins.error(location, problem) for location, problem in problems.items()]


def _counts_valid_only(details: ErrorDetails) -> bool:
    """Return whether a list is called too short because pydantic doesn't count invalid entries."""
    is_short = details["type"] == "too_short"
    return is_short and len(details["input"]) >= details["ctx"]["min_length"]


def suggestion(word: str, words: Iterable[str]) -> str:
    """Return a hint: the one of ``words`` that was probably meant, or all of them."""
    known = sorted(words)
    if close := difflib.get_close_matches(word, known, n=1):
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(known)}"


def _translate(model: type[BaseModel], details: ErrorDetails) -> tuple[Location, str]:
    kind, location = details["type"], details["loc"]
    if kind == "extra_forbidden":
        fields = _section_at(model, location[:-1]).model_fields
        keys = [field.alias or name for name, field in fields.items()]
        return location, f"no such key; {suggestion(str(location[-1]), keys)}"
    if location and location[-1] == "[key]":
        kind = str(location[-3]).removesuffix("s")
        return location[:-1], f"a {kind}'s name is 1 to 63 of a-z, 0-9, _ and -"
    if kind == "missing" and isinstance(location[-1], int):
        location, kind = location[:-1], "too_short"
    return location, describe(kind, details)


def describe(kind: str, details: ErrorDetails) -> str:
    """Return a sentence about what is wrong with a value, without its key."""
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        return f"{show(details['input'])} is not a name of 1 to 63 of a-z, 0-9, _ and -"
    if kind == "literal_error":
        return f"{show(details['input'])} is not one of {details['ctx']['expected']}"
    if kind == "too_short":
        return "has too few entries"
    if kind == "too_long":
        return f"has too many entries: at most {details['ctx']['max_length']}"
    if kind in ("model_type", "dict_type"):
        return f"must be {_EXPECTED[kind]}, not {_kind_of(details['input'])}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {show(details['input'])}"
    # Of the values with a limit, only durations are text: the limit is in seconds.
    unit = "s" if kind in _LIMITS and isinstance(details["input"], str) else ""
    return f"{details['msg'].replace('Input should', 'must')}{unit}, is {show(details['input'])}"


def _kind_of(value: object) -> str:
    """Describe a value found in place of a mapping; never its text, which may be a source."""
    known = value in (None, "") or isinstance(value, tuple)
    return show(value) if known else "a single value"


def _section_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Return the model of the mapping at ``location`` in the file that ``model`` describes."""
    kind: Any = model
    for part in location:
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        kind = kind.model_fields[part].annotation if is_model else get_args(kind)[1]
        choices = [choice for choice in get_args(kind) if choice is not NoneType]
        if len(choices) == 1:  # an optional section
            (kind,) = choices
    return kind  # type: ignore[no-any-return]
