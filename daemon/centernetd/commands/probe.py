"""Short probes of what a configuration names: whether its sources open, and its disk."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from centernetd.capture.open import open_stream
from centernetd.capture.source import Source
from centernetd.config import StreamConfig
from centernetd.errors import SourceError

_CONCURRENT = 8  # sources; a dead one takes its whole stall_timeout
_PICTURES = 25
_SECONDS = 2.0  # of video at most, for sources with a low frame rate


@dataclass(frozen=True)
class SourceProbe:
    """Result of probing one stream's source.

    If the probe failed, ``problem`` is the reason; if it was skipped, ``skipped`` is. ``fps`` is
    None if fewer than two frames came.
    """

    stream: str
    problem: str | None = None
    skipped: str | None = None
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float | None = None


def probe_sources(streams: Iterable[StreamConfig]) -> list[SourceProbe]:
    """Open the source of each stream and decode a few frames, several streams concurrently."""
    pool = ThreadPoolExecutor(_CONCURRENT, "probe")
    try:
        return list(pool.map(_probe, streams))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # don't wait for sources if interrupted


def _probe(stream: StreamConfig) -> SourceProbe:
    if stream.source.is_file and Path(stream.source.reveal()).is_fifo():
        return SourceProbe(stream.name, skipped="a named pipe: probing it would consume pictures")
    try:
        source = open_stream(stream)
        try:
            return _describe(stream.name, source)
        finally:
            source.close()
    except SourceError as error:
        return SourceProbe(stream.name, problem=str(error))


def _describe(stream: str, source: Source) -> SourceProbe:
    stamps: list[float] = []  # some sources' first frames have none, e.g. GStreamer's
    arrivals: list[float] = []
    size = (0, 0)
    for picture in source:
        size = picture.image.size
        arrivals.append(time.monotonic())
        if picture.pts is not None:
            stamps.append(float(picture.pts * picture.time_base))
        if len(arrivals) == _PICTURES or max(map(_span, (stamps, arrivals))) > _SECONDS:
            break
    if not arrivals:
        raise SourceError("contains no picture that can be decoded")
    height, width = size
    rate = _rate(stamps) or _rate(arrivals)
    return SourceProbe(stream, codec=source.info.codec, width=width, height=height, fps=rate)


def _span(times: Sequence[float]) -> float:
    return times[-1] - times[0] if times else 0.0


def _rate(times: Sequence[float]) -> float | None:
    span = _span(times)
    return (len(times) - 1) / span if span > 0 else None


@dataclass(frozen=True)
class Disk:
    """A folder's disk: ``free`` bytes, and whether the folder is writable or can be created."""

    folder: Path
    free: int
    writable: bool


def disk_of(folder: Path) -> Disk:
    """Inspect ``folder`` without creating it: if missing, use its nearest existing parent."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=True)
    on_disk = there if there.exists() else there.parent  # a symbolic link may lead nowhere
    return Disk(folder, shutil.disk_usage(on_disk).free, writable)
