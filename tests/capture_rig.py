"""A capture stage with fake sources, a real lane and its stop."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.source import Source
from centernetd.capture.stage import CaptureStage
from centernetd.capture.video import VideoSource, open_video
from centernetd.config import RecordConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.config.sections import DetectConfig, Policy, Timestamps
from centernetd.errors import SourceError
from centernetd.flow import Arrivals, Backpressure, Lane, Result, StreamState
from tests.fakes import MODEL, FakeSource, RecordingMeters, detections


def stream(
    source: str | Path, timeout: float = 5.0, *, packets: bool = False, **more: Any
) -> StreamConfig:
    """Return the configuration of a stream decoded in software; ``packets``: recorded as sent."""
    return StreamConfig(
        "cam",
        SourceUri(str(source)),
        stall_timeout=timeout,
        record=RecordConfig(video="source" if packets else "annotated"),
        **{"decode": "cpu", **more},
    )


def video_source(source: str | Path, timeout: float = 5.0, **more: Any) -> VideoSource:
    """Open a file or network stream; ``more`` is as in `stream`."""
    config = stream(source, timeout, **more)
    return open_video(config, DecoderChoice(config))


class Openings:
    """Opens the sources it was given in turn; an error is raised instead of one."""

    def __init__(self, steps: Sequence[FakeSource | SourceError | Callable[[], None]]) -> None:
        self.opened: list[FakeSource] = []
        self.tries = 0
        self._steps = list(steps)

    def __call__(self, _stream: StreamConfig, _decoding: DecoderChoice) -> Source:
        assert all(source.closed for source in self.opened), "the last source is still open"
        self.tries += 1
        step = self._steps.pop(0)
        if isinstance(step, SourceError):
            raise step
        if not isinstance(step, FakeSource):
            step()
            raise SourceError("stopped meanwhile", "open_failed")
        self.opened.append(step)
        return step


class Rig:
    """A capture stage, its lane and its stop."""

    def __init__(
        self,
        uri: str,
        *steps: FakeSource | SourceError | Callable[[], None],
        policy: Policy = "lossless",
        max_fps: float | None = None,
        depth: int = 1000,
        stall_timeout: float = 5.0,
        timestamps: Timestamps = "auto",
    ) -> None:
        self.stop = threading.Event()
        self.meters = RecordingMeters()
        self.openings = Openings(steps)
        self.lane = Lane(
            "cam",
            Backpressure.BLOCK if policy == "lossless" else Backpressure.DROP_OLDEST,
            depth=depth,
            inbox=2,
            arrivals={MODEL: Arrivals()},
            sinks=[],
        )
        config = stream(
            uri,
            stall_timeout,
            policy=policy,
            timestamps=timestamps,
            detect=DetectConfig(max_fps=max_fps),
        )
        self.stage = CaptureStage(config, self.lane, self.meters, self.stop, self.openings)

    @property
    def status(self) -> StreamState:
        return self.lane.status.state

    def take(self) -> list[tuple[int, int]]:
        """Infer on all that waits; returns frame ids and pts."""
        taken = []
        while (frame := self.lane.take()) is not None:
            taken.append((frame.frame_id, frame.pts))
            self.lane.deliver(Result(frame, detections()))
        return taken

    def run(self) -> "Rig":
        """Run to the end, which must come without waiting."""
        self.stage.run()
        assert self.lane.closed
        assert self.status is StreamState.ENDED
        assert all(source.closed for source in self.openings.opened)
        assert self.lane.ledger.read().balanced
        return self
