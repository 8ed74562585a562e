"""Reload: what differs is followed stream by stream, and nothing else is touched."""

import json
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centernetd.capture.masks import GREY
from centernetd.config import load
from centernetd.flow import Lane, Reason, Result, TrackEvent
from centernetd.run import streams as streams_module
from centernetd.run.supervisor import Supervisor
from centernetd.sink.events import EventLog
from centernetd.sink.registry import RECORD
from centernetd.sink.stage import Outcome, SinkStage
from tests import clips, models
from tests.conftest import CACHE
from tests.integration import sentinel
from tests.integration.process import (
    SQUARES_SIZE,
    Daemon,
    free_port,
    nobody,
    run_command,
    started,
    write_config,
)
from tests.sinks import decode

FRAMES = 100  # four seconds of a paced stream
LOSSLESS = {"source": "clip.mp4", "events": {"frames": "always"}}
PACED = {"source": "clip.mp4", "policy": "live", "max_frame_age": "100s"}


@pytest.fixture
def supervise(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any]], Supervisor]:
    """What makes a supervisor, in this process, that reads its configuration again."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(CACHE))
    clips.count(tmp_path / "clip.mp4", FRAMES)

    def make(streams: dict[str, Any]) -> Supervisor:
        path = write(tmp_path, squares, streams)
        return Supervisor(load(path), reread=lambda: load(path))

    return make


def write(folder: Path, squares: Path, streams: dict[str, Any], **sections: Any) -> Path:
    path = write_config(folder, streams, model=squares, size=SQUARES_SIZE, **sections)
    sentinel.plant(path)
    return path


def test_only_what_differs_begins_anew(
    supervise: Callable[[dict[str, Any]], Supervisor],
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = supervise({"kept": LOSSLESS, "changed": PACED, "removed": PACED})
    began_with: list[Lane] = []
    let_go = hold_events(monkeypatch, "kept")
    before, after = set[int](), set[int]()

    def on_tick() -> None:
        began_with[:] = began_with or supervisor.lanes
        if not before and all(lane.ledger.read().inferred for lane in supervisor.lanes):
            before.update(threads("kept"))
            blurred = {**PACED, "privacy": {"blur": {}}}
            write(tmp_path, squares, {"kept": LOSSLESS, "changed": blurred, "added": PACED})
            supervisor.reload()
        elif names(supervisor) == ["kept", "added", "changed"] and not let_go.is_set():
            after.update(threads("kept"))
            let_go.set()

    assert supervisor.run(on_tick) == 0
    kept, changed, removed = began_with
    assert before == after
    assert len(before) == 2, "a capture and a recording"
    assert names(supervisor) == ["kept", "added", "changed"]
    assert supervisor.lanes[0] is kept
    book = kept.ledger.read()
    assert book.captured == book.inferred == FRAMES
    assert set(book.written.values()) == {FRAMES}
    assert not any(book.dropped.values())
    for lane in (*supervisor.lanes, changed, removed):
        book = lane.ledger.read()
        assert book.balanced
        assert not any(book.in_flight.values())
    captured = {lane.name: lane.ledger.read().captured for lane in supervisor.lanes}
    assert captured == dict.fromkeys(("kept", "added", "changed"), FRAMES)
    assert changed.ledger.read().captured < FRAMES
    assert removed.ledger.read().captured < FRAMES
    recordings = {path.name for path in (tmp_path / "state").glob("*.mp4")}
    assert recordings == {f"{n}.mp4" for n in ("kept", "changed", "changed-1", "removed", "added")}


def hold_events(monkeypatch: pytest.MonkeyPatch, stream: str) -> threading.Event:
    """Let a stream write no event until what is returned is set: a lossless one waits with it."""
    write, let_go = EventLog.write_batch, threading.Event()

    def held(log: EventLog, results: Sequence[Result], events: Sequence[TrackEvent]) -> Outcome:
        assert log._stream != stream or let_go.wait(60)
        return write(log, results, events)

    monkeypatch.setattr(EventLog, "write_batch", held)
    return let_go


def names(supervisor: Supervisor) -> list[str]:
    return [lane.name for lane in supervisor.lanes]


def threads(stream: str) -> set[int]:
    return {
        thread.ident or 0 for thread in threading.enumerate() if thread.name.endswith(f":{stream}")
    }


def test_zones_and_lines_change_while_a_stream_runs(
    supervise: Callable[[dict[str, Any]], Supervisor], squares: Path, tmp_path: Path
) -> None:
    """A square waits in the zone and is counted there, again and again."""
    zone = {"polygon": [[0, 0], [0.9, 0], [0.9, 0.9], [0, 0.9]]}
    larger = {"polygon": [[0, 0], [0.9, 0], [0.9, 0.9], [0.1, 0.9]]}
    line = {"from": [0.1, 0.1], "to": [0.9, 0.1]}
    tracked = {**PACED, "zones": {"kept": zone, "changed": zone}, "lines": {"removed": line}}
    changed = {**PACED, "zones": {"kept": zone, "changed": larger}, "lines": {"added": line}}
    supervisor = supervise({"gate": tracked})
    image = models.draw(SQUARES_SIZE, (0, (50, 40, 70, 60)))
    clips.write(tmp_path / "clip.mp4", [image] * FRAMES)
    ran: set[Lane] = set()
    seen = set[int]()

    def on_tick() -> None:
        ran.update(supervisor.lanes)
        (ledger,) = supervisor.tracks.values()
        if not seen and sum(ledger.read().inside.values()) == 2:
            seen.update(threads("gate"))
            write(tmp_path, squares, {"gate": changed})
            supervisor.reload()

    assert supervisor.run(on_tick) == 0
    (lane,), (ledger,) = ran, supervisor.tracks.values()
    frames = lane.ledger.read()
    assert (frames.captured, frames.balanced, any(frames.in_flight.values())) == (
        FRAMES,
        True,
        False,
    )
    # A busy machine may drop some frames of a live stream; a reload must not.
    assert {reason for (_, reason), lost in frames.dropped.items() if lost} <= {Reason.OVERFLOW}
    assert [path.name for path in (tmp_path / "state").glob("*.mp4")] == ["gate.mp4"]
    book = ledger.read()
    assert book.balanced
    assert book.entries == book.exits == {("kept", "all"): 1, ("changed", "all"): 2}
    assert {line for line, _, _ in book.crossings} == {"added"}
    assert sum(book.started.values()) == sum(book.ended.values()) == 1


def test_a_zone_with_an_unknown_label_is_refused_and_nothing_changes(
    supervise: Callable[[dict[str, Any]], Supervisor],
    squares: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = {"from": [0.1, 0.1], "to": [0.9, 0.1]}
    supervisor = supervise({"gate": {**PACED, "lines": {"kept": line}}})
    asked: list[bool] = []

    def on_tick() -> None:
        (lane,) = supervisor.lanes
        if not asked and lane.ledger.read().inferred:
            asked.append(True)
            unknown = {"kept": line, "new": {**line, "labels": ["unicorn"]}}
            write(tmp_path, squares, {"gate": {**PACED, "lines": unknown}})
            supervisor.reload()

    assert supervisor.run(on_tick) == 0
    assert "streams.gate.lines.new.labels: the model has no label 'unicorn'" in caplog.text
    (ledger,) = supervisor.tracks.values()
    assert {line for line, _, _ in ledger.read().crossings} == {"kept"}


def test_every_picture_is_masked_as_it_was_configured_when_it_came(
    supervise: Callable[[dict[str, Any]], Supervisor], squares: Path, tmp_path: Path
) -> None:
    left, right = ([[x, 0], [x + 0.5, 0], [x + 0.5, 1], [x, 1]] for x in (0, 0.5))
    masked = {**PACED, "privacy": {"masks": {"half": left}}}
    supervisor = supervise({"gate": masked})
    clips.write(tmp_path / "clip.mp4", [np.full((48, 64, 3), 255, np.uint8)] * FRAMES)
    reloaded: list[Lane] = []

    def on_tick() -> None:
        (lane,) = supervisor.lanes
        if not reloaded and lane.ledger.read().written[RECORD]:
            reloaded.append(lane)
            write(tmp_path, squares, {"gate": {**masked, "privacy": {"masks": {"half": right}}}})
            supervisor.reload()

    assert supervisor.run(on_tick) == 0
    middles = (slice(8, 24), slice(40, 56))  # of the left and the right half
    for name, (hidden, seen) in (("gate.mp4", middles), ("gate-1.mp4", middles[::-1])):
        frames = decode(tmp_path / "state" / name)
        assert frames
        for frame in frames:
            image = frame.to_ndarray(format="bgr24")
            assert abs(float(image[:, hidden].mean()) - GREY) < 5
            assert image[:, seen].mean() > 240


def test_a_stream_that_does_not_end_costs_its_successor_some_seconds(
    supervise: Callable[[dict[str, Any]], Supervisor],
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recording that hangs is left behind; the stream runs on with new threads."""
    monkeypatch.setattr(streams_module, "END_TIMEOUT", 0.5)
    run, let_go = SinkStage.run, threading.Event()
    hung: list[SinkStage] = []

    def hang(stage: SinkStage) -> None:
        if not hung and stage._name == RECORD:
            hung.append(stage)
            assert let_go.wait(60)
        run(stage)

    monkeypatch.setattr(SinkStage, "run", hang)
    supervisor = supervise({"gate": PACED})
    began_with: list[Lane] = []
    asked: list[bool] = []

    def on_tick() -> None:
        began_with[:] = began_with or supervisor.lanes
        (first,) = began_with
        if not asked and first.ledger.read().inferred:
            asked.append(True)
            write(tmp_path, squares, {"gate": {**PACED, "record": {"draw": []}}})
            supervisor.reload()
        elif supervisor.lanes[0] is not first and not let_go.is_set():
            let_go.set()

    assert supervisor.run(on_tick) == 0
    (first,), (second,) = began_with, supervisor.lanes
    assert second is not first
    assert second.ledger.read().captured == FRAMES
    for lane in (first, second):
        assert lane.ledger.read().balanced


@pytest.fixture
def daemon_folder(tmp_path: Path, squares: Path) -> Path:
    clips.count(tmp_path / "clip.mp4", 10)
    return tmp_path


def in_force(daemon: Daemon, *, reloaded: bool) -> list[str]:
    """Return the samples about the configuration, once they show the outcome of a reload."""
    outcome = f"centernetd_config_last_reload_successful {float(reloaded)}"
    lines = daemon.wait_for_metrics(outcome).splitlines()
    return [line for line in lines if line.startswith("centernetd_config") and line != outcome]


def test_the_command_waits_for_the_outcome(daemon_folder: Path, squares: Path) -> None:
    port = free_port()
    cam = {"source": nobody()}
    path = write(daemon_folder, squares, {"cam": cam}, port=port)

    def reload() -> tuple[int, str, str]:
        return run_command("reload", path)

    code, _, err = reload()
    assert code == 1
    assert "no centernetd writes to" in err
    with started(path) as daemon:
        daemon.wait_for_status("cam", lambda status: status["state"] == "reconnecting")
        assert reload() == (0, "nothing has changed\n", "")
        write(daemon_folder, squares, {"cam": cam, "door": {"source": nobody()}}, port=port)
        assert reload() == (0, "added door\n", "")
        assert set(daemon.streams()) == {"cam", "door"}
        first = in_force(daemon, reloaded=True)

        write(daemon_folder, squares, {"cam": cam}, port=port, batching={"max_size": 2})
        code, out, err = reload()
        assert (code, out) == (78, "")
        assert err.startswith("centernetd: restart needed: batching.max_size can't change")
        assert set(daemon.streams()) == {"cam", "door"}
        refused = in_force(daemon, reloaded=False)
        assert refused == first != [], "the configuration in force is the one before"

        unknown = {"cam": {**cam, "detect": {"labels": ["purple"]}}}
        write(daemon_folder, squares, unknown, port=port)
        code, _, err = reload()
        assert code == 78
        assert "the model has no label 'purple'" in err

        path.write_text("version: 1\nstreems: {}\n")
        code, _, err = reload()
        assert code == 78
        assert f"{path}:2: streems" in err
        daemon.send(signal.SIGHUP)
        daemon.wait_for_log("is refused, nothing has changed")
        assert set(daemon.streams()) == {"cam", "door"}
        daemon.send(signal.SIGTERM)
        assert daemon.finish().code == 0


def test_a_new_password_is_masked_too(daemon_folder: Path, squares: Path) -> None:
    port = free_port()
    path = write(daemon_folder, squares, {"cam": {"source": nobody()}}, port=port)
    with started(path) as daemon:
        daemon.wait_until_reachable()
        secret = nobody().replace("rtsp://", "rtsp://viewer:brand-new-secret@")
        write(daemon_folder, squares, {"cam": {"source": secret}}, port=port)
        daemon.send(signal.SIGHUP)
        daemon.wait_for_log("reloading the configuration: changed cam")
        daemon.wait_for_status("cam", lambda status: bool(status["last_error"]))
        daemon.send(signal.SIGTERM)
        finished = daemon.finish()
    assert "://***@" in finished.stderr
    assert "brand-new-secret" not in finished.stderr + json.dumps(finished.log)
