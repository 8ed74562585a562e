"""One run of the whole daemon over many streams, recording its latencies and costs."""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from centernetd.config import Config, MetricsConfig, SourceUri, StorageConfig, load
from centernetd.flow import Meters, Reason, StageName
from centernetd.inference.engines import choose_backend
from centernetd.run.loading import sizes_for
from centernetd.run.supervisor import Supervisor

_FROM, _TO = 0.2, 0.95  # part of the video measured: after warm-up, before any stream ends
_BEFORE_SINKS = (StageName.CAPTURE, StageName.INFERENCE)
_ENGINE = ("copy_in", "execute", "copy_out")


@dataclass(frozen=True)
class Plan:
    """Parameters of a run: ``count`` copies of a stream of ``config``, all reading ``clip`` live.

    The file ``running`` is created once they are running.
    """

    config: Path
    stream: str
    clip: Path
    running: Path
    count: int
    fps: int
    seconds: int


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

    ``dropped`` frames came too fast or were too old. ``bound`` is the limit for the 99th percentile
    of the latency: the age at which frames are dropped, plus two batches. ``rss`` is in bytes.
    ``busy`` is each part's utilization, from 0 to 1. ``decoders`` are the decoders in use.
    """

    streams: int
    asked_fps: float
    captured_fps: float
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
    def in_real_time(self) -> bool:
        """Whether every frame was decoded and processed in time."""
        return self.dropped == 0 and self.inferred_fps >= 0.99 * self.asked_fps

    @property
    def fullest(self) -> str:
        """The part with the highest utilization: it becomes the bottleneck first."""
        return max(self.busy, key=lambda part: self.busy[part])

    def document(self) -> dict[str, object]:
        """Return the load as JSON-serializable data."""
        return asdict(self) | {"in_real_time": self.in_real_time, "fullest": self.fullest}


class _Sample(NamedTuple):
    at: float
    cpu: float
    rss: int
    captured: int
    inferred: int


class _Recorder(Meters):
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


def run(plan: Plan) -> Load:
    """Run the daemon to the end of the clip in this thread, which must be the main one."""
    with tempfile.TemporaryDirectory(prefix="centernetd-bench-") as folder:
        config = _multiplied(plan, Path(folder))
        recorder = _Recorder()
        supervisor = Supervisor(config, recorder)
        samples: list[_Sample] = []

        def on_tick() -> None:
            plan.running.touch()
            samples.append(_sample(supervisor))

        supervisor.run(on_tick)
    begin, end = (supervisor.started_at + plan.seconds * share for share in (_FROM, _TO))
    warm = [sample for sample in samples if begin <= sample.at <= end]
    return _judge(plan, config, recorder, warm, supervisor)


def _multiplied(plan: Plan, folder: Path) -> Config:
    config = load(plan.config)
    one = replace(config.streams[plan.stream], source=SourceUri(str(plan.clip)), policy="live")
    return replace(
        config,
        streams={f"s{n}": replace(one, name=f"s{n}") for n in range(plan.count)},
        storage=StorageConfig(root=str(folder)),
        metrics=MetricsConfig(listen=None),
    )


def _sample(supervisor: Supervisor) -> _Sample:
    books = [lane.ledger.read() for lane in supervisor.lanes]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return _Sample(
        time.monotonic(),
        time.process_time(),
        pages * os.sysconf("SC_PAGE_SIZE"),
        sum(book.captured for book in books),
        sum(book.inferred for book in books),
    )


def _judge(
    plan: Plan,
    config: Config,
    recorder: _Recorder,
    warm: Sequence[_Sample],
    supervisor: Supervisor,
) -> Load:
    first, last = warm[0], warm[-1]
    wall = last.at - first.at
    cpu, inferred = last.cpu - first.cpu, last.inferred - first.inferred

    def while_warm(reports: Sequence[tuple[float, float]]) -> list[float]:
        return [seconds for at, seconds in reports if first.at <= at <= last.at]

    steps = {step: while_warm(reports) for step, reports in recorder.steps.items()}
    batch = sum(statistics.mean(steps[s]) for s in ("preprocess", *_ENGINE) if steps.get(s))
    choice = choose_backend(config.engine.backend)
    at_once = 1 if choice.on_gpu else sizes_for(choice.backend, 1).concurrency
    books = [lane.ledger.read() for lane in supervisor.lanes]
    (max_age,) = {stream.max_frame_age for stream in config.streams.values()}
    return Load(
        streams=plan.count,
        asked_fps=float(plan.count * plan.fps),
        captured_fps=(last.captured - first.captured) / wall,
        inferred_fps=inferred / wall,
        dropped=sum(
            count
            for book in books
            for (stage, reason), count in book.dropped.items()
            if stage in _BEFORE_SINKS and reason is not Reason.UNWANTED
        ),
        latency=Latency.of(while_warm(recorder.latencies)),
        bound=max_age + 2 * batch,
        cpu_per_frame=cpu / max(inferred, 1),
        rss=max(sample.rss for sample in warm),
        batch=statistics.mean(recorder.batches),
        busy={
            "decoder": sum(steps["decode"]) / wall / plan.count,
            "letterboxing": sum(steps["preprocess"]) / wall,
            "engine": sum(steps["execute"]) / wall / at_once,
            "processor": cpu / wall / len(os.sched_getaffinity(0)),
        },
        decoders=sorted({lane.status.decoder for lane in supervisor.lanes}),
    )


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0
