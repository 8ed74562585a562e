"""A live stream under a detector too slow for it, and the books of a run at every moment."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from centernetd.config import load
from centernetd.flow import CAPTURE, INFERENCE, Lane, Reason
from centernetd.flow.ledger import Book
from centernetd.inference.engines import Tensors
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.run import supervisor as supervising
from centernetd.run.loading import Sizes
from centernetd.run.supervisor import Supervisor
from centernetd.service.metrics import PrometheusMeters
from tests import clips
from tests.conftest import CACHE
from tests.event_lines import read_events
from tests.fake_nvdec import FakeNvdec, installed
from tests.integration.process import SQUARES_SIZE, write_config

RATE, FRAMES = 25, 75
BATCH = 0.2  # seconds of the slow engine, which runs two batches of one frame concurrently
MAX_AGE = 0.06
SLACK = 0.5  # for a busy machine: a queue that grew would be 4 s behind in the end
SAMPLES = 30  # of the books in a run: fewer would prove little


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every batch take long, on a machine of two cores."""
    run, never = OrtCpuEngine._run, threading.Event()

    def slowly(engine: OrtCpuEngine, rows: NDArray[np.uint8]) -> Tensors:
        never.wait(BATCH)
        return run(engine, rows)

    monkeypatch.setattr(OrtCpuEngine, "_run", slowly)
    monkeypatch.setattr(supervising, "sizes_for", lambda *_: Sizes(max_batch=1, concurrency=2))


@pytest.fixture
def latencies(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds from decoding each frame to handing on its detections, as they come."""
    seen: list[float] = []
    monkeypatch.setattr(
        PrometheusMeters, "frame_latency", lambda _meters, _stream, seconds: seen.append(seconds)
    )
    return seen


@pytest.fixture
def supervise(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Supervisor]:
    """What makes a supervisor, in this process, for streams over a clip of three seconds."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(CACHE))
    clips.count(tmp_path / "clip.mp4", FRAMES)

    def make(**streams: dict[str, Any]) -> Supervisor:
        streams = {
            name: {"source": "clip.mp4", "events": {"frames": "always"}, **stream}
            for name, stream in streams.items()
        }
        return Supervisor(load(write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)))

    return make


@contextmanager
def sampled(supervisor: Supervisor) -> Iterator[dict[str, list[Book]]]:
    """Read every lane's ledger repeatedly from another thread."""
    books: dict[str, list[Book]] = defaultdict(list)
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            for lane in supervisor.lanes:
                books[lane.name].append(lane.ledger.read())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield books
    finally:
        done.set()
        sampler.join()


def check_books(seen: list[Book], lane: Lane) -> None:
    """Check that a lane's books were balanced at every moment, and closed in the end."""
    assert len(seen) >= SAMPLES
    assert all(book.balanced for book in seen)
    for name in ("captured", "inferred"):
        counts = [getattr(book, name) for book in seen]
        assert all(later >= earlier for earlier, later in pairwise(counts))
        assert len(set(counts)) > 5, "the samples all came before or after the run"
    end = lane.ledger.read()
    assert end.balanced
    assert not any(end.in_flight.values())


def test_a_slow_detector_drops_frames_and_keeps_up(
    supervise: Callable[..., Supervisor], slow: None, latencies: list[float], tmp_path: Path
) -> None:
    supervisor = supervise(cam={"policy": "live", "max_frame_age": f"{MAX_AGE * 1000:.0f}ms"})
    with sampled(supervisor) as books:
        assert supervisor.run(lambda: None) == 0
    (lane,) = supervisor.lanes
    check_books(books["cam"], lane)
    book = lane.ledger.read()
    assert book.captured == FRAMES
    assert 0 < book.inferred < FRAMES / 2
    reasons = {place for place, count in book.dropped.items() if count}
    assert reasons <= {
        (CAPTURE, Reason.OVERFLOW),
        (INFERENCE, Reason.TOO_OLD),
    }
    assert len(latencies) == book.inferred
    assert max(latencies) < MAX_AGE + 2 * BATCH + SLACK

    found = read_events(tmp_path / "state/cam.jsonl")
    assert len(found) == book.inferred
    for event in found:
        assert event["pts"] == pytest.approx(event["frame"] / RATE)


def test_the_books_balance_while_streams_of_both_policies_run(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(
        file={"policy": "lossless", "detect": {"max_fps": 10}},
        cam={"policy": "live"},
        bare={"policy": "live", "record": {"when": "never"}, "events": {"frames": "never"}},
    )
    with sampled(supervisor) as books:
        assert supervisor.run(lambda: None) == 0
    file, cam, bare = supervisor.lanes
    assert all(book.balanced for book in books["file"])
    assert [lane.ledger.read().captured for lane in supervisor.lanes] == [FRAMES] * 3
    check_books(books["cam"], cam)
    check_books(books["bare"], bare)
    assert file.ledger.read().inferred == FRAMES * 10 // RATE


def test_each_stream_is_decoded_as_it_asks_and_reports_by_what(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(
        gpu={"decode": "cuda"},
        either={"decode": "auto"},
        cpu={"decode": "cpu"},
    )
    with installed(FakeNvdec()) as gpu:
        assert supervisor.run(lambda: None) == 0
    decoders = {lane.name: lane.status.decoder for lane in supervisor.lanes}
    assert decoders == {"gpu": "h264 (cuda)", "either": "h264 (cuda)", "cpu": "h264"}
    assert [lane.ledger.read().inferred for lane in supervisor.lanes] == [FRAMES] * 3
    assert sorted(gpu.sources) == [False, True, True]


def test_a_gpu_that_is_demanded_and_missing_fails_its_stream_alone(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(gpu={"decode": "cuda"}, either={})
    with installed(FakeNvdec(opens=False)):
        assert supervisor.run(lambda: None) == 1
    demanding, other = supervisor.lanes
    assert "can't be decoded on the GPU" in str(demanding.status.last_error)
    assert (other.status.decoder, other.ledger.read().inferred) == ("h264", FRAMES)


def test_the_books_balance_through_a_stop(supervise: Callable[..., Supervisor], slow: None) -> None:
    """The slow engine leaves frames waiting everywhere when the stop comes."""
    supervisor = supervise(file={"policy": "lossless"}, cam={"policy": "live"})

    def stop_midway() -> None:
        if min(lane.ledger.read().inferred for lane in supervisor.lanes) >= 6:
            supervisor.stop()

    with sampled(supervisor) as books:
        assert supervisor.run(stop_midway) == 0
    file, cam = supervisor.lanes
    check_books(books["file"], file)
    check_books(books["cam"], cam)
    assert file.ledger.read().captured < FRAMES
    assert supervisor.left_behind == []
