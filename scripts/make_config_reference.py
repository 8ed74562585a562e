"""Write the tables of docs/configuration.md from the configuration's own models.

Run ``python scripts/make_config_reference.py`` after changing a key. The part of the page above the
marker is written by hand and kept.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from centernetd.config.schema import render
from centernetd.config.section import Section, section_in
from centernetd.config.sections import FileConfig
from centernetd.config.stream import StreamDefaults, StreamEntry
from centernetd.config.units import format_duration

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
MARKER = "<!-- Below: made by scripts/make_config_reference.py; don't edit. -->"

Schema = Mapping[str, Any]
Limits = tuple[tuple[str, float], ...]

ORDER = (
    "streams",
    "defaults",
    "defaults.detect",
    "defaults.blur",
    "defaults.record",
    "defaults.events",
    "models",
    "engine",
    "batching",
    "storage",
    "metrics",
    "logging",
)


class Part(NamedTuple):
    """A section of the file: its model and that model's JSON Schema."""

    model: type[Section]
    schema: Schema


def parts() -> dict[str, Part]:
    """Return every section by its dotted name."""
    schema = json.loads(render())
    classes: list[type[Section]] = [*Section.__subclasses__(), StreamEntry]
    models = {model.__name__: model for model in classes}
    found = {"models": "ModelConfig", "streams": "StreamEntry", "defaults": "StreamDefaults"}
    for prefix, model in (("", FileConfig), ("defaults.", StreamDefaults)):
        for key, field in model.model_fields.items():
            if kind := section_in(field.annotation):
                found[prefix + key] = kind.__name__
    return {key: Part(models[name], schema["$defs"][name]) for key, name in found.items()}


def reference() -> str:
    """Return the generated part of the page."""
    found = parts()
    if set(found) != set(ORDER):
        raise RuntimeError(f"ORDER doesn't name {set(found) ^ set(ORDER)}")
    return "\n".join(line for name in ORDER for line in section(name, found[name]))


def section(name: str, part: Part) -> Iterator[str]:
    """Yield one section's heading, sentence and table."""
    entry = {"models": "models.NAME", "streams": "streams.NAME"}.get(name, name)
    yield f"\n## `{entry}`\n\n{part.schema['description']}\n"
    if name == "streams":
        yield "Besides `source`, every key of `defaults` may be set here again.\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, value in part.schema["properties"].items():
        inherited = name == "streams" and key in StreamDefaults.model_fields
        field = part.model.model_fields[key]
        if not section_in(field.annotation) and not inherited:
            limits = bounds(field)
            default = code(value["default"]) if "default" in value else "required"
            meaning = value["description"]
            yield f"| `{key}` | {kind(value, limits)} | {default} | {cell(meaning)} |"


def kind(value: Schema, limits: Limits) -> str:
    """Return the valid values of a key, in words."""
    if "anyOf" in value:
        return " or ".join(kind(choice, limits) for choice in value["anyOf"])
    if "enum" in value:
        return ", ".join(map(code, value["enum"]))
    if "const" in value:
        return code(value["const"])
    if "prefixItems" in value:
        return f"[{', '.join(kind(item, ()) for item in value['prefixItems'])}]"
    simple = {
        "null": "`null`",
        "boolean": "`true`, `false`",
        "integer": f"whole number{_range(value)}",
        "number": f"number{_range(value)}",
    }
    if value["type"] == "array":
        return f"list of {kind(value['items'], ())}"
    return simple.get(value["type"]) or _text(value, limits)


def _text(value: Schema, limits: Limits) -> str:
    """Return the kind of a string, judged by its schema's examples."""
    match value.get("examples", [""])[0]:
        case "500ms":
            return "duration" + "".join(f" {word} {format_duration(n)}" for word, n in limits)
        case "500MB":
            return "size"
        case "127.0.0.1:10864":
            return "`HOST:PORT`"
    return "text"


def _range(value: Schema) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    return "".join(f" {word} {value[name]}" for name, word in words.items() if name in value)


def bounds(field: FieldInfo) -> Limits:
    """Return the limits of a duration, which JSON Schema can't express."""
    notes = [*field.metadata]
    for choice in get_args(field.annotation):
        notes += [note for info in get_args(choice)[1:] for note in getattr(info, "metadata", ())]
    words = {"ge": "from", "gt": "above", "le": "to"}
    return tuple(
        (word, getattr(note, name))
        for note in notes
        for name, word in words.items()
        if hasattr(note, name)
    )


def code(value: object) -> str:
    """Format a value as in the file."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


def cell(text: str) -> str:
    """Escape characters that would end a table cell."""
    return text.replace("|", "\\|")


def page(present: str) -> str:
    """Return the whole page, with the hand-written part taken from ``present``."""
    return present.partition(MARKER)[0] + MARKER + "\n" + reference() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
