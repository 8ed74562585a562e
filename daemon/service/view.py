"""What the service may see of the running pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.flow import Lane, StorageStatus, StreamState
from daemon.service.progress import Progress
from daemon.service.rates import Rates


@dataclass(frozen=True)
class EngineInfo:
    """What the network runs on; ``reason`` says why on that backend."""

    backend: str
    precision: str
    device: str
    model: str
    reason: str


@dataclass(frozen=True)
class StreamView:
    """One stream as the service sees it; ``stall_timeout`` is in seconds."""

    lane: Lane
    stall_timeout: float

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.lane.name

    @property
    def finished(self) -> bool:
        """Whether the stream has come to its proper end, as a file does: it is not down."""
        status = self.lane.status
        return status.state is StreamState.ENDED and not status.failed

    def age(self, now: float) -> float:
        """Return the seconds since the last frame, or since the start, at monotonic ``now``."""
        return max(0.0, now - self.lane.status.last_frame_at)

    def fresh(self, now: float) -> bool:
        """Whether the stream runs and a frame came within ``stall_timeout``."""
        running = self.lane.status.state is StreamState.RUNNING
        return running and self.age(now) <= self.stall_timeout

    def trouble(self, now: float) -> str | None:
        """Return in one line why the stream is not fresh, or None when it is."""
        if self.fresh(now):
            return None
        status = self.lane.status
        said = f"{status.state.value}, last frame {self.age(now):.1f} s ago"
        if status.state is StreamState.CONNECTING:
            said = f"{status.state.value} for {self.age(now):.1f} s"
        return f"{said}: {status.last_error}" if status.last_error else said


@dataclass(frozen=True)
class Pipeline:
    """The running pipeline; its callables are quick, take no argument and never block.

    ``streams`` gives the present streams, ``engine`` None until the engine is loaded,
    ``slots_busy`` the slots that hold a batch. ``started_at`` is monotonic.
    """

    streams: Callable[[], Sequence[StreamView]]
    engine: Callable[[], EngineInfo | None]
    slots_busy: Callable[[], int]
    progress: Progress
    rates: Rates
    storage: StorageStatus
    config_sha256: str
    version: str
    started_at: float
