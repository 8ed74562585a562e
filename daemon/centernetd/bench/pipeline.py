"""CPU cost of each stage alone, the resulting bound, and how close the pipeline gets to it."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from centernetd.bench.clip import Clip, file_stream
from centernetd.bench.overhead import LOADS, overhead
from centernetd.bench.tracking import CROWDS, Cost, Crowd, track_crowd
from centernetd.capture.open import open_stream
from centernetd.capture.source import Picture
from centernetd.capture.timeline import Timeline
from centernetd.config import Config, MetricsConfig, StorageConfig, StreamConfig
from centernetd.flow import Detections
from centernetd.inference.detector import Detector
from centernetd.inference.engines import choose_backend
from centernetd.inference.filter import StreamFilter, make_filter
from centernetd.inference.postprocess import postprocess
from centernetd.run.loading import ConfiguredModel, load_detector, sizes_for
from centernetd.run.supervisor import Supervisor
from centernetd.sink.annotate import draw_boxes
from centernetd.sink.encoder import choose_encoder

Item = TypeVar("Item")

SAMPLE = 100  # frames each stage is measured on; few enough to be held in memory
_ROUNDS = 25  # in which the model alone is timed


@dataclass(frozen=True)
class Report:
    """Results of one `bench_pipeline`; ``costs`` are CPU seconds per frame of each stage alone.

    Of the ``models`` of ``stream``, the first was measured. ``overhead`` is the daemon's own CPU
    seconds per frame, without decoding and network, by number of streams and batch size,
    ``tracking`` that of following objects. ``decode`` is the time of the model's decode as a share
    of its network's.
    """

    stream: str
    models: Sequence[str]
    frames: int
    cores: int
    costs: Mapping[str, float]
    serial_fps: float
    pipeline_fps: float
    overhead: Mapping[tuple[int, int], float]
    tracking: Mapping[Crowd, Cost]
    decode: float

    @property
    def bound_fps(self) -> float:
        """Frames per second if every core did nothing but the stages' work."""
        return self.cores / sum(self.costs.values())


@dataclass(frozen=True)
class ModelTime:
    """A model's shortest seconds per frame, and the decode's time as a share of the network's."""

    seconds: float
    decode: float


def bench_pipeline(config: Config, report: Callable[[str], None]) -> Report:
    """Measure ``config`` on its first file stream; ``report`` receives progress messages.

    Of its models, only the first runs. If there are others, the stream has no blur that one of them
    finds, and no labels, which the first one need not have.

    Raises
    ------
    ConfigError
        No stream is a file.
    """
    whole = file_stream(config.streams.values())
    stream = _with_first_model(whole)
    report("the daemon itself, without decoding and network")
    idle = {load: overhead(*load) for load in LOADS}
    report("tracking")
    tracking = {crowd: track_crowd(crowd) for crowd in CROWDS}
    with tempfile.TemporaryDirectory(prefix="centernetd-bench-") as folder:
        report("each stage alone")
        costs, frames = _stage_costs(config, stream, Path(folder))
        report("the decode in the model")
        decode = _decode_share(config, stream)
        report("a serial loop of the same parts")
        serial = _serial_loop(config, stream, Path(folder))
        report("the pipeline")
        pipeline = _pipeline(config, stream, Path(folder))
        return Report(
            stream=stream.name,
            models=whole.models,
            frames=frames,
            cores=_cores(),
            costs=costs,
            serial_fps=frames / serial,
            pipeline_fps=frames / pipeline,
            overhead=idle,
            tracking=tracking,
            decode=decode,
        )


def _with_first_model(stream: StreamConfig) -> StreamConfig:
    first, *others = stream.models
    if not others:
        return stream
    every_label: dict[str, object] = {"labels": ()}
    blur = stream.privacy.blur
    if blur is not None:
        own = blur.model in (None, first)
        blur = blur.model_copy(update=every_label) if own else None
    zones, lines = stream.zones.items(), stream.lines.items()
    return replace(
        stream,
        models=(first,),
        blur_only=None,
        detect=stream.detect.model_copy(update=every_label),
        privacy=stream.privacy.model_copy(update={"blur": blur}),
        zones={name: zone.model_copy(update=every_label) for name, zone in zones},
        lines={name: line.model_copy(update=every_label) for name, line in lines},
    )


def _stage_costs(
    config: Config, stream: StreamConfig, folder: Path
) -> tuple[dict[str, float], int]:
    """Return each stage's CPU seconds per frame, and the number of frames in the clip."""
    costs = {}
    source = open_stream(stream)
    costs["decode"], frames = _cpu_seconds(lambda _: None, source)
    source.close()
    pictures = _sample(stream)
    with ThreadPoolExecutor(1) as pool:
        detector = _detector(config, stream, pool)
        stream_filter = _filter(detector)
        (slot,) = detector.engine.make_slots(1)
        found: list[Detections] = []

        def fill(picture: Picture) -> None:
            detector.fill(slot, [picture.image], [stream_filter])

        def infer(picture: Picture) -> None:
            views = detector.fill(slot, [picture.image], [stream_filter])
            slot.enqueue(1)
            found.extend(detector.read(slot, views))

        costs["preprocess"], _ = _cpu_seconds(fill, pictures)
        infer(pictures[0])
        both, _ = _cpu_seconds(infer, pictures)
        costs["infer"] = both - costs["preprocess"]
        detector.engine.close()
    drawn = list(zip(pictures, found[1:], strict=True))
    labels = detector.manifest.labels
    costs["annotate"], _ = _cpu_seconds(
        lambda pair: draw_boxes(pair[0].image.pixels(), pair[1], labels), drawn
    )
    with _recording(folder / "alone.mp4", stream, pictures[0]) as record:
        costs["encode"], _ = _cpu_seconds(record, pictures)
    return costs, frames


def _decode_share(config: Config, stream: StreamConfig) -> float:
    """Return the decode's time on the CPU as a share of the network's, for one frame."""
    with ThreadPoolExecutor(1) as pool:
        detector = _detector(config, stream, pool)
        (slot,) = detector.engine.make_slots(1)
        detector.fill(slot, [_sample(stream, 1)[0].image], [_filter(detector)])
        frame = slot.rows[:1].copy()
        detector.engine.close()
    return time_model(_model(config, stream), frame, _cores()).decode


def time_model(model: Path, frame: NDArray[np.uint8], threads: int) -> ModelTime:
    """Run ``model`` on ``frame`` [1, H, W, 3], and sum the time per operator.

    If the model was already in prepared form, its decode can't be identified: the share is 0.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        taken = []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            session.run(None, {"frames": frame})
            taken.append(time.perf_counter() - started)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent = {"decode": 0, "network": 0}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            part = "decode" if event["name"].startswith("decode/") else "network"
            spent[part] += event["dur"]
    return ModelTime(min(taken), spent["decode"] / spent["network"])


def _serial_loop(config: Config, stream: StreamConfig, folder: Path) -> float:
    """Return the seconds that the same work takes in one thread, step by step.

    ONNX Runtime keeps its defaults, as in any such loop: it uses every core, and spins.
    """
    with ThreadPoolExecutor(1) as pool:
        detector = _detector(config, stream, pool)
    (slot,) = detector.engine.make_slots(1)
    stream_filter = _filter(detector)
    session = ort.InferenceSession(str(_model(config, stream)), providers=["CPUExecutionProvider"])
    labels, nms_iou = detector.manifest.labels, detector.manifest.nms_iou
    first = _sample(stream, 1)[0]
    started = time.perf_counter()
    with _recording(folder / "serial.mp4", stream, first) as record:
        for picture in open_stream(stream):
            views = detector.fill(slot, [picture.image], [stream_filter])
            rows = session.run(["detections"], {"frames": slot.rows[:1]})[0]
            (found,), _ = postprocess(rows, None, views, nms_iou)
            draw_boxes(picture.image.pixels(), found, labels)
            record(picture)
    return time.perf_counter() - started


def _pipeline(config: Config, stream: StreamConfig, folder: Path) -> float:
    """Return the seconds from starting the stages until the last one ends."""
    alone = replace(
        config,
        streams={stream.name: stream},
        storage=StorageConfig(root=str(folder)),
        metrics=MetricsConfig(listen=None),
    )
    supervisor = Supervisor(alone)
    supervisor.run(lambda: None)
    return time.monotonic() - supervisor.started_at


@contextmanager
def _recording(
    path: Path, stream: StreamConfig, first: Picture
) -> Iterator[Callable[[Picture], None]]:
    """Yield a function that records a picture with the recorder's settings."""
    height, width = first.image.size
    encoder = choose_encoder(stream.record.codec, width, height)
    timeline = Timeline(first.time_base)
    with Clip(path, encoder, width, height, first.time_base) as clip:

        def record(picture: Picture) -> None:
            pts = timeline.stamp(picture.pts, picture.time_base, time.monotonic())
            clip.write(picture.image.pixels(), pts)

        yield record


def _detector(config: Config, stream: StreamConfig, pool: ThreadPoolExecutor) -> Detector:
    (model,) = stream.models
    backend = choose_backend(config.engine.backend)
    return load_detector(ConfiguredModel.of(config, model), backend, sizes_for(backend, 1), pool)


def _model(config: Config, stream: StreamConfig) -> Path:
    (model,) = stream.models
    return ConfiguredModel.of(config, model).prepared(choose_backend(config.engine.backend)).path


def _filter(detector: Detector) -> StreamFilter:
    return make_filter(detector.manifest.labels, detector.manifest.confidence)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _sample(stream: StreamConfig, count: int = SAMPLE) -> Sequence[Picture]:
    source = open_stream(stream)
    pictures = list(islice(source, count))
    source.close()
    return pictures


def _cpu_seconds(work: Callable[[Item], object], items: Iterable[Item]) -> tuple[float, int]:
    """Call ``work`` on each item; return the process's CPU seconds per item, and the item count."""
    count = 0
    started = time.process_time()
    for item in items:
        work(item)
        count += 1
    return (time.process_time() - started) / count, count
