"""What stages report apart from frame counts: states and measurements."""

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from weakref import ref

from centernetd.flow.image import Image


class StreamState(str, Enum):
    """State of a stream's capture."""

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
    """The present state of one stream, written by its own stages, read by anyone.

    Every field has one writing thread and is replaced whole, so readers need no lock. (If a
    capture thread is lost, the supervisor writes in its place.) ``state`` is the capture's;
    ``hung_sinks`` names the sinks blocked in a write, ``lost_threads`` counts the capture
    threads blocked in a library. ``last_frame_at`` is monotonic and starts at the stream's
    creation. ``total_frames`` is the source's own estimate, if any. ``damaged`` counts what was
    skipped before it could become a frame. ``reconnects`` counts every try by the reason of the
    preceding failure, ``lost_connections`` only connections that had delivered frames.
    ``withheld`` counts frames whose picture was not given out, by reason.
    ``detections`` counts by model and label. ``surfaces`` refer to the stream's pictures that GPU
    memory holds now, whoever uses them; each leaves when its picture is freed.
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
    withheld: Counter[str] = field(default_factory=Counter)
    detections: Counter[tuple[str, str]] = field(default_factory=Counter)
    surfaces: set[ref[Image]] = field(default_factory=set)


@dataclass(slots=True)
class StorageStatus:
    """The state of the disk, read by anyone; None means unknown.

    ``size`` is that of the recordings and events on it, ``free`` the space left for them, both
    in bytes; ``oldest`` is the Unix time of the oldest. ``trouble`` explains why nothing may be
    written. These have one writing thread. ``hung`` is written by the supervisor: that thread
    has been stuck for long, so that nothing is deleted.
    """

    size: int | None = None
    free: int | None = None
    oldest: float | None = None
    trouble: str | None = None
    hung: bool = False

    def forget(self) -> None:
        """Reset the measurements to unknown, but keep ``trouble`` and ``hung``."""
        self.size = self.free = self.oldest = None


class Meters:
    """Receives measurements from stages; this base class discards them.

    The service subclasses it with Prometheus histograms. Methods are called per frame or
    per batch, from any thread, and must be fast.
    """

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Report the duration of a step: decode, preprocess, execute, privacy, annotate, encode."""

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Report the time from decoding a frame to passing its detections to the sinks."""

    def plan_build(self, seconds: float) -> None:
        """Report the duration of a plan build."""

    def batch_size(self, size: int) -> None:
        """Report the number of frames in a batch."""
