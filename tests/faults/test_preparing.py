"""Models in the cache that a power cut damaged, and preparations that are stopped or killed."""

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests import clips, damages, exports, models
from tests.damages import Damage
from tests.faults.conftest import Measure
from tests.integration.process import SQUARES_SIZE, Finished, configure, started

LONGEST = 5.0  # seconds after the start that a preparation is left alone


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The daemon's cache; its temporary folder is next to it."""
    (tmp_path / "tmp").mkdir()
    return tmp_path / "cache"


def run_with(cache: Path, config: Path) -> Finished:
    with started(config, environ=places(cache)) as daemon:
        return daemon.finish()


def places(cache: Path) -> dict[str, str]:
    return {"CACHE_DIRECTORY": str(cache), "TMPDIR": str(cache.with_name("tmp"))}


def left(cache: Path) -> set[str]:
    """Return what there is in the cache and the temporary folder, without the models."""
    folders = (cache / "prepared", cache.with_name("tmp"))
    names = {path.name for folder in folders if folder.exists() for path in folder.iterdir()}
    return {name for name in names if name.startswith(".") or not name.endswith(".onnx")}


@pytest.mark.parametrize("damage", damages.OF_MODELS, ids=lambda damage: damage.__name__)
def test_a_damaged_cache(
    damage: Damage, tmp_path: Path, cache: Path, squares: Path, measure: Measure
) -> None:
    """A prepared model in the cache is damaged, then the daemon is started twice"""
    stream = {"source": str(clips.count(tmp_path / "clip.mp4", 5))}
    config = configure(tmp_path, squares, {"cam": stream})
    assert run_with(cache, config).code == 0
    (prepared,) = (cache / "prepared").iterdir()
    whole = prepared.read_bytes()
    damage(prepared)
    for _ in range(2):
        finished = run_with(cache, config)
        right = finished.code == 0 and prepared.read_bytes() == whole
        measure("cached", int(not right), finished.stderr if not right else "")
        assert not left(cache)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_in_preparation(
    number: signal.Signals,
    tmp_path: Path,
    cache: Path,
    squares: Path,
    rounds: int,
    measure: Measure,
) -> None:
    """SIGTERM or SIGKILL at a random moment during a model preparation that never finishes"""
    chance = random.Random(rounds)
    endless = exports.write(models.endless(SQUARES_SIZE), tmp_path / "endless.onnx")
    stream = {"source": str(clips.count(tmp_path / "clip.mp4", 5))}
    config = configure(tmp_path, endless, {"cam": stream})
    for _ in range(rounds):
        with started(config, environ=places(cache)) as daemon:
            daemon.wait_until_reachable()
            threading.Event().wait(chance.uniform(0, LONGEST))
            began = time.monotonic()
            daemon.send(number)
            finished = daemon.finish()
            took = time.monotonic() - began
        if number is signal.SIGTERM:
            measure("prepared", took)
            assert finished.code == 0, finished.stderr
            assert not left(cache)
    shutil.copy(squares, endless)
    assert run_with(cache, config).code == 0
    measure("tidy", len(left(cache)))
