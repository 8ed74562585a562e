"""Whatever a file contains: it loads, or it is refused with one sentence."""

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from centernetd.config import load
from centernetd.errors import ConfigError

PIECES = st.sampled_from(
    [
        *("version: 1\n", "streams:\n", "streams: {a: {source: x}}\n", "defaults:\n", "record"),
        *("  a:\n", "    source: rtsp://u:p@h\n", "  ", "\n", ": ", "- ", "[", "]", "{", "}", "?"),
        *(
            ",",
            "&a ",
            "*a",
            "!t ",
            "|\n",
            ">-\n",
            "'",
            '"',
            "\\x0",
            "\\U0011ffff",
            "#",
            "---",
            "<<",
        ),
        *("%YAML 1.1\n", "...", "${", "${HOME}", "$${", "1", "0.5", "1e999", "9" * 5000, "500ms"),
        *("null", "~", "\t", "\x00", "\ufeff", "\x85", "\u2028", "é", "@", "`", "path"),
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)
few = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reads_or_refuses(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        load(path)
    except ConfigError as error:
        sentence = str(error)
        assert sentence.startswith(str(path))
        assert "\n" not in sentence
        assert "Input should" not in sentence
        assert len(sentence) < len(str(path)) + 500


@few
@given(raw=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, raw: bytes) -> None:
    reads_or_refuses(tmp_path / "config.yaml", raw)


@few
@given(text=TEXTS)
def test_anything_like_yaml(tmp_path: Path, text: str) -> None:
    reads_or_refuses(tmp_path / "config.yaml", text.encode("utf-8", "surrogatepass"))


KEYS = [
    *("version", "streams", "streams.a", "streams.a.source", "models", "models.default.input_size"),
    *("defaults", "defaults.record", "defaults.record.segment", "defaults.record.path"),
    *("defaults.detect.labels", "defaults.detect.confidence", "batching.max_size"),
    *("engine.devices", "engine.backend", "storage.max_bytes", "storage.root", "metrics.listen"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)


@few
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_at_any_key(tmp_path: Path, key: str, value: object) -> None:
    tree: dict[str, object] = {"version": 1, "streams": {"a": {"source": "x"}}}
    *sections, last = key.split(".")
    branch: Any = tree
    for section in sections:
        branch = branch.setdefault(section, {})
    branch[last] = value
    reads_or_refuses(tmp_path / "config.yaml", json.dumps(tree).encode())
