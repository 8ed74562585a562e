"""A sink that hangs in a write costs its own frames and nobody else's, and ends with it."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from centernetd.config import load
from centernetd.flow import Result, StageName, StorageStatus, TrackEvent
from centernetd.run import stream as stream_module
from centernetd.run.supervisor import Supervisor
from centernetd.service import service
from centernetd.service.health import Heartbeats, StreamView, health
from centernetd.sink.events import EventLog
from centernetd.sink.recorder import Recorder
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import Outcome, Released
from tests import clips
from tests.conftest import CACHE
from tests.fakes import WAIT_TIMEOUT
from tests.integration.process import SQUARES_SIZE, write_config

FRAMES = 100  # four seconds of a live stream


@pytest.fixture
def supervisor(tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(CACHE))
    monkeypatch.setattr(stream_module, "HUNG_AFTER", 0.5)
    clips.count(tmp_path / "clip.mp4", FRAMES)
    stream = {"source": "clip.mp4", "events": {"frames": "always"}}
    streams = {
        "hanging": {**stream, "policy": "live", "max_frame_age": "100s"},
        "well": {**stream, "policy": "lossless"},
    }
    return Supervisor(load(write_config(tmp_path, streams, model=squares, size=SQUARES_SIZE)))


def hang_recording(monkeypatch: pytest.MonkeyPatch, let_go: threading.Event) -> None:
    write = Recorder.write

    def hang(recorder: Recorder, result: Released) -> Outcome:
        if recorder._stream == "hanging" and result.frame.frame_id == 10:
            assert let_go.wait(WAIT_TIMEOUT)
        return write(recorder, result)

    monkeypatch.setattr(Recorder, "write", hang)


def hang_events(monkeypatch: pytest.MonkeyPatch, let_go: threading.Event) -> None:
    write = EventLog.write_batch

    def hang(log: EventLog, results: Sequence[Result], events: Sequence[TrackEvent]) -> Outcome:
        if log._stream == "hanging" and results[-1].frame.frame_id >= 10:
            assert let_go.wait(WAIT_TIMEOUT)
        return write(log, results, events)

    monkeypatch.setattr(EventLog, "write_batch", hang)


@pytest.mark.parametrize(
    ("arrange", "hanging_sink", "other"),
    [(hang_recording, RECORD, EVENTS), (hang_events, EVENTS, RECORD)],
)
def test_a_sink_that_hangs(
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[pytest.MonkeyPatch, threading.Event], None],
    hanging_sink: StageName,
    other: StageName,
) -> None:
    let_go = threading.Event()
    arrange(monkeypatch, let_go)
    heartbeats = Heartbeats()
    monkeypatch.setattr(service, "Heartbeats", lambda: heartbeats)
    states: list[str] = []

    def look() -> None:
        hanging, well = supervisor.lanes
        view = StreamView(hanging, stall_timeout=10.0)
        states.append(view.state.value)
        assert health(True, heartbeats, StorageStatus()).ok
        inferred = hanging.ledger.read().inferred
        if states[-1] == "stuck" and inferred > 40 and well.ledger.read().inferred == FRAMES:
            let_go.set()

    assert supervisor.run(look) == 0
    hanging, well = supervisor.lanes
    assert "stuck" in states
    assert states[-1] != "stuck"
    book = hanging.ledger.read()
    assert book.balanced
    lost = book.dropped_at(hanging_sink)
    assert 0 < lost < book.inferred
    assert book.written[hanging_sink] == book.inferred - lost
    assert book.written[other] == book.inferred, "the other must not wait for it"
    assert set(well.ledger.read().written.values()) == {FRAMES}
