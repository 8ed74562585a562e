"""Every call to the system that a recording makes fails in a run of its own, and what follows."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from centernetd.config import RecordConfig, StorageConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.sink.events import EventLog
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import RETRY_INTERVAL, BatchStage, SinkStage
from centernetd.sink.storage import Storage
from tests.faults.conftest import Measure
from tests.faults.evidence import damaged
from tests.sinks import (
    NOON,
    decode,
    deliver,
    detections,
    open_lane,
    picture,
    recorder_of,
    result,
    sink_context,
)

FRAMES = 45
BATCH = 3  # frames whose events are written together
RESULTS = [
    (number, picture(seed=number), detections((8, 8, 30, 30))) for number in range(FRAMES)
]  # drawn on in place: a copy for each run
CALLS = ("write", "fdatasync", "close", "rename", "open", "mkdir")
TIDYING = ("truncate", "unlink", "rename", "close")  # calls made when a write has failed


@dataclass(frozen=True)
class Fault:
    """The ``number``-th ``call`` fails with ``code``, and so does the next one of kind ``then``."""

    call: str = "none"
    number: int = 0
    code: int = errno.EIO
    then: str | None = None


class FakeSystem:
    """Lets calls fail as a disk does: a write then takes a part of its data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
        self.made: Counter[str] = Counter()
        self.failed: list[str] = []
        self._fault = fault
        monkeypatch.setattr(os, "fdatasync", self._wrapped("fdatasync", os.fdatasync))
        for name in ("rename", "unlink", "mkdir"):
            monkeypatch.setattr(Path, name, self._wrapped(name, getattr(Path, name)))
        fake = self

        class FakeFile(FileIO):
            """A file, of which only what is written as the sinks do fails after it is open."""

            def __init__(self, path: Path, mode: str, opener: Callable[[str, int], int]) -> None:
                self._fails = mode == "ab"
                if fake.fails("open"):
                    fake.refuse()
                super().__init__(str(path), mode, opener=opener)

            def write(self, data: Any) -> int:
                if fake.fails("write"):
                    super().write(memoryview(data)[: len(data) // 2])
                    fake.refuse()
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                if self._fails and fake.fails("truncate"):
                    fake.refuse()
                return super().truncate(size)

            def close(self) -> None:
                failing = not self.closed and self._fails and fake.fails("close")
                super().close()  # Linux closes a file even if it returns an error
                if failing:
                    fake.refuse()

        monkeypatch.setattr("centernetd.config.regular.FileIO", FakeFile)

    def fails(self, call: str) -> bool:
        self.made[call] += 1
        fault = self._fault
        first = not self.failed and (call, self.made[call]) == (fault.call, fault.number)
        second = len(self.failed) == 1 and call == fault.then
        if first or second:
            self.failed.append(call)
        return first or second

    def refuse(self) -> None:
        raise OSError(self._fault.code, os.strerror(self._fault.code))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.fails(name):
                self.refuse()
            return real(*args, **kwargs)

        return call


def run(root: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> tuple[FakeSystem, int]:
    """Record a short stream in segments; returns what was called, and the files damaged by it.

    One fault is repaired by the same daemon, two at the next start at the latest.
    """
    storage = Storage(root)
    keeper = housekeeping(storage)
    keeper.tick()
    lane = open_lane(RECORD, EVENTS)
    record = RecordConfig(path="{stream}/%Y-%m-%d/%H-%M-%S.mp4", segment=1.0)
    context = replace(sink_context(root, record=record), storage=storage)
    recorder, events = recorder_of(context), EventLog(context)
    results = [
        result(n, image.copy(), found, wall_time=NOON + n / 25) for n, image, found in RESULTS
    ]
    with monkeypatch.context() as patch:
        system = FakeSystem(patch, fault)
        writer = BatchStage(lane, EVENTS, events, lambda: 10 * RETRY_INTERVAL)
        for start in range(0, FRAMES, BATCH):
            deliver(lane, results[start : start + BATCH])
            writer.turn()
        lane.close()
        writer.turn()
        SinkStage(lane, RECORD, recorder, lambda: 10 * RETRY_INTERVAL).run()
    keeper.tick()  # the disk works again
    storage.release()
    if fault.then:
        housekeeping(storage).tick()
        storage.release()
    assert lane.ledger.read().balanced
    return system, look_through(root, lane.ledger.read().written)


def housekeeping(storage: Storage) -> Housekeeping:
    limits = StorageConfig().model_copy(update={"min_free": 0})
    return Housekeeping(storage, limits, [StreamConfig("gate", SourceUri("rtsp://192.0.2.1/"))])


def look_through(root: Path, written: Any) -> int:
    """Count the files that are torn or left; what was counted as written must be there."""
    recordings, logs = list(root.rglob("*.mp4")), list(root.rglob("*.jsonl"))
    lines = {path: path.read_text().splitlines(True) for path in logs}
    torn = [path for path in logs if not all(map(is_whole, lines[path]))]
    frames = sum(len(decode(path)) for path in recordings)
    assert FRAMES >= frames >= written[RECORD]
    assert sum(map(len, lines.values())) >= written[EVENTS]
    return damaged(recordings) + len(torn) + len(list(root.rglob("*.part")))


def is_whole(line: str) -> bool:
    return line.startswith("{") and line.endswith("}\n")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_call_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, code: int
) -> None:
    """The Nth system call fails, for every N of a short run, then files are checked"""
    usual, _ = run(tmp_path / "usual", monkeypatch, Fault())
    assert usual.made["write"] > FRAMES // BATCH
    assert all(usual.made[call] for call in CALLS)
    for call in CALLS:
        for number in range(1, usual.made[call] + 1):
            fault = Fault(call, number, code)
            system, found = run(tmp_path / f"{call}{number}", monkeypatch, fault)
            assert system.failed == [call]
            measure("writes", found)


@pytest.mark.parametrize("then", TIDYING)
def test_what_tidies_up_after_a_write_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, then: str
) -> None:
    """The Nth write fails, for every N of a short run, then so does the call that cleans up"""
    usual, _ = run(tmp_path / "usual", monkeypatch, Fault())
    twice = 0
    for number in range(1, usual.made["write"] + 1):
        system, found = run(tmp_path / str(number), monkeypatch, Fault("write", number, then=then))
        twice += len(system.failed) == 2
        measure("writes", found)
    assert twice
