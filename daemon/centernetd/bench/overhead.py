"""CPU cost per frame of the daemon itself, between the decoders and a network that cost nothing."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from centernetd.capture.intake import Intake
from centernetd.capture.source import Picture, SourceInfo
from centernetd.config import RecordConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.flow import Arrivals, Backpressure, DetectionClass, Image, Lane, Runner, Worker
from centernetd.inference.collect import Batching
from centernetd.inference.delivery import Delivery
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Engine, EngineInfo, Slot, Tensors
from centernetd.inference.filter import StreamFilter, StreamFilters
from centernetd.inference.letterbox import Geometry
from centernetd.inference.stage import InferenceStage
from centernetd.model.manifest import Manifest
from centernetd.service.metrics import PrometheusMeters
from centernetd.sink.events import EventLog
from centernetd.sink.pool import PoolTask, WriterPool
from centernetd.sink.registry import EVENTS
from centernetd.sink.stage import BatchStage, SinkContext
from centernetd.sink.storage import Storage

LOADS = tuple((streams, batch) for streams in (64, 112) for batch in (16, 32))
"""Numbers of streams and maximum batch sizes for which `overhead` is published."""
_FPS = 30  # frames per second of each stream
_FRAMES = 60  # per stream and run
_RUNS = 3
_TIMEOUT = 60.0  # seconds
_INPUT = (16, 16)
_MODEL = "idle"
_THING = DetectionClass(_MODEL, 0, "thing")
_CLOCK = Fraction(1, 90_000)


class _NoPicture(Image):
    """A picture without pixels, as large as those that stay on a GPU."""

    size = (1080, 1920)
    nbytes = 0

    def pixels(self) -> NDArray[np.uint8]:
        raise RuntimeError("nothing in this measurement should look at pixels")

    def lines(self, step: int) -> NDArray[np.uint8]:
        return np.zeros((1, 1), np.uint8)


class _IdleSlot(Slot):
    """A slot that finishes immediately, with 100 rows of which three are detections."""

    def __init__(self, max_batch: int) -> None:
        self.rows = np.zeros((max_batch, *_INPUT, 3), np.uint8)
        self._detections = np.zeros((max_batch, 100, 6), np.float32)
        self._detections[:, :3] = (1, 1, 9, 9, 0.9, 0)
        self._size = 0

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        pass

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


def overhead(streams: int, batch: int) -> float:
    """Return the CPU seconds per frame of live ``streams``, in batches of at most ``batch``.

    This is everything but decoding and the network: timing each picture, its lane, batching,
    delivery of three detections, metrics, and the events, which are written to a temporary folder.
    The first second, in which files are opened, is left out.
    Returns the minimum of a few runs, since other programs' use of the caches can only add to it.
    """
    return min(_run(streams, batch) for _ in range(_RUNS))


def _run(streams: int, batch: int) -> float:
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as folder:
        return _Pipeline(streams, batch, Storage(Path(folder)), pool).run() / (_FRAMES * streams)


class _Pipeline:
    """Live streams from their captures to their events, around an engine that costs nothing."""

    def __init__(self, streams: int, batch: int, storage: Storage, pool: Executor) -> None:
        self._workers: list[Worker] = []
        self._writers = WriterPool(EVENTS, self._worker)
        self._meters = PrometheusMeters()
        self._storage = storage
        self._lanes: list[Lane] = []
        self._intakes: list[Intake] = []
        self._sinks: list[PoolTask] = []
        arrivals = Arrivals()
        filters = StreamFilters({_MODEL: StreamFilter(0.5, None, ("thing",))}, (_THING,))
        for number in range(streams):
            self._add(f"idle{number}", arrivals)
        inference = InferenceStage(
            Detector(_IdleEngine(batch), _manifest(), pool),
            {lane.inboxes[_MODEL]: filters for lane in self._lanes},
            arrivals,
            Batching(batch, 0.01),
            Delivery(self._meters),
            self._meters,
            lambda _: None,
            slots=3,
        )
        self._inference = [self._worker("idle", inference.feed)]
        self._inference += [self._worker("idle", inference.harvest)]

    def run(self) -> float:
        """Return the CPU seconds that all frames took."""
        runners: list[Runner] = [*self._inference, *self._sinks]
        try:
            for runner in runners:
                runner.start()
            self._offer(range(_FPS))  # meanwhile, files are opened and memory is allocated
            started = time.process_time()
            self._offer(range(_FPS, _FPS + _FRAMES))
            took = time.process_time() - started
        finally:
            for lane in self._lanes:  # even if interrupted, so that all threads end
                lane.close()
            for runner in runners:
                runner.join(time.monotonic() + _TIMEOUT)
            self._writers.close()
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error
        return took

    def _add(self, name: str, arrivals: Arrivals) -> None:
        source, record = SourceUri("rtsp://camera/"), RecordConfig(when="never")
        config = StreamConfig(name, source, policy="live", record=record)
        lane = Lane(
            name,
            Backpressure.DROP_OLDEST,
            depth=8,
            inbox=2,
            arrivals={_MODEL: arrivals},
            sinks=[EVENTS],
            without_pixels=[EVENTS],
            max_frame_age=config.max_frame_age,
            announce=self._writers.announce,
        )
        lane.status.detections[_MODEL, "thing"] = 0
        self._meters.add_stream(name)
        context = SinkContext(config, self._storage, (_THING,))
        stage = BatchStage(lane, EVENTS, EventLog(context))
        self._lanes.append(lane)
        intake = Intake(config, lane, self._meters, Event())
        intake.connected(SourceInfo("h264", "none", _CLOCK))
        self._intakes.append(intake)
        self._sinks.append(PoolTask(name, stage, self._writers))

    def _worker(self, name: str, run: Callable[[], None]) -> Worker:
        worker = Worker(name, run, self._exited)
        self._workers.append(worker)
        return worker

    def _exited(self, worker: Worker) -> None:
        """End the other threads after one failed."""
        if worker.error is not None:
            for lane in self._lanes:
                lane.abandon()

    def _offer(self, numbers: range) -> None:
        """Let all cameras send these frames, at their pace and in step."""
        image, began = _NoPicture(), time.monotonic()
        for number in numbers:
            time.sleep(max(0.0, began + (number - numbers.start) / _FPS - time.monotonic()))
            for intake in self._intakes:
                is_key = number % _FPS == 0
                intake.take(Picture(image, number * 3000, _CLOCK, 0.0, is_key=is_key))


def _manifest() -> Manifest:
    return Manifest(
        layout="ctdet",
        input_size=_INPUT,
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
