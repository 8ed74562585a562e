"""Pydantic's validation errors, translated into sentences for users."""

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from centernetd.config.places import Location, Places, show
from centernetd.config.section import Section, section_in
from centernetd.config.sections import FileConfig
from centernetd.errors import ConfigError

_EXPECTED = {
    "string_type": "text; put it in quotes",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list, as in [a, b]",
    "model_type": "a mapping of keys ({} for the defaults)",
    "dict_type": "a mapping of names",
}


def refusals(error: ValidationError, places: Places) -> list[ConfigError]:
    """Return an error for each key with a problem, in file order.

    Missing keys come last, because usually they are there but misspelt.
    """
    every = error.errors(include_url=False)
    every.sort(key=lambda details: (details["type"] == "missing", *places.find(details["loc"])))
    problems: dict[Location, str] = {}
    for location, problem in map(_translate, every):
        problems.setdefault(location, problem)
    return [places.error(location, problem) for location, problem in problems.items()]


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint: the one of ``words`` that was probably meant, or all of them."""
    known = sorted(words)
    if close := difflib.get_close_matches(word, known, n=1):
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(known)}"


def _translate(details: ErrorDetails) -> tuple[Location, str]:
    kind, location = details["type"], details["loc"]
    if kind == "extra_forbidden":
        keys = _section_at(location[:-1]).model_fields
        return location, f"no such key; {nearest(str(location[-1]), keys)}"
    if location and location[-1] == "[key]":
        return location[:-1], "a stream's name is 1 to 63 of a-z, 0-9, _ and -"
    if kind in ("missing", "too_short", "too_long") and isinstance(location[-1], int):
        location, kind = location[:-1], "too_short"
    return location, sentence(kind, details)


def sentence(kind: str, details: ErrorDetails) -> str:
    """Return a sentence about what is wrong with a value, without its key."""
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"{show(details['input'])} is none of {details['ctx']['expected']}"
    if kind in ("too_short", "too_long"):
        return f"has too {'few' if kind == 'too_short' else 'many'} entries"
    if kind in ("model_type", "dict_type"):
        return f"must be {_EXPECTED[kind]}, not {_kind_of(details['input'])}"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {show(details['input'])}"
    return f"{details['msg'].replace('Input should', 'must')}, is {show(details['input'])}"


def _kind_of(value: object) -> str:
    """Describe a value found in place of a mapping; never its text, which may be a source."""
    known = value in (None, "") or isinstance(value, tuple)
    return show(value) if known else "a single value"


def _section_at(location: Location) -> type[Section]:
    kind: Any = FileConfig
    for part in location:
        is_section = isinstance(kind, type) and issubclass(kind, Section)
        kind = kind.model_fields[part].annotation if is_section else get_args(kind)[1]
        kind = section_in(kind) or kind
    return kind  # type: ignore[no-any-return]
