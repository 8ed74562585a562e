"""CPU cost per frame of the pipeline itself, measured with idle stages."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np

from centernetd.flow import (
    Arrivals,
    Backpressure,
    Frame,
    HostImage,
    Image,
    Lane,
    Meters,
    Result,
    Worker,
)
from centernetd.inference.collect import Batching
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Engine, EngineInfo, Slot, Tensors
from centernetd.inference.filter import StreamFilter
from centernetd.inference.letterbox import Geometry, fill_row
from centernetd.inference.stage import InferenceStage
from centernetd.model.manifest import Manifest
from centernetd.sink.registry import EVENTS, RECORD
from centernetd.sink.stage import Outcome, SinkStage

_FRAMES = 1000
_RUNS = 5
_TIMEOUT = 60.0  # seconds
_SIZE = (16, 16)


class _IdleSlot(Slot):
    """A slot that finishes immediately, with 100 rows of which three are detections."""

    def __init__(self, max_batch: int) -> None:
        self.rows = np.zeros((max_batch, *_SIZE, 3), np.uint8)
        self._detections = np.zeros((max_batch, 100, 6), np.float32)
        self._detections[:, :3] = (1, 1, 9, 9, 0.9, 0)
        self._size = 0

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        fill_row(image.pixels(), self.rows[row], geometry)

    def move(self, row: int, to: int) -> None:
        pass

    def clear(self) -> None:
        pass

    def enqueue(self, size: int) -> None:
        self._size = size

    def wait(self) -> Tensors:
        return {"detections": self._detections[: self._size]}

    def durations(self) -> Mapping[str, float]:
        return {}


class _IdleEngine(Engine):
    """An engine of idle slots."""

    info = EngineInfo("none", "float32", "none")

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch

    def make_slots(self, count: int) -> Sequence[Slot]:
        return [_IdleSlot(self._max_batch) for _ in range(count)]

    def bucket(self, size: int) -> int:
        return size

    def close(self) -> None:
        pass


class _IdleSink:
    """A sink that writes nothing."""

    def wants(self, result: Result) -> bool:
        return True

    def write(self, result: Result) -> Outcome:
        return Outcome(written=1)

    def close(self) -> Outcome:
        return Outcome()


def overhead(batch: int) -> float:
    """Return the CPU seconds per frame of a lane, batched inference and two sinks.

    Frames are 16 by 16 pixels, so that letterboxing costs next to nothing. Returns the minimum of
    a few runs, since other programs' use of the caches can only add to it.
    """
    return min(_run(batch) for _ in range(_RUNS))


def _run(batch: int) -> float:
    arrivals = Arrivals()
    sinks = (RECORD, EVENTS)
    depth = batch * 4
    lane = Lane(
        "idle", Backpressure.BLOCK, depth=depth, inbox=depth, arrivals=arrivals, sinks=sinks
    )
    stream_filter = StreamFilter(0.5, None, ("thing",))
    lane.status.detections["", "thing"] = 0
    with ThreadPoolExecutor(1) as pool:
        inference = InferenceStage(
            Detector(_IdleEngine(batch), _manifest(), pool),
            {lane: stream_filter},
            arrivals,
            Batching(batch, 0.01),
            Meters(),
            lambda _: None,
            slots=3,
        )
        runs = [inference.feed, inference.harvest]
        runs += [SinkStage(lane, sink, _IdleSink()).run for sink in sinks]
        workers = [Worker("idle", run, lambda worker: _give_up(lane, worker)) for run in runs]
        started = time.process_time()
        try:
            for worker in workers:
                worker.start()
            _offer(lane)
        finally:
            lane.close()  # even if interrupted, so that all threads end
            for worker in workers:
                worker.join(time.monotonic() + _TIMEOUT)
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    return (time.process_time() - started) / _FRAMES


def _give_up(lane: Lane, worker: Worker) -> None:
    """End the other threads after one failed."""
    if worker.error is not None:
        lane.abandon()


def _offer(lane: Lane) -> None:
    image = HostImage(np.zeros((*_SIZE, 3), np.uint8))
    for number in range(_FRAMES):
        now = time.monotonic()
        lane.offer(Frame(number, image, number, Fraction(1, 25), now, now))


def _manifest() -> Manifest:
    return Manifest(
        layout="ctdet",
        input_size=_SIZE,
        order="bgr",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        resize="letterbox",
        labels=("thing",),
        joints=(),
        confidence=0.5,
        nms_iou=None,
        top_k=100,
        source_sha256="0" * 64,
    )
