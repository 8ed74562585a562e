"""A daemon under faults: its configuration, its orderly end, and the evidence it leaves."""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import av

from tests.integration.process import Daemon, Finished, Stream
from tests.rtsp import RtspServer

UNRECORDED = {"record": {"when": "never"}}
LOOK_EVERY = 0.05  # seconds
PLAY = "play"
LEEWAY = 2  # pictures that a server may send to a daemon that is ending
SETTLED = 1.0  # seconds: the first frames of a camera come in a burst, and some may be lost


@dataclass(frozen=True)
class Event:
    """A frame in the events file: ``time`` by the wall clock, ``pts`` in seconds."""

    frame: int
    pts: float
    time: float


class Watch:
    """Polls the status of every stream, to see when it reconnects.

    ``declared`` has, by stream, the wall clock's times of its reconnections.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.declared: defaultdict[str, list[float]] = defaultdict(list)
        self._daemon = daemon
        self._known: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._daemon.wait_until_reachable()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            streams, now = self._daemon.streams(), time.time()
            for name, stream in streams.items():
                if stream["reconnects"] > self._known[name]:
                    self.declared[name].append(now)
                self._known[name] = stream["reconnects"]


@dataclass(frozen=True)
class LogLine:
    """A line of the log."""

    time: float
    level: str
    message: str


def events(finished: Finished, stream: str) -> list[Event]:
    """Return every frame of a stream."""
    path = finished.state / f"{stream}.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [Event(event["frame"], event["pts"], timestamp(event["time"])) for event in lines]


def log(finished: Finished, stream: str) -> list[LogLine]:
    """Return the log of a stream."""
    return [
        LogLine(timestamp(record["time"]), record["level"], record["message"])
        for record in finished.log
        if record.get("stream") == stream
    ]


def missing(times: Sequence[float], rate: float, since: float, until: float) -> int:
    """Count the frames that a camera of this rate lacks between two times."""
    times = [since, *(time for time in times if since < time < until), until]
    gaps = (round((later - earlier) * rate) for earlier, later in pairwise(times))
    return sum(max(0, gap - 1) for gap in gaps)


@dataclass(frozen=True)
class Neighbour:
    """A camera that is well: its server, the policy it is read with, and its frames per second."""

    server: RtspServer
    policy: str
    rate: int

    @property
    def stream(self) -> Stream:
        """The stream's configuration."""
        return {"source": self.server.url(PLAY), "policy": self.policy}

    @property
    def slack(self) -> int:
        """How many of its frames a busy machine may drop: a second's, if it is read live."""
        return self.rate if self.policy == "live" else 0

    def lost(self, finished: Finished, name: str) -> int:
        """Count the frames that its events or its recording lack, to be called after the run.

        They must go on for as long as the server sent; of the last pictures the daemon may have
        been stopped when they came.
        """
        found = events(finished, name)
        # A recording begins at 0 with the first frame that was inferred on.
        recorded = [found[0].pts + at for at in times(finished.state / f"{name}.mp4")]
        assert min(len(found), len(recorded)) >= 4 * self.rate, log(finished, name)
        since = next(event.pts for event in found if event.time > found[0].time + SETTLED)
        sent_at = self.server.visits_of(PLAY)[-1].sent_at
        until = found[-1].pts + sent_at - found[-1].time - LEEWAY / self.rate
        in_events = missing([event.pts for event in found], self.rate, since, until)
        return max(in_events, missing(recorded, self.rate, since, until))


def disordered(frames: Sequence[Event]) -> int:
    """Count the frames whose number or time isn't after that of the frame before."""
    return sum(b.pts <= a.pts or b.frame <= a.frame for a, b in pairwise(frames))


def silences(signs: Sequence[float], declared: Sequence[float]) -> Iterator[float]:
    """Yield for each time that a failure was declared the seconds since the last sign of life."""
    for at in declared:
        before = [sign for sign in signs if sign <= at]
        if before:
            yield at - max(before)


def times(video: Path) -> list[float]:
    """Return when each frame is shown that can be read: a cut file raises at its end."""
    found = []
    with av.open(str(video)) as container, suppress(av.FFmpegError):
        for frame in container.decode(video=0):
            assert frame.time is not None
            found.append(frame.time)
    return found


def damaged(files: Iterable[Path]) -> int:
    """Count the recordings that can't be read to their end, or hold nothing."""
    return sum(not _is_whole(path) for path in files)


def _is_whole(path: Path) -> bool:
    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in container.decode(video=0)) > 0
    except av.FFmpegError:
        return False


def timestamp(time: str) -> float:
    """Return the seconds since 1970 of a time in a log or an event."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
