"""Many concurrent live streams: latency, cost per stream, and which resource runs out first."""

import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.bench.clip import Clip
from centernetd.bench.load import Load, Plan, run
from centernetd.capture.open import open_stream
from centernetd.config import StreamConfig, load
from centernetd.errors import ConfigError, EngineError


@dataclass(frozen=True)
class Workload:
    """Video of each stream: frames of ``size`` [height, width], at ``fps`` for ``seconds``."""

    size: tuple[int, int] = (360, 640)
    fps: int = 10
    seconds: int = 30


def bench_streams(
    config: Path,
    counts: Sequence[int],
    workload: Workload,
    tell: Callable[[str], None],
    prepare: Callable[[], None] | None = None,
    watch: Callable[[int, int], None] = lambda _count, _pid: None,
) -> Iterator[Load]:
    """Run each number of streams in a separate process, and yield the results.

    Each stream is a live copy of the first file stream of ``config``: its video is scaled to the
    workload and read in real time, all copies in step. ``prepare`` is called first in each
    process; ``watch`` is called with the number of streams and the process id once they are
    running.

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
        tell("making the video")
        make_clip(stream, workload, clip)
        for count in counts:
            tell(f"{count} streams")
            sign = clip.with_name(f"running-{count}")
            plan = Plan(config, stream.name, clip, sign, count, workload.fps, workload.seconds)
            # a fresh process: memory left allocated by one run would distort the next
            spawning = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(
                1, mp_context=spawning, initializer=_begin, initargs=(prepare,)
            ) as pool:
                pid = pool.submit(os.getpid).result()
                running = pool.submit(run, plan)
                try:
                    while not sign.exists() and not wait([running], 0.1).done:
                        pass
                    watch(count, pid)
                    done = running.result()
                except BrokenProcessPool:
                    raise EngineError(f"the process that ran {count} streams died") from None
                except KeyboardInterrupt:
                    os.kill(pid, signal.SIGTERM)
                    raise
                yield done


def _begin(prepare: Callable[[], None] | None) -> None:
    logging.disable(logging.WARNING)  # the table shows what is lost
    # Ctrl-C reaches both processes, or only the parent, which sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if prepare is not None:
        prepare()


def file_stream(streams: Iterable[StreamConfig]) -> StreamConfig:
    """Return the first stream that is a file.

    Raises
    ------
    ConfigError
        There is none.
    """
    for stream in streams:
        if stream.source.is_file:
            return stream
    raise ConfigError("bench needs a stream whose source is a file; the configuration has none")


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
                yield picture.image
        finally:
            source.close()
