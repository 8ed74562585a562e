"""The state of the running daemon, and the document that /status returns."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import NamedTuple, Protocol

from centernetd.flow import Lane, StorageStatus
from centernetd.service.health import Heartbeats, StreamView, Verdict, health

WINDOW = 5.0
"""Seconds over which a rate is averaged."""

Document = dict[str, object]


class _Sample(NamedTuple):
    """The number of frames of ``lane`` inferred up to the monotonic time ``at``."""

    lane: Lane
    at: float
    inferred: int


class Rates:
    """Frames per second of each stream over the last few seconds.

    One thread ticks, any thread reads. Prometheus computes its own rates from the counters.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[_Sample]] = {}

    def tick(self, lanes: Iterable[Lane], now: float) -> None:
        """Note the counts at monotonic ``now``; removed lanes are forgotten."""
        samples = {}
        for lane in lanes:
            known = self._samples.get(lane.name, ())
            kept = [s for s in known if s.lane is lane and now - s.at <= WINDOW]
            samples[lane.name] = [*kept, _Sample(lane, now, lane.ledger.read().inferred)]
        self._samples = samples

    def fps(self, stream: str) -> float:
        """Return the frames inferred per second; 0 until two ticks have passed."""
        samples = self._samples.get(stream)
        if not samples:
            return 0.0
        first, last = samples[0], samples[-1]
        seconds = last.at - first.at
        return (last.inferred - first.inferred) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class EngineStatus:
    """What a model runs on; ``reason`` is why this backend was chosen."""

    backend: str
    precision: str
    device: str
    layout: str
    reason: str


class ModelView(Protocol):
    """A model as it is published; reading it never blocks."""

    name: str

    @property
    def engine(self) -> EngineStatus:
        """What it runs on."""

    @property
    def slots_busy(self) -> int:
        """Its slots that hold a batch."""


@dataclass
class DaemonStatus:
    """The running daemon, as metrics and pages publish it.

    The main thread writes and any thread reads: fields are replaced whole. There are no
    ``models`` until they are loaded. ``inferences`` returns how many frames each model ran on,
    also of those that have ended. ``started_at`` is monotonic.
    """

    storage: StorageStatus
    config_sha256: str
    last_reload_succeeded: bool = True
    streams: Sequence[StreamView] = ()
    models: Sequence[ModelView] = ()
    inferences: Callable[[], Mapping[str, int]] = dict
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    rates: Rates = field(default_factory=Rates)
    version: str = field(default_factory=lambda: version("centernetd"))
    started_at: float = field(default_factory=time.monotonic)

    @property
    def health(self) -> Verdict:
        """The present verdict of `health`."""
        return health(bool(self.models), self.heartbeats, self.storage)

    def document(self) -> Document:
        """Describe the daemon and each stream, ready for JSON; times are seconds."""
        now = time.monotonic()
        verdict = self.health
        return {
            "version": self.version,
            "uptime": round(now - self.started_at, 1),
            "healthy": verdict.ok,
            "troubles": verdict.reasons,
            "models": {model.name: asdict(model.engine) for model in self.models},
            "storage": asdict(self.storage),
            "streams": {
                view.name: _stream(view, self.rates.fps(view.name), now) for view in self.streams
            },
        }


def _stream(view: StreamView, fps: float, now: float) -> Document:
    status, book = view.lane.status, view.lane.ledger.read()
    return {
        "state": view.state.value,
        "fresh": view.fresh(now),
        "failed": status.failed,
        "last_error": view.last_error,
        "frozen": status.frozen,
        "frame_age": round(view.age(now), 3) if book.captured else None,
        "fps": round(fps, 2),
        "captured": book.captured,
        "inferred": book.inferred,
        "dropped": {
            f"{stage}/{reason.value}": count
            for (stage, reason), count in book.dropped.items()
            if count
        },
        "written": dict(book.written),
        "in_flight": dict(book.in_flight),
        "total_frames": status.total_frames,
        "damaged": status.damaged,
        "lost_threads": status.lost_threads,
        "lost_connections": status.lost_connections,
        "reconnects": sum(dict(status.reconnects).values()),
        "codec": status.codec,
        "decoder": status.decoder,
        "encoder": status.encoder,
        "output": status.output,
    }
