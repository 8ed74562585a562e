"""The service's view of the running pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from centernetd.config import redact
from centernetd.flow import Lane, StorageStatus, StreamState
from centernetd.service.progress import Progress
from centernetd.service.rates import Rates


@dataclass(frozen=True)
class EngineInfo:
    """What the network runs on; ``reason`` is why this backend was chosen."""

    backend: str
    precision: str
    device: str
    model: str
    reason: str


@dataclass
class ConfigState:
    """The configuration in force, and whether the last reload was applied or refused."""

    sha256: str
    last_reload_succeeded: bool = True


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
        said, age = self.state.value, f"{self.age(now):.1f} s"
        said += f", last frame {age} ago" if self.lane.ledger.read().captured else f" for {age}"
        return f"{said}: {self.last_error}" if self.last_error else said


@dataclass(frozen=True)
class Pipeline:
    """The running pipeline; its callables are quick, take no arguments and never block.

    ``streams`` returns the current streams, ``engine`` None until the engine is loaded,
    ``slots_busy`` the number of slots that hold a batch. ``started_at`` is monotonic.
    """

    streams: Callable[[], Sequence[StreamView]]
    engine: Callable[[], EngineInfo | None]
    slots_busy: Callable[[], int]
    progress: Progress
    rates: Rates
    storage: StorageStatus
    config: ConfigState
    version: str
    started_at: float
