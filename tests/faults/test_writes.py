"""Every call to the system that a recording makes fails once, in a run of its own."""

import errno
import os
from collections import Counter
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest

from daemon.config import EventsConfig, RecordConfig, StorageConfig, StreamConfig
from daemon.config.secret import SourceUri
from daemon.flow import Meters, StageName, StreamStatus
from daemon.sink.events import EventLog
from daemon.sink.housekeeping import Housekeeping
from daemon.sink.record import Recorder
from daemon.sink.stage import RETRY_INTERVAL, SinkStage
from daemon.sink.storage import Storage
from tests.faults.conftest import Measure
from tests.sinks import NOON, decode, detections, open_lane, picture, result, send

FRAMES = 45
RESULTS = [
    (number, picture(seed=number), detections((8, 8, 30, 30))) for number in range(FRAMES)
]  # drawn on in place: a copy for each run
CALLS = ("write", "fdatasync", "truncate", "close", "rename", "unlink", "open", "mkdir")


class FakeSystem:
    """Lets the Nth call of a kind fail as a disk does: a write then takes a part of its data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int) -> None:
        self.made: Counter[str] = Counter()
        self._fails_at = (call, number)
        self._code = code
        monkeypatch.setattr(os, "fdatasync", self._wrapped("fdatasync", os.fdatasync))
        for name in ("rename", "unlink", "open", "mkdir"):
            monkeypatch.setattr(Path, name, self._wrapped(name, getattr(Path, name)))
        fake = self

        class FakeFile(FileIO):
            def write(self, data: Any) -> int:
                if fake.fails("write"):
                    super().write(memoryview(data)[: len(data) // 2])
                    fake.refuse()
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                if fake.fails("truncate"):
                    fake.refuse()
                return super().truncate(size)

            def close(self) -> None:
                failing = not self.closed and fake.fails("close")
                super().close()  # Linux closes a file even if it tells an error
                if failing:
                    fake.refuse()

        real = Path.open

        def opened(path: Path, mode: str = "r", buffering: int = -1) -> Any:
            file = real(path, mode, buffering)
            if buffering:
                return file
            file.close()
            return FakeFile(str(path), "ab")  # it is there now

        monkeypatch.setattr(Path, "open", opened)

    def fails(self, call: str) -> bool:
        self.made[call] += 1
        return (call, self.made[call]) == self._fails_at

    def refuse(self) -> None:
        raise OSError(self._code, os.strerror(self._code))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.fails(name):
                self.refuse()
            return real(*args, **kwargs)

        return call


class Run(NamedTuple):
    """The calls that a run made, and the files of it that are damaged."""

    made: Counter[str]
    damaged: int


def run(root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int) -> Run:
    """Record a short stream in segments, and check that what was counted is there."""
    storage = Storage(root)
    limits = StorageConfig().model_copy(update={"min_free": 0})
    house = Housekeeping(storage, limits, [StreamConfig("gate", SourceUri("rtsp://192.0.2.1/"))])
    house.tick()
    lane = open_lane(StageName.RECORD, StageName.EVENTS)
    record = RecordConfig(path="{stream}/%Y-%m-%d/%H-%M-%S.mp4", segment=1.0)
    recorder = Recorder("gate", record, storage, ["face"], StreamStatus(), Meters())
    events = EventLog("gate", EventsConfig(), storage, ["face"])
    send(
        lane,
        [result(n, image.copy(), found, wall_time=NOON + n * 0.04) for n, image, found in RESULTS],
    )
    with monkeypatch.context() as patch:
        system = FakeSystem(patch, call, number, code)
        for name, sink in ((StageName.RECORD, recorder), (StageName.EVENTS, events)):
            SinkStage(lane, name, sink, lambda: 10 * RETRY_INTERVAL).run()
    house.tick()  # the disk works again
    storage.close()
    book = lane.ledger.read()
    assert book.balanced
    videos, logs = sorted(root.rglob("*.mp4")), sorted(root.rglob("*.jsonl"))
    damaged = [*root.rglob("*.part"), *filter(cut, videos), *filter(torn, logs)]
    frames = sum(len(decode(path)) for path in videos if path not in damaged)
    lines = sum(path.read_text().count("\n") for path in logs)
    assert FRAMES >= frames >= book.written[StageName.RECORD]
    assert lines >= book.written[StageName.EVENTS]
    return Run(system.made, len(damaged))


def cut(video: Path) -> bool:
    """Whether a video holds nothing, or can't be read to its end."""
    try:
        with av.open(str(video)) as container:
            return not list(container.decode(video=0))
    except av.FFmpegError:
        return True


def torn(log: Path) -> bool:
    """Whether a line of a file isn't whole."""
    lines = log.read_text().splitlines(keepends=True)
    return not all(line.startswith("{") and line.endswith("}\n") for line in lines)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_call_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Measure, code: int
) -> None:
    """The Nth call to the system fails, for every N of a short run, and files are looked at"""
    usual, damaged = run(tmp_path / "usual", monkeypatch, "none", 0, code)
    assert not damaged
    assert usual["write"] > FRAMES
    assert all(usual[call] for call in ("fdatasync", "close", "rename", "open", "mkdir"))
    tried = 0
    for call in CALLS:
        for number in range(1, usual[call] + 1):
            left = run(tmp_path / f"{call}{number}", monkeypatch, call, number, code)
            measure("whole", left.damaged)
            tried += 1
    assert tried > FRAMES
