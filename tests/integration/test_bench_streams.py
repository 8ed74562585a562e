"""The measurement of many streams: real runs, too short to measure how fast anything is."""

import multiprocessing
import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from centernetd.bench.streams import Workload, bench_streams
from centernetd.errors import ConfigError, EngineError
from tests.conftest import CACHE
from tests.fakes import wait_until
from tests.integration.conftest import DEMO
from tests.integration.process import SQUARES_SIZE, write_config

FPS, SECONDS = 10, 6


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(CACHE))


def test_each_number_of_streams_is_run(tmp_path: Path, squares: Path) -> None:
    stream = {"source": str(DEMO), "record": {"when": "never"}, "max_frame_age": "20s"}
    config = write_config(tmp_path, {"demo": stream}, model=squares, size=SQUARES_SIZE)
    reported: list[str] = []
    workload = Workload((96, 128), FPS, SECONDS)
    loads = list(bench_streams(config, [1, 3], workload, reported.append))
    assert reported == ["making the video", "1 streams", "3 streams"]
    for count, load in zip((1, 3), loads, strict=True):
        assert (load.streams, load.asked_fps) == (count, count * FPS)
        assert load.decoders == ["h264"]
        begin, end = load.measured
        assert begin < end
        inferred, dropped = zip(*load.by_stream.values(), strict=True)
        assert (len(inferred), sum(dropped)) == (count, load.dropped)
        assert sum(inferred) == pytest.approx(load.inferred_fps * (end - begin))
        assert 0 < load.inferred_fps < 3 * load.asked_fps
        assert 0 < load.latency.median <= load.latency.p99
        assert load.bound > 20.0
        assert load.cpu_per_frame > 0
        assert 2**20 < load.rss < 2**32
        assert load.fullest in load.busy
    assert not list((tmp_path / "state").glob("*"))


def test_a_run_too_short_to_measure_anything_says_so(tmp_path: Path, squares: Path) -> None:
    stream = {"source": str(DEMO), "record": {"when": "never"}}
    config = write_config(tmp_path, {"demo": stream}, model=squares, size=SQUARES_SIZE)
    with pytest.raises(EngineError, match="did not all run at the same time for long enough"):
        next(bench_streams(config, [1], Workload((96, 128), FPS, 0), lambda _: None))


def test_an_interrupt_ends_the_process_that_runs(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent to this one only, and what both made for a while is gone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    stream = {"source": str(DEMO), "record": {"when": "never"}}
    config = write_config(tmp_path, {"demo": stream}, model=squares, size=SQUARES_SIZE)
    running: list[int] = []

    def interrupt() -> None:
        wait_until(lambda: len(list(folder.glob("centernetd-bench-*/.centernetd.lock"))) > 0)
        running.extend(child.pid or 0 for child in multiprocessing.active_children())
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)

    def report(doing: str) -> None:
        if doing == "1 streams":
            interrupter.start()

    workload = Workload((96, 128), 1, 300)  # frames per second, seconds
    with pytest.raises(KeyboardInterrupt):
        next(bench_streams(config, [1], workload, report))
    interrupter.join()
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(running) == 1
    assert not list(folder.glob("centernetd-bench-*"))


def test_it_needs_a_file(tmp_path: Path, squares: Path) -> None:
    config = write_config(tmp_path, {"cam": {"source": "rtsp://192.0.2.1/x"}}, model=squares)
    with pytest.raises(ConfigError, match="bench needs a stream whose source is a file"):
        next(bench_streams(config, [1], Workload(), lambda _: None))
