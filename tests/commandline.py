"""The command line called in this process, and what the tests of its commands share."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from centernetd.bench.clip import Clip
from centernetd.cli import main
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports, models

SIZE = (128, 128)
RED = (0, (40, 30, 64, 70))  # a rectangle that the squares network finds


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Calls the command line as the shell would, but here."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        captured = self._capsys.readouterr()
        return Outcome(ended.value.code, captured.out, captured.err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, where the test is."""
    return CommandLine(capsys)


def squares_model(folder: Path) -> Path:
    """Write the prepared network that marks coloured rectangles."""
    raw = exports.write(models.squares(SIZE), folder / "squares-raw.onnx")
    prepared = folder / "squares.onnx"
    prepare(raw, prepared, PrepareOptions(labels=models.LABELS))
    return prepared


def clip(path: Path, frames: int = 10) -> Path:
    """Write a video of 25 frames per second with one red rectangle in it."""
    with Clip(path, "libx264", SIZE[1], SIZE[0], Fraction(1, 25)) as video:
        for number in range(frames):
            video.write(models.draw(SIZE, RED), number)
    return path


def configuration(folder: Path, model: Path | str, **streams: dict[str, Any]) -> Path:
    """Write a config.yaml (JSON is YAML) whose outputs go to ``out`` next to it."""
    path = folder / "config.yaml"
    settings = {
        "version": 1,
        "models": {"default": {"path": str(model), "input_size": list(SIZE)}},
        "storage": {"root": str(folder / "out")},
        "metrics": {"listen": None},
        "streams": streams,
    }
    path.write_text(json.dumps(settings))
    return path
