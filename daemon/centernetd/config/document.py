"""A YAML subset: one document of plain mappings, lists and YAML 1.2 scalars.

It is built from the parser's events rather than by a constructor: nothing recurses, and anything
else is rejected with its line before it uses any resources.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from centernetd.config import variables
from centernetd.config.problems import Location, Origins
from centernetd.config.secret import redact
from centernetd.errors import ConfigError

MAX_DEPTH = 16

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS = {"~": None, "null": None, "true": True, "false": False}


def parse(
    raw: bytes,
    file: str,
    origins: Origins,
    prefix: Location = (),
    expand: Callable[[str], str] = variables.expand,
) -> Any:  # noqa: ANN401
    """Return the value of a document: mappings as dict, lists as tuple, and scalars.

    ``expand`` replaces ``${NAME}`` in every value. ``origins`` receives the line of each key, with
    its location under ``prefix``. Raises ConfigError naming file and line.
    """
    origins.lines[prefix] = (file, 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: is not UTF-8 text") from None
    builder = _Builder(file, origins, prefix, expand)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: is not YAML: {_problem(error)}") from None
    except (yaml.YAMLError, ValueError):  # PyYAML leaks some errors of chr() and int()
        raise ConfigError(f"{file}: contains characters that YAML doesn't allow") from None
    return builder.root


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "syntax error"
    return "a tab can't indent; use spaces" if "'\\t'" in problem else redact(problem)


@dataclass
class _Open:
    """A mapping or list whose end has not been reached yet."""

    location: Location
    value: dict[str, Any] | list[Any]
    key: str | None = None


@dataclass
class _Builder:
    file: str
    origins: Origins
    prefix: Location
    expand: Callable[[str], str]
    root: Any = None
    _open: list[_Open] = field(default_factory=list)
    _documents: int = 0

    def add(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(line, "a second document begins here; only one is allowed")
        elif isinstance(event, yaml.NodeEvent):
            self._add_node(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._attach(tuple(done.value) if isinstance(done.value, list) else done.value)

    def _add_node(self, event: yaml.NodeEvent, line: int) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._error(line, "anchors and aliases (& and *) are not supported; write it out")
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) or event.tag:
            raise self._error(line, "tags (!) are not supported")
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._start_key(top, event, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._note(line)
            self._attach(self._scalar(event, line))
        else:
            self._note(line)
            if len(self._open) == MAX_DEPTH:
                raise self._error(line, f"is nested more than {MAX_DEPTH} levels deep")
            empty: dict[str, Any] | list[Any] = (
                {} if isinstance(event, yaml.MappingStartEvent) else []
            )
            self._open.append(_Open(self._location(), empty))

    def _start_key(self, top: _Open, event: yaml.NodeEvent, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(line, "a key must be plain text")
        if _CONTROL.search(event.value):
            raise self._error(line, "a key contains a control character")
        location = (*top.location, event.value)
        if event.value in top.value:
            _, first = self.origins.lines[location]
            self.origins.lines[location] = (self.file, line)
            raise self.origins.error(location, f"is given twice, first on line {first}; keep one")
        top.key = event.value
        self.origins.lines[location] = (self.file, line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Any:  # noqa: ANN401
        try:
            text = self.expand(event.value)
        except ValueError as error:
            raise self.origins.error(self._location(), str(error)) from None
        if isinstance(text, variables.Expanded):
            self.origins.substituted.update(text.substituted)
        if _CONTROL.search(text):
            raise self._error(line, "a value contains a control character")
        return _resolve(text) if event.implicit[0] else text

    def _location(self) -> Location:
        """Return the location of the next node."""
        if not self._open:
            return self.prefix
        top = self._open[-1]
        return (*top.location, len(top.value) if top.key is None else top.key)

    def _note(self, line: int) -> None:
        """Note the line of a list item; the keys of mappings have already been noted."""
        self.origins.lines.setdefault(self._location(), (self.file, line))

    def _attach(self, value: object) -> None:
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is not None:
            top.value[top.key] = value
            top.key = None

    def _error(self, line: int, sentence: str) -> ConfigError:
        return ConfigError(f"{self.file}:{line}: {sentence}")


def _resolve(text: str) -> object:
    """Return the value of a plain scalar in the YAML 1.2 core schema, without .inf and .nan.

    An empty scalar is an empty text, not null, which often means none or forever.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text
