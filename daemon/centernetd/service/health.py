"""Whether the daemon is healthy, and which of its streams are ready."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from centernetd.config import redact
from centernetd.flow import Lane, StorageStatus, StreamState
from centernetd.track.counts import TrackLedger

STALL_LIMIT = 9.0
"""Seconds without progress after which a thread counts as hung, on a machine of usual speed.

Together with systemd's 15 s after the last ping, 2 s to stop, 2 s until the restart and 1 s of
slack, a hung daemon is replaced within 30 s.
"""
NOT_LOADED = "the engine is not loaded yet"
STORAGE_HUNG = "the storage thread hangs in a disk operation: nothing is deleted until it returns"

_BATCH_FACTOR = 3  # a batch may take this many times as long as the slowest recent one
_RECENT = 16  # batches


class _Pulse:
    """The heartbeats of one model since ``now``."""

    def __init__(self, now: float) -> None:
        self.beat_at = self.idle_at = now
        self.waiting = 0
        self.took: Sequence[float] = (0.0,)  # replaced whole: another thread reads it


class Heartbeats:
    """Inference beats per batch of each model, the supervisor ticks about twice per second.

    A model may sleep while no frame waits for it, so its silence is measured from the last tick
    at which none did. If batches take seconds, it may be silent for a multiple of the recent batch
    durations. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tick_at = clock()
        self._pulses: dict[str, _Pulse] = {}

    def beat(self, model: str, took: float) -> None:
        """Note that ``model`` began a batch, or finished one that took ``took`` seconds."""
        now = self._clock()
        pulse = self._pulses.setdefault(model, _Pulse(now))
        pulse.beat_at = now
        if took:
            pulse.took = (*pulse.took, took)[-_RECENT:]

    def tick(self, waiting: Mapping[str, int]) -> None:
        """Note that the supervisor is alive, and how many frames wait for or are in each model."""
        self._tick_at = now = self._clock()
        for model in waiting:
            self._pulses.setdefault(model, _Pulse(now))
        for model, pulse in dict(self._pulses).items():
            pulse.waiting = waiting.get(model, 0)
            if not pulse.waiting:
                pulse.idle_at = now

    def troubles(self) -> list[str]:
        """Return a sentence for each thread that hangs; empty if all progress or have no work."""
        now = self._clock()
        late = now - self._tick_at
        troubles = []
        if late > STALL_LIMIT:
            troubles.append(f"the supervisor has made no progress for {late:.1f} s")
        for model, pulse in dict(self._pulses).items():
            silent = now - max(pulse.beat_at, pulse.idle_at)
            limit = max(STALL_LIMIT, _BATCH_FACTOR * max(pulse.took))
            if pulse.waiting and silent > limit:
                troubles.append(
                    f"inference has made no progress for {silent:.1f} s while "
                    f"{pulse.waiting} frames wait for {model}"
                )
        return troubles


@dataclass(frozen=True)
class StreamView:
    """One stream as it is published; ``stall_timeout`` is in seconds.

    ``tracks`` counts its objects, if they are followed.
    """

    lane: Lane
    stall_timeout: float
    tracks: TrackLedger | None = None

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.lane.name

    @property
    def state(self) -> StreamState:
        """What the stream is doing; a stream with a hung sink is stuck."""
        status = self.lane.status
        return StreamState.STUCK if status.hung_sinks else status.state

    @property
    def last_error(self) -> str | None:
        """The most recent error, if it persists."""
        status = self.lane.status
        if status.hung_sinks:
            return f"hung in a write: {', '.join(status.hung_sinks)}"
        return redact(status.last_error) if status.last_error else None

    @property
    def finished(self) -> bool:
        """Whether the stream, a file, ended without an error; it then is not down."""
        return self.state is StreamState.ENDED and not self.lane.status.failed

    def age(self, now: float) -> float:
        """Return the seconds since the last frame, or since the start, at monotonic ``now``."""
        return max(0.0, now - self.lane.status.last_frame_at)

    def fresh(self, now: float) -> bool:
        """Whether the stream runs and a frame came within ``stall_timeout``."""
        return self.state is StreamState.RUNNING and self.age(now) <= self.stall_timeout

    def trouble(self, now: float) -> str | None:
        """Return one line about why the stream is not fresh, or None if it is."""
        if self.fresh(now):
            return None
        age = f"{self.age(now):.1f} s"
        since = f", last frame {age} ago" if self.lane.ledger.read().captured else f" for {age}"
        error = f": {self.last_error}" if self.last_error else ""
        return self.state.value + since + error


@dataclass(frozen=True)
class Verdict:
    """An answer, and what is wrong; there may be reasons even if ``ok``."""

    ok: bool
    reasons: tuple[str, ...] = ()


def health(engine_ready: bool, heartbeats: Heartbeats, storage: StorageStatus) -> Verdict:
    """Judge whether engine and supervisor are making progress or are idle for want of work.

    A dead camera or disk does not count, because restarting the daemon would not fix it. A thread
    that hangs in a disk operation is still reported.
    """
    reasons = tuple(heartbeats.troubles()) if engine_ready else (NOT_LOADED,)
    hung = (STORAGE_HUNG,) if storage.hung else ()
    return Verdict(not reasons, reasons + hung)


def readiness(engine_ready: bool, streams: Sequence[StreamView], now: float) -> Verdict:
    """Judge whether the engine is loaded and at least one of ``streams`` is fresh.

    To ask about one stream, pass only that one.
    """
    reasons: tuple[str, ...] = () if engine_ready else (NOT_LOADED,)
    if not streams:
        reasons += ("there is no stream",)
    troubles = [(stream.name, stream.trouble(now)) for stream in streams]
    reasons += tuple(f"{name}: {trouble}" for name, trouble in troubles if trouble)
    return Verdict(engine_ready and any(not trouble for _, trouble in troubles), reasons)
