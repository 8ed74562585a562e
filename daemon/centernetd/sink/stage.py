"""The sink stage: writes results from a lane's outlet to recordings or events."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from centernetd.config import StreamConfig
from centernetd.errors import SinkError
from centernetd.flow import (
    EVERYTHING,
    DetectionClass,
    Filter,
    Incident,
    Lane,
    Meters,
    Packet,
    Reason,
    Result,
    StageName,
    StreamStatus,
    Thresholds,
    TrackEvent,
)
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)

RETRY_INTERVAL = 1.0  # seconds between attempts to write again
IDLE = 60.0
"""Seconds without a frame after which a camera's file is completed; the next begins another.

It must not stay open while the camera is lost: then it could neither be deleted nor copied.
"""


class Outcome(NamedTuple):
    """Numbers of frames by final outcome."""

    written: int = 0
    unwanted: int = 0
    failed: int = 0


@dataclass(frozen=True)
class SinkContext:
    """What the sinks of one stream are built from.

    ``node`` names this machine. ``shows`` selects the detections that are recorded and logged,
    ``covers`` those that ``privacy.blur`` covers; ``classes`` are those of its models. Once
    ``hurried`` returns True, a sink that holds back frames drops them instead of writing them.
    """

    stream: StreamConfig
    storage: Storage
    classes: Sequence[DetectionClass] = ()
    shows: Filter | Thresholds = EVERYTHING
    covers: Filter | Thresholds = EVERYTHING
    status: StreamStatus = field(default_factory=StreamStatus)
    meters: Meters = field(default_factory=Meters)
    hurried: Callable[[], bool] = lambda: False
    node: str = ""

    @property
    def labels(self) -> Sequence[str]:
        """The label of each class."""
        return [each.label for each in self.classes]


class Output(Protocol):
    """A destination for results.

    Frames count as written once they are safe, even if the process is killed at that moment.
    """

    def close(self) -> Outcome:
        """Finish the output; returns as a write does, and may raise SinkError.

        A write after it begins another, or continues it.
        """


class Sink(Output, Protocol):
    """A destination that takes one frame at a time, in a thread of its own."""

    def wants(self, result: Result) -> bool:
        """Return whether the configuration includes this frame."""

    def write(self, result: Result) -> Outcome:
        """Write a frame; return how many frames, this and earlier ones, are settled by it.

        Raises
        ------
        SinkError
            When every unsettled frame is lost. The sink has closed its output, and the next
            `write` starts again. The same applies to any other exception.
        """


@dataclass(slots=True, eq=False)
class Released(Result):
    """A result whose picture may be given out, in host memory; only `privacy` makes one."""


class PictureSink(Protocol):
    """A destination for pictures. It never gets one whose privacy was not applied.

    `privacy.PrivateSink` makes a `Sink` of it.
    """

    def write(self, picture: Released) -> Outcome:
        """Write a picture; returns and raises as `Sink.write` does."""

    def close(self) -> Outcome:
        """Finish the output; returns and raises as `Sink.write` does."""


@runtime_checkable
class BatchSink(Output, Protocol):
    """A destination that takes several frames in little more time than one.

    It needs no thread of its own: a `WriterPool` serves those of all streams.
    """

    def select(self, result: Result) -> Result | None:
        """Return what is to be written of a frame; None if the configuration excludes it."""

    def write_batch(self, results: Sequence[Result], events: Sequence[TrackEvent] = ()) -> Outcome:
        """Write selected frames, and what happened to tracks in these and others.

        Returns and raises as `Sink.write` does.
        """


@runtime_checkable
class PacketSink(Output, Protocol):
    """A destination of a source's packets. Like a `BatchSink`, it needs no thread of its own."""

    def write_packets(self, packets: Iterable[Packet], results: Sequence[Result]) -> Outcome:
        """Write packets, and take what was found in frames of these and earlier ones.

        Returns and raises as `Sink.write` does.
        """


class Stage:
    """Posts every frame of one outlet once, whatever becomes of it.

    It never waits to retry: while an output is broken, its frames are dropped. Any exception of
    an output breaks only that output.
    """

    def __init__(
        self,
        lane: Lane,
        name: StageName,
        output: Output,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lane = lane
        self._name = name
        self._output = output
        self._clock = clock
        self._pending = 0
        self._failure = Incident()
        self._retry_at = clock()
        self._busy_since: float | None = None

    @property
    def busy_for(self) -> float:
        """Seconds that the current write has taken so far; 0 without one."""
        since = self._busy_since
        return 0.0 if since is None else self._clock() - since

    @property
    def _resting(self) -> bool:
        """Whether it is too early to retry after a failure."""
        return self._clock() < self._retry_at

    def _attempt(self, write: Callable[[], Outcome]) -> None:
        self._busy_since = self._clock()
        try:
            self._post(write())
        except Exception as error:
            self._fail(error)
            self._retry_at = self._clock() + RETRY_INTERVAL
        finally:
            self._busy_since = None

    def _complete(self) -> None:
        """Complete the output, which has been idle."""
        self._attempt(self._output.close)

    def _finish(self) -> None:
        self._busy_since = self._clock()
        try:
            self._post(self._output.close())
        except Exception as error:
            self._fail(error)
        finally:
            self._busy_since = None
        self._drop(self._pending, Reason.SHUTDOWN if self._lane.hurried else Reason.FAILED)

    def _post(self, outcome: Outcome) -> None:
        self._pending -= outcome.written
        self._lane.ledger.write(self._name, outcome.written)
        self._drop(outcome.unwanted, Reason.UNWANTED)
        self._drop(outcome.failed, Reason.FAILED)
        if outcome.written and self._failure.resolved():
            self._log(logging.WARNING, "%s is written again", self._name)

    def _drop(self, count: int, reason: Reason) -> None:
        if count:
            self._pending -= count
            self._lane.ledger.drop(self._name, reason, count)

    def _fail(self, error: Exception) -> None:
        self._drop(self._pending, Reason.FAILED)
        if not self._failure.occurred():
            return
        what = "%s; frames are dropped until it works again"
        if isinstance(error, SinkError):
            self._log(logging.ERROR, what, error)
            return
        fault = f"a fault in centernetd while writing {self._name}: {error!r}"
        self._log(logging.ERROR, what, fault)
        log.debug("traceback", exc_info=error, extra={"stream": self._lane.name})

    def _log(self, level: int, message: str, *args: object) -> None:
        log.log(level, message, *args, extra={"stream": self._lane.name})


class SinkStage(Stage):
    """Writes one outlet in a thread of its own."""

    def __init__(
        self,
        lane: Lane,
        name: StageName,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        patience: float | None = IDLE,
    ) -> None:
        """Complete the output whenever no frame has come for ``patience`` seconds, if given."""
        super().__init__(lane, name, sink, clock)
        self._sink = sink
        self._patience = patience

    def run(self) -> None:
        """Write until the outlet is closed and empty, then finish the output."""
        try:
            self._read()
        finally:
            self._finish()

    def _read(self) -> None:
        for result in self._lane.outlets[self._name].each(self._patience):
            if result is None:
                self._complete()
            else:
                self._take(result)
            del result  # its picture is not held while waiting for the next

    def _take(self, result: Result) -> None:
        self._pending += 1
        self._attempt(partial(self._write, result))

    def _write(self, result: Result) -> Outcome:
        if not self._sink.wants(result):
            return Outcome(unwanted=1)
        return Outcome(failed=1) if self._resting else self._sink.write(result)


class BatchStage(Stage):
    """Writes one outlet whenever it is given a turn; one thread at a time may give it one.

    That of a `PacketSink` also writes the lane's packets; any other, what happened to its tracks.
    """

    def __init__(
        self,
        lane: Lane,
        name: StageName,
        sink: BatchSink | PacketSink,
        clock: Callable[[], float] = time.monotonic,
        patience: float | None = IDLE,
    ) -> None:
        """Complete the output whenever nothing has come for ``patience`` seconds, if given."""
        super().__init__(lane, name, sink, clock)
        self._sink = sink
        self._patience = math.inf if patience is None else patience
        self._outlet = lane.outlets[name]
        self._packets = lane.packets if isinstance(sink, PacketSink) else None
        self._idle_at = math.inf
        self.ended = False
        """Whether the last turn has begun."""

    @property
    def due(self) -> bool:
        """Whether a turn has something to do."""
        more = self._lane.reported if self._packets is None else len(self._packets) > 0
        waiting = len(self._outlet) > 0 or more
        return not self.ended and (waiting or self._outlet.closed or self._is_idle)

    @property
    def _is_idle(self) -> bool:
        return self._clock() >= self._idle_at

    def turn(self) -> None:
        """Write everything that waits; finish the output if the outlet is closed."""
        closed = self._outlet.closed  # asked first: after it, nothing more comes
        results = self._outlet.take_all()
        # Taken after the results, so that the packets of their frames are among them.
        packets = [] if self._packets is None else self._packets.take_all()
        reported = self._lane.take_reported() if self._packets is None else []
        if results or packets or reported:
            self._pending += len(results)
            self._attempt(partial(self._write, results, packets, reported))
        if self._is_idle:
            self._idle_at = math.inf
            self._complete()
        if closed:
            self.ended = True
            self._finish()

    def _write(
        self, results: Sequence[Result], packets: Sequence[Packet], reported: Sequence[TrackEvent]
    ) -> Outcome:
        if isinstance(self._sink, PacketSink):
            if self._resting:  # the recorder detects missing packets by their numbers
                return Outcome(failed=len(results))
            self._idle_at = self._clock() + self._patience
            return self._sink.write_packets(self._unless_hurried(packets), results)
        selected = [wanted for result in results if (wanted := self._sink.select(result))]
        self._drop(len(results) - len(selected), Reason.UNWANTED)
        events = [*(event for result in results for event in result.events), *reported]
        if self._resting or not (selected or events):
            return Outcome(failed=len(selected))
        self._idle_at = self._clock() + self._patience
        return self._sink.write_batch(selected, events)

    def _unless_hurried(self, packets: Sequence[Packet]) -> Iterator[Packet]:
        """Yield packets, each of which is a write of its own, until no time is left."""
        for packet in packets:
            if self._lane.hurried:
                return
            self._busy_since = self._clock()
            yield packet
