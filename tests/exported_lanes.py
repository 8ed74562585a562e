"""Lanes without stages, and the registry that exports them."""

import time
from fractions import Fraction

import numpy as np
from prometheus_client import CollectorRegistry

from centernetd.flow import (
    Arrivals,
    Backpressure,
    Detections,
    Frame,
    HostImage,
    Lane,
    Result,
    StorageStatus,
)
from centernetd.service.health import StreamView
from centernetd.service.metrics import PREFIX, PipelineCollector, PrometheusMeters
from centernetd.service.status import DaemonStatus, EngineStatus
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.track.counts import TrackLedger
from tests.fakes import MODEL

NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


class FakeModel:
    """A model that runs nowhere."""

    name = "faces"
    engine = EngineStatus(
        "onnxruntime-cpu", "float32", "CPU", "centerface", "there is no NVIDIA device"
    )
    slots_busy = 1


class ExportedLanes:
    """Lanes without stages, and the registry that exports them."""

    def __init__(self, storage: StorageStatus) -> None:
        self.status = DaemonStatus(
            storage,
            "c0ffee",
            models=[FakeModel()],
            version="1.2.3",
            inferences=lambda: {"faces": 40},
        )
        self.views: list[StreamView] = []
        self.status.streams = self.views
        self.registry = CollectorRegistry()
        self.meters = PrometheusMeters(self.registry)
        self.registry.register(PipelineCollector(self.status))

    def add(self, name: str, inbox: int = 4, tracks: TrackLedger | None = None) -> Lane:
        lane = Lane(
            name,
            Backpressure.DROP_OLDEST,
            depth=4,
            inbox=inbox,
            arrivals={MODEL: Arrivals()},
            sinks=(RECORD, EVENTS),
        )
        self.views.append(StreamView(lane, stall_timeout=10.0, tracks=tracks))
        self.meters.add_stream(name)
        return lane

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(PREFIX + name, labels)

    def names(self) -> set[str]:
        return {
            sample.name.removeprefix(PREFIX)
            for family in self.registry.collect()
            for sample in family.samples
        }


def frame(frame_id: int) -> Frame:
    image = HostImage(np.zeros((2, 2, 3), np.uint8))
    return Frame(frame_id, image, frame_id, Fraction(1, 25), time.monotonic(), time.time())


def move_frames(lane: Lane) -> None:
    """Offer 5 frames to an inbox of 4, infer 2, write 1; one waits in the record outlet."""
    for frame_id in range(5):
        lane.offer(frame(frame_id))
    for _ in range(2):
        taken = lane.take()
        assert taken is not None
        lane.deliver(Result(taken, NOTHING))
    lane.take()
    lane.outlets[RECORD].take()
    lane.ledger.write(RECORD)
