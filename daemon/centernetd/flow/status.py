"""What is known of a stream besides its frame counts."""

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


class StreamState(str, Enum):
    """What a stream is doing."""

    CONNECTING = "connecting"
    RUNNING = "running"
    RECONNECTING = "reconnecting"
    STUCK = "stuck"
    ENDED = "ended"


RECONNECT_REASONS = (
    "unreachable",
    "unauthorized",
    "not_found",
    "open_failed",
    "read_failed",
    "stalled",
    "stuck",
    "ended",
    "lagging",
    "over_limit",
)


@dataclass(slots=True)
class StreamStatus:
    """The present condition of one stream, written by its own stages, read by anyone.

    Every field has one writing thread and is replaced whole, so readers need no lock. (Where
    a capture thread is lost, the supervisor writes in its place.) ``state`` is the capture's;
    ``hung_sinks`` names the sinks that hang in a write, ``lost_threads`` counts the capture
    threads that hang in a library. ``last_frame_at`` is monotonic and starts at the stream's
    creation. ``total_frames`` is the source's own estimate, where it has one. ``damaged``
    counts what was passed over before it could become a frame; ``reconnects`` counts every try by
    the reason of the failure before it, ``lost_connections`` only those that had given frames.
    """

    state: StreamState = StreamState.CONNECTING
    last_error: str | None = None
    failed: bool = False
    last_frame_at: float = field(default_factory=time.monotonic)
    total_frames: int | None = None
    source_lag: float = 0.0
    frozen: bool = False
    damaged: int = 0
    lost_connections: int = 0
    lost_threads: int = 0
    hung_sinks: tuple[str, ...] = ()
    codec: str = ""
    decoder: str = ""
    encoder: str = ""
    bytes_written: int = 0
    segments: int = 0
    output: str | None = None
    reconnects: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(RECONNECT_REASONS, 0))
    )
    detections: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class StorageStatus:
    """What is known of the disk, read by anyone; None: not known (yet).

    ``size`` is that of the recordings and events on it, ``free`` what is left to them, both in
    bytes; ``oldest`` is the Unix time of the oldest. ``trouble`` says why nothing may be
    written. All of that is written by one thread; ``hung`` says that it has not moved for long,
    so that nothing is deleted, and is written by the supervisor.
    """

    size: int | None = None
    free: int | None = None
    oldest: float | None = None
    trouble: str | None = None
    hung: bool = False

    def forget(self) -> None:
        """Know nothing of the disk any more, but what is wrong."""
        self.size = self.free = self.oldest = None
