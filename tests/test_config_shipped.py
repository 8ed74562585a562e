"""The config.yaml at the root, and the schema made from the same models."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import Config, StreamConfig, load
from centernetd.config.document import parse
from centernetd.config.problems import Origins
from centernetd.config.sections import FileConfig
from scripts.make_config_schema import PATH, render

SHIPPED = Path(__file__).parents[1] / "config.yaml"
OPTIONAL = re.compile(r"^( *)#([a-z_]+:)", re.MULTILINE)


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key with its value, lists as JSON would have them."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def as_written(text: str) -> dict[str, Any]:
    data = parse(text.encode(), "config.yaml", Origins())
    assert isinstance(data, dict)
    return data


@pytest.fixture
def config() -> Config:
    return load(SHIPPED)


def test_runs_the_demo(config: Config) -> None:
    demo = config.streams["demo"]
    assert list(config.streams) == ["demo"]
    assert demo.source.reveal() == str(SHIPPED.parent / "assets/demo.mp4")
    assert (demo.policy, demo.record.path, demo.events.path) == (
        "lossless",
        "{stream}.mp4",
        "{stream}.jsonl",
    )


def test_loads_to_the_defaults(config: Config) -> None:
    demo = config.streams["demo"]
    bare = Config(
        streams={},
        base_dir=config.base_dir,
        state_dir=config.state_dir,
        cache_dir=config.cache_dir,
    )
    for name in ("models", "engine", "batching", "storage", "metrics", "logging"):
        assert getattr(config, name) == getattr(bare, name)
    plain = StreamConfig(name="demo", source=demo.source)
    for name in ("models", "max_frame_age", "stall_timeout", "detect"):
        assert getattr(demo, name) == getattr(plain, name)


def test_warns_of_nothing(config: Config) -> None:
    assert config.notices() == ()


def test_documents_every_key_with_its_default() -> None:
    text = OPTIONAL.sub(r"\1\2", SHIPPED.read_text())
    written = as_written(text)
    written.pop("streams")
    expected = FileConfig(version=1).model_dump(mode="json", exclude={"streams"})
    for old_name in ("model", "blur"):
        del expected["defaults"][old_name]
    del expected["defaults"]["events"]["when"]
    assert dict(leaves(written)) == dict(leaves(expected))


def test_the_optional_lines_can_be_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(OPTIONAL.sub(r"\1\2", SHIPPED.read_text()))
    assert list(load(path).streams) == ["demo"]


def test_the_schema_is_current() -> None:
    shipped = json.loads(PATH.read_text())
    assert shipped == json.loads(render()), "run python -m scripts.make_config_schema"


def test_the_schema_knows_every_key_and_its_default() -> None:
    schema = json.loads(render())
    definitions = schema["$defs"]
    expected = FileConfig(version=1).model_dump(
        mode="json", exclude={"streams", "models", "timezone"}
    )
    found = {}
    for name, part in schema["properties"].items():
        if "$ref" in part:
            found[name] = defaults_of(definitions, part)
    found["node"] = schema["properties"]["node"]["default"]
    found["version"] = schema["properties"]["version"]["const"]
    assert found == expected


def defaults_of(definitions: dict[str, Any], part: dict[str, Any]) -> Any:
    if "$ref" not in part:
        return part["default"]
    properties = definitions[part["$ref"].rsplit("/", 1)[-1]]["properties"]
    return {key: defaults_of(definitions, value) for key, value in properties.items()}
