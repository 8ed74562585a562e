"""Fixtures of the end-to-end tests: models, and one run over the demo in each mode."""

from pathlib import Path

import pytest

from tests import exports, models
from tests.integration.process import SQUARES_SIZE, Finished, run, write_config

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo.mp4"


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a network that marks coloured squares and costs next to nothing."""
    folder = tmp_path_factory.mktemp("squares")
    return exports.write(models.squares(SQUARES_SIZE), folder / "squares.onnx")


@pytest.fixture(scope="session")
def boxes(centerface: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run over the demo that draws boxes and writes an event for every frame."""
    stream = {"source": str(DEMO), "events": {"frames": "always"}}
    return run(write_config(tmp_path_factory.mktemp("boxes"), {"demo": stream}))


@pytest.fixture(scope="session")
def blurred(centerface: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run over the demo that blurs the faces."""
    stream = {
        "source": str(DEMO),
        "detect": {"confidence": 0.5},
        "privacy": {"blur": {}, "keypoints": True},
        "record": {"draw": []},
        "events": {"frames": "always"},
    }
    return run(write_config(tmp_path_factory.mktemp("blurred"), {"demo": stream}))


@pytest.fixture(scope="session")
def seen_again(blurred: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that looks for faces in the blurred recording."""
    stream = {
        "source": str(blurred.state / "demo.mp4"),
        "record": {"when": "never"},
        "events": {"frames": "always"},
    }
    return run(write_config(tmp_path_factory.mktemp("seen_again"), {"demo": stream}))
