"""What a running daemon can follow of a changed configuration."""

from pathlib import Path

import pytest

from centernetd.config import Config, load
from centernetd.config.config import Difference, difference
from centernetd.errors import ConfigError

TWO = "streams:\n  gate: {source: 'rtsp://u:one@h/x'}\n  yard: {source: 'rtsp://h/y'}\n"


def read(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(f"version: 1\n{text}")
    return load(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TWO, Difference((), (), ())),
        (f"{TWO}# a remark\n", Difference((), (), ())),
        (f"{TWO}  door: {{source: 'rtsp://h/z'}}\n", Difference(("door",), (), ())),
        ("streams: {yard: {source: 'rtsp://h/y'}}", Difference((), ("gate",), ())),
        (TWO.replace("one", "two"), Difference((), (), ("gate",))),
        (f"{TWO}defaults: {{detect: {{confidence: 0.7}}}}", Difference((), (), ("gate", "yard"))),
        (f"{TWO}defaults: {{detect: {{confidence: null}}}}", Difference((), (), ())),
        (TWO.replace("h/y'", "h/y', record: {draw: []}"), Difference((), (), ("yard",))),
        (TWO.replace("h/y'", "h/y', privacy: {blur: {hold: 0s}}"), Difference((), (), ("yard",))),
        (f"{TWO}defaults: {{privacy: {{blur: {{}}}}}}", Difference((), (), ("gate", "yard"))),
        (f"{TWO}defaults: {{privacy: {{blur: null}}}}", Difference((), (), ())),
    ],
)
def test_the_difference_of_streams(text: str, found: Difference, tmp_path: Path) -> None:
    assert difference(read(tmp_path, TWO), read(tmp_path, text)) == found


MODELS = (
    "models: {faces: {}, coco: {path: coco}}\n"
    "streams: {a: {source: x}, b: {source: x, models: [faces, coco]}, c: {source: x, models: coco}}"
)


@pytest.mark.parametrize(
    ("models", "changed"),
    [
        ("{faces: {}, coco: {path: coco}, more: {path: coco}}", ()),
        ("{faces: {path: other.onnx}, coco: {path: coco}}", ("a", "b")),
        ("{faces: {}, coco: {path: coco, input_size: [256, 256]}}", ("b", "c")),
        ("{coco: {path: coco}, faces: {}}", ("a",)),
    ],
)
def test_a_stream_changes_with_its_models(
    models: str, changed: tuple[str, ...], tmp_path: Path
) -> None:
    text = MODELS.replace("{faces: {}, coco: {path: coco}}", models)
    assert difference(read(tmp_path, MODELS), read(tmp_path, text)) == Difference((), (), changed)


def test_a_difference_in_words() -> None:
    assert str(Difference(("a", "b"), (), ("c",))) == "added a, b; changed c"
    assert str(Difference((), (), ())) == "nothing has changed"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("engine: {precision: float32}", "engine.precision"),
        ("storage: {root: elsewhere}\nbatching: {max_size: 4}", "batching.max_size, storage.root"),
        ("metrics: {listen: 127.0.0.1:9000}", "metrics.listen"),
        ("logging: {level: debug}", "logging.level"),
    ],
)
def test_what_needs_a_restart_is_named(text: str, keys: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        difference(read(tmp_path, TWO), read(tmp_path, f"{TWO}{text}\n"))
    assert str(refused.value).startswith(f"restart needed: {keys} can't change while")
