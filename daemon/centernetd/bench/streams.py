"""Many concurrent live streams: latency, cost per stream, and which resource runs out first."""

import logging
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.bench.clip import Clip, file_stream
from centernetd.capture.open import open_stream
from centernetd.config import Config, MetricsConfig, SourceUri, StorageConfig, StreamConfig, load
from centernetd.errors import EngineError
from centernetd.flow import CAPTURE, INFERENCE, Lane, Meters, Reason, StreamState
from centernetd.inference.engines import choose_backend
from centernetd.run.loading import sizes_for
from centernetd.run.supervisor import Supervisor

_FROM, _TO = 0.2, 0.95  # part of the time measured, from when all streams run on
OPENING = 30
"""Seconds by which a video is longer than what is measured of it, for opening all streams."""
_BEFORE_SINKS = (CAPTURE, INFERENCE)
_ENGINE = ("copy_in", "execute", "copy_out")


@dataclass(frozen=True)
class Workload:
    """Video of each stream: frames of ``size`` [height, width], at ``fps`` for ``seconds``."""

    size: tuple[int, int] = (360, 640)
    fps: int = 10
    seconds: int = 30


class Latency(NamedTuple):
    """Percentiles of seconds from decoding to detections; ``early`` and ``late`` are by half."""

    median: float
    p99: float
    early_p99: float
    late_p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Summarize the latencies of a run, given in order of arrival."""
        half = len(seconds) // 2
        early, late = (_percentile(part, 99) for part in (seconds[:half], seconds[half:]))
        return cls(_percentile(seconds, 50), _percentile(seconds, 99), early, late)


@dataclass(frozen=True)
class Load:
    """Load that ``streams`` streams put on this machine in the warm part of a run.

    That is between the monotonic times ``measured``. ``dropped`` frames came too fast or were too
    old; ``by_stream`` has the frames inferred and dropped of each. ``bound`` is the limit for the
    99th percentile of the latency: the age at which frames are dropped, plus two batches. ``rss``
    is in bytes. ``batch`` is the mean size. ``busy`` is each part's utilization, from 0 to 1.
    ``decoders`` are the decoders in use.
    """

    streams: int
    measured: tuple[float, float]
    by_stream: Mapping[str, tuple[int, int]]
    asked_fps: float
    inferred_fps: float
    dropped: int
    latency: Latency
    bound: float
    cpu_per_frame: float
    rss: int
    batch: float
    busy: Mapping[str, float]
    decoders: Sequence[str]

    @property
    def fullest(self) -> str:
        """The part with the highest utilization: it becomes the bottleneck first."""
        return max(self.busy, key=lambda part: self.busy[part])


def bench_streams(
    config: Path, counts: Sequence[int], workload: Workload, report: Callable[[str], None]
) -> Iterator[Load]:
    """Run each number of streams in a separate process, and yield the results.

    Each stream is a live copy of the first file stream of ``config``: its video is scaled to the
    workload and read in real time, all copies in step. ``report`` receives progress messages.

    Raises
    ------
    ConfigError
        No stream is a file.
    CenternetdError
        A run fails; `EngineError` if its process dies.
    """
    stream = file_stream(load(config).streams.values())
    with tempfile.TemporaryDirectory(prefix="centernetd-bench-") as folder:
        clip = Path(folder) / "clip.mp4"
        report("making the video")
        make_clip(stream, replace(workload, seconds=workload.seconds + OPENING), clip)
        for count in counts:
            report(f"{count} streams")
            yield _run_apart(config, stream.name, clip, count, workload)


def make_clip(stream: StreamConfig, workload: Workload, path: Path) -> None:
    """Write the stream's frames, scaled and looped, to an H.264 file."""
    height, width = workload.size
    pictures = _endlessly(stream)
    with Clip(path, "libx264", width, height, Fraction(1, workload.fps)) as clip:
        for pts in range(workload.fps * workload.seconds):
            scaled = cv2.resize(next(pictures), (width, height), interpolation=cv2.INTER_AREA)
            clip.write(np.asarray(scaled, np.uint8), pts)


def _endlessly(stream: StreamConfig) -> Iterator[NDArray[np.uint8]]:
    while True:
        source = open_stream(stream)
        try:
            for picture in source:
                yield picture.image.pixels()
        finally:
            source.close()


def _run_apart(config: Path, stream: str, clip: Path, count: int, workload: Workload) -> Load:
    """Call `run` in a fresh process: memory left allocated by one run would distort the next."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, initializer=_begin) as pool:
        pid = pool.submit(os.getpid).result()
        try:
            return pool.submit(run, config, stream, clip, count, workload).result()
        except BrokenProcessPool:
            raise EngineError(f"the process that ran {count} streams died") from None
        except KeyboardInterrupt:
            os.kill(pid, signal.SIGTERM)
            raise


def _begin() -> None:
    logging.disable(logging.WARNING)  # the table shows what is lost
    # Ctrl-C reaches both processes, or only the parent, which sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run(config: Path, stream: str, clip: Path, count: int, workload: Workload) -> Load:
    """Measure the daemon on ``count`` copies of a stream of ``config`` that show ``clip``.

    The calling thread must be the main one. Raises as `measure`.
    """
    with tempfile.TemporaryDirectory(prefix="centernetd-bench-") as folder:
        multiplied = _multiplied(load(config), stream, clip, count, Path(folder))
        return measure(multiplied, workload, Recorder())


def measure(config: Config, workload: Workload, recorder: "Recorder") -> Load:
    """Run the daemon on the streams of ``config``, which show what ``workload`` describes.

    It is stopped after that time, counted from when all streams run and all sizes of batches are
    prepared. If one ends before, only what precedes that is measured. The calling thread must be
    the main one.

    Raises
    ------
    EngineError
        When the streams did not all run for long enough at the same time.
    """
    supervisor = Supervisor(config, recorder)
    samples: list[_Sample] = []  # while all streams run

    def take_sample() -> None:
        if supervisor.complete and _all_run(supervisor.lanes):
            samples.append(_sample(supervisor))
        if samples and time.monotonic() >= samples[0].at + _TO * workload.seconds:
            supervisor.stop()

    supervisor.run(take_sample)
    warm = [each for each in samples if each.at >= samples[0].at + _FROM * workload.seconds]
    if len(warm) < 2:
        raise EngineError(
            f"the {len(config.streams)} streams did not all run at the same time for long enough: "
            "measure for more seconds"
        )
    return _summary(config, workload, recorder, warm, supervisor.lanes)


def _all_run(lanes: Sequence[Lane]) -> bool:
    return all(
        lane.status.state is StreamState.RUNNING and lane.ledger.read().inferred for lane in lanes
    )


def _multiplied(config: Config, stream: str, clip: Path, count: int, folder: Path) -> Config:
    one = replace(config.streams[stream], source=SourceUri(str(clip)), policy="live")
    return replace(
        config,
        streams={f"s{n}": replace(one, name=f"s{n}") for n in range(count)},
        storage=StorageConfig(root=str(folder)),
        metrics=MetricsConfig(listen=None),
    )


class _Sample(NamedTuple):
    at: float
    cpu: float
    rss: int
    by_stream: Mapping[str, tuple[int, int]]  # frames inferred and dropped


class Recorder(Meters):
    """Stores all reports with their times; appending to a list needs no lock."""

    def __init__(self) -> None:
        self.latencies: list[tuple[float, float]] = []
        self.steps: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self.batches: list[int] = []

    def stage_duration(self, stage: str, seconds: float) -> None:
        """Record the duration of a step."""
        self.steps[stage].append((time.monotonic(), seconds))

    def frame_latency(self, stream: str, seconds: float) -> None:
        """Record the latency of a frame."""
        self.latencies.append((time.monotonic(), seconds))

    def batch_size(self, size: int) -> None:
        """Record the size of a batch."""
        self.batches.append(size)


def _sample(supervisor: Supervisor) -> _Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return _Sample(
        time.monotonic(),
        time.process_time(),
        pages * os.sysconf("SC_PAGE_SIZE"),
        {lane.name: _counts(lane) for lane in supervisor.lanes},
    )


def _summary(
    config: Config,
    workload: Workload,
    recorder: Recorder,
    warm: Sequence[_Sample],
    lanes: Sequence[Lane],
) -> Load:
    first, last = warm[0], warm[-1]
    wall = last.at - first.at
    cpu = last.cpu - first.cpu
    before = first.by_stream
    by_stream = {
        name: (inferred - before[name][0], dropped - before[name][1])
        for name, (inferred, dropped) in last.by_stream.items()
    }
    inferred, dropped = (sum(counts) for counts in zip(*by_stream.values(), strict=True))

    def while_warm(reports: Sequence[tuple[float, float]]) -> list[float]:
        return [seconds for at, seconds in reports if first.at <= at <= last.at]

    steps = {step: while_warm(reports) for step, reports in recorder.steps.items()}
    batch = sum(statistics.mean(steps[s]) for s in ("preprocess", *_ENGINE) if steps.get(s))
    backend = choose_backend(config.engine.backend)
    concurrency = 1 if backend.on_gpu else sizes_for(backend, 1).concurrency
    (max_age,) = {stream.max_frame_age for stream in config.streams.values()}
    return Load(
        streams=len(lanes),
        measured=(first.at, last.at),
        by_stream=by_stream,
        asked_fps=float(len(lanes) * workload.fps),
        inferred_fps=inferred / wall,
        dropped=dropped,
        latency=Latency.of(while_warm(recorder.latencies)),
        bound=max_age + 2 * batch,
        cpu_per_frame=cpu / max(inferred, 1),
        rss=max(sample.rss for sample in warm),
        batch=statistics.mean(recorder.batches),
        busy={
            "decoder": sum(steps["decode"]) / wall / len(lanes),
            "letterboxing": sum(steps["preprocess"]) / wall,
            "engine": sum(steps["execute"]) / wall / concurrency,
            "processor": cpu / wall / len(os.sched_getaffinity(0)),
        },
        decoders=sorted({lane.status.decoder for lane in lanes}),
    )


def _counts(lane: Lane) -> tuple[int, int]:
    """Return how many frames were inferred, and lost before the sinks although they are wanted."""
    book = lane.ledger.read()
    dropped = sum(
        count
        for (stage, reason), count in book.dropped.items()
        if stage in _BEFORE_SINKS and reason is not Reason.UNWANTED
    )
    return book.inferred, dropped


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0
