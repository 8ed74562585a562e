"""What this machine can handle: cost per frame, number of streams, days of recordings, memory."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from centernetd.capture.open import open_stream
from centernetd.capture.packets import PacketTimeline
from centernetd.capture.source import Picture, Source
from centernetd.commands.probe import SourceProbe
from centernetd.config import StorageConfig, StreamConfig
from centernetd.errors import SinkError, SourceError
from centernetd.flow import Detections, Frame, HostImage, Image, Result, StreamStatus
from centernetd.flow.lane import MAX_WAITING_BYTES
from centernetd.inference.detector import Detector
from centernetd.inference.filter import StreamFilter, filters_of, make_filter
from centernetd.run.stream import LIVE_DEPTH, LOSSLESS_BYTES
from centernetd.sink.privacy import PrivateSink
from centernetd.sink.recorder import PacketRecorder, Recorder
from centernetd.sink.recording import MAX_PREROLL
from centernetd.sink.stage import SinkContext
from centernetd.sink.storage import Storage

_SECONDS = 2.0  # duration of the measurement
_REACHED = 0.9  # the share of the bound set by the stages' costs that the pipeline achieves
_TIME_BASE = 90_000
# Bytes per pixel, measured with H.264 of 8192x4320 and 4096x2160 on the CPU.
_READ = 16  # the decoder's frames (1.5 each), and images (3 each) in capture and inference
_ENCODE = 28  # libx264 with our settings, and the images that are annotated and converted
_PICTURE = 3  # an image queued for a sink


@dataclass(frozen=True)
class Costs:
    """CPU seconds per frame of one stream, summed over threads; ``bytes`` per recorded frame.

    ``infer`` is the sum over the stream's models, ``models`` has those of all models by name.
    """

    decode: float
    infer: float
    record: float
    bytes: float
    models: Mapping[str, float]


@dataclass(frozen=True)
class Capacity:
    """What ``cores`` cores can handle, measured on ``stream`` and scaled to the others by pixels.

    ``fits`` is how many such streams keep up at ``fps``; ``load`` is the share of this machine that
    all configured streams need, where 1 is all of it. Recordings of cameras take
    ``bytes_per_second`` and are kept for ``days``, limited by ``limit``: a `storage` key or the
    disk. If no camera is recorded, they are 0, None and None.
    """

    stream: str
    fps: float
    costs: Costs
    cores: int
    frames_per_second: float
    fits: int
    load: float
    bytes_per_second: float
    days: float | None
    limit: str | None


def measure(
    streams: Mapping[str, StreamConfig],
    probes: Sequence[SourceProbe],
    detectors: Mapping[str, Detector],
    storage: StorageConfig,
    free: int,
) -> Capacity | None:
    """Run the stages one after another for two seconds, on the stream with the most pixels.

    This is valid for networks that run on the CPU. ``detectors`` are the models by name. ``free``
    is the free space, in bytes, on the disk of ``storage``. Returns None if no source gave enough
    frames for its rate.

    Raises
    ------
    CenternetdError
        A stage fails; if it is the source or the recorder, the sentence names the stream.
    """
    rates = {probe.stream: probe.fps for probe in probes if probe.fps is not None}
    if not rates:
        return None
    pixels = {probe.stream: probe.width * probe.height for probe in probes}
    name = max(rates, key=lambda stream: pixels[stream] * rates[stream])
    try:
        costs = _measure_costs(streams[name], rates[name], detectors)
    except (SourceError, SinkError) as error:
        raise type(error)(f"{name}: {error}") from error
    cores = len(os.sched_getaffinity(0))
    usable = cores * _REACHED
    needs = {
        stream: _needs(streams[stream], fps, costs, pixels[stream] / pixels[name])
        for stream, fps in rates.items()
    }
    # What is made from files never makes room for others, and is not made all the time.
    recorded = [each for each in needs if needs[each].bytes and not streams[each].from_file]
    written = sum(needs[each].bytes for each in recorded)
    periods = [streams[each].record.keep_for for each in recorded]
    days, limit = _kept(written, storage, periods, free) if written else (None, None)
    return Capacity(
        stream=name,
        fps=rates[name],
        costs=costs,
        cores=cores,
        frames_per_second=usable / needs[name].cores * rates[name],
        fits=int(usable / needs[name].cores),
        load=sum(need.cores for need in needs.values()) / usable,
        bytes_per_second=written,
        days=days,
        limit=limit,
    )


def _kept(
    rate: float, storage: StorageConfig, periods: Collection[float | None], free: int
) -> tuple[float, str]:
    """Return the days that recordings of ``rate`` bytes per second are kept, and what limits it.

    ``periods`` are the streams' ``keep_for``, of which the longest counts.
    """
    seconds = {"the disk": max(0, free - storage.min_free) / rate}
    if storage.max_bytes is not None:
        seconds["storage.max_bytes"] = storage.max_bytes / rate
    seconds["keep_for"] = max(math.inf if period is None else period for period in periods)
    limit = min(seconds, key=lambda name: seconds[name])
    return seconds[limit] / 86400, limit


@dataclass(frozen=True)
class _Need:
    """Cost of a stream per second: cores (CPU seconds), and bytes of disk."""

    cores: float
    bytes: float


def _needs(stream: StreamConfig, fps: float, costs: Costs, share: float) -> _Need:
    """Scale ``costs`` to a stream whose frames have ``share`` times the pixels."""
    inferred = min(fps, stream.detect.max_fps or fps)
    cores = fps * costs.decode * share + inferred * sum(
        costs.models[name] for name in stream.models
    )
    if stream.record.when == "never":
        return _Need(cores, 0.0)
    return _Need(cores + inferred * costs.record * share, inferred * costs.bytes * share)


def _measure_costs(stream: StreamConfig, fps: float, detectors: Mapping[str, Detector]) -> Costs:
    """Measure in CPU time: waiting for a camera costs nothing, other programs hardly matter."""
    source = open_stream(stream)
    try:
        with tempfile.TemporaryDirectory(prefix="centernetd-check-") as folder:
            return _run_serially(stream, fps, source, detectors, Storage(Path(folder)))
    finally:
        source.close()


def _run_serially(
    stream: StreamConfig,
    fps: float,
    source: Source,
    detectors: Mapping[str, Detector],
    storage: Storage,
) -> Costs:
    status = StreamStatus()
    filters = filters_of(stream, {name: d.manifest for name, d in detectors.items()})
    context = SinkContext(
        replace(stream, record=stream.record.model_copy(update={"when": "always"})),
        storage,
        filters.classes,
        shows=filters.shows_of_kept,
        covers=filters.covers,
        status=status,
    )
    infer = {
        name: _inference(each, filters.by_model.get(name) or make_filter(each.manifest.labels, 0.5))
        for name, each in detectors.items()
    }
    ends_at = time.monotonic() + _SECONDS
    decode = record = 0.0
    took = dict.fromkeys(detectors, 0.0)
    count = 0
    mark = time.process_time()
    with _recording(context) as store:
        for count, picture in enumerate(source, 1):
            decode += time.process_time() - mark
            found = {}
            for name, run in infer.items():
                mark = time.process_time()
                found[name] = run(picture.image)
                took[name] += time.process_time() - mark
            detections = Detections.joined([found[name] for name in stream.models])
            mark = time.process_time()
            pts = round(count * _TIME_BASE / fps)
            frame = Frame(count, picture.image, pts, Fraction(1, _TIME_BASE), 0.0, time.time())
            store(picture, Result(frame, detections))
            record += time.process_time() - mark
            mark = time.process_time()
            if time.monotonic() > ends_at:
                break
    models = {name: seconds / count for name, seconds in took.items()}
    infer_all = sum(models[name] for name in stream.models)
    written = status.bytes_written / count
    return Costs(decode / count, infer_all, record / count, written, models)


@contextmanager
def _recording(context: SinkContext) -> Iterator[Callable[[Picture, Result], object]]:
    """Yield a function that records a frame as the stream would, regardless of its detections."""
    if not context.stream.copies:
        recorder = PrivateSink(context, Recorder(context))
        yield lambda _, result: recorder.write(result)
        recorder.close()
        return
    copier = PacketRecorder(context)
    timeline = PacketTimeline()

    def copy(picture: Picture, result: Result) -> None:
        frame = result.frame
        copier.write_packets(
            timeline.place(picture, frame.pts, frame.time_base, frame.wall_time), []
        )

    yield copy
    copier.close()


def _inference(detector: Detector, stream_filter: StreamFilter) -> Callable[[Image], Detections]:
    """Return a function that detects in one frame, already warmed up."""
    (slot,) = detector.engine.make_slots(1)

    def infer(image: Image) -> Detections:
        views = detector.fill(slot, [image], [stream_filter])
        slot.enqueue(1)
        return detector.read(slot, views)[0]

    infer(HostImage(np.zeros((*detector.manifest.input_size, 3), np.uint8)))
    return infer


def most_memory(
    streams: Mapping[str, StreamConfig], probes: Sequence[SourceProbe], lossless_depth: int
) -> int:
    """Return the bytes that the streams use when all their queues are full.

    Excludes the daemon itself, its model, and streams that delivered no frame.
    """
    seen = [(streams[probe.stream], probe.width * probe.height) for probe in probes]
    live = sum(_waiting_live(stream, pixels) for stream, pixels in seen)
    lossless = sum(pixels for stream, pixels in seen if stream.policy == "lossless")
    waiting = live + min(LOSSLESS_BYTES, lossless_depth * _PICTURE * lossless)
    return waiting + sum(_of(stream, pixels) for stream, pixels in seen)


def _waiting_live(stream: StreamConfig, pixels: int) -> int:
    if stream.policy == "lossless" or (stream.record.when == "never" and not stream.logs):
        return 0
    return min(LIVE_DEPTH * _PICTURE * pixels, MAX_WAITING_BYTES)


def _of(stream: StreamConfig, pixels: int) -> int:
    encoded = stream.record.when != "never" and not stream.copies
    needed = pixels * (_READ + _ENCODE * encoded)
    return needed + MAX_PREROLL * (stream.record.when == "detection" and pixels > 0)
