"""Measure the cost of recording and retention: the tables of docs/benchmarks.md.

    python -m scripts.measure_storage [FOLDER]

FOLDER must be on the disk to be measured; its content is removed.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.capture.open import open_stream
from centernetd.capture.packets import PacketTimeline
from centernetd.capture.source import Picture
from centernetd.config import RecordConfig, StorageConfig, StreamConfig, expand
from centernetd.config.secret import SourceUri
from centernetd.flow import Detections, Frame, HostImage, Result, StreamStatus
from centernetd.sink import file as file_module
from centernetd.sink.encoder import Encoder
from centernetd.sink.outputs import outputs_of
from centernetd.sink.privacy import PrivateSink
from centernetd.sink.recorder import PacketRecorder, Recorder
from centernetd.sink.retention import Retention
from centernetd.sink.segments import FROM_CAMERA
from centernetd.sink.stage import SinkContext
from centernetd.sink.storage import Storage

DEMO = Path(__file__).resolve().parent.parent / "assets" / "demo.mp4"
STREAMS, RATE, SECONDS, SIZE = 16, 10, 30, (640, 360)
FILES, TEMPLATE = 100_000, "{stream}/%Y-%m-%d/%H-%M-%S.mp4"
NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
ONE_FILE = RecordConfig(path="{stream}.mp4", segment=None)
COPY = ONE_FILE.model_copy(update={"video": "source"})


def main(folder: Path) -> None:
    """Print all figures."""
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} before")
    for measured in (copying, sixteen_streams, retention):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            print(f"\n{measured.__name__}:")
            for line in measured(Path(place)):
                print(f"  {line}")


def copying(folder: Path) -> Iterator[str]:
    """Measure both ways of recording the demo, and only decoding it, in turns."""
    ways: Sequence[tuple[str, Callable[[Path], None]]] = (
        ("decode only", lambda _: _decode(None)),
        ("annotated", lambda place: _decode(_annotating(place))),
        ("source", lambda place: _decode(_copying(place))),
    )
    least = dict.fromkeys((name for name, _ in ways), float("inf"))
    for turn in range(3):
        for name, way in ways:
            started = time.process_time()
            way(folder / f"{name}{turn}")
            least[name] = min(least[name], time.process_time() - started)
    alone = least["decode only"]
    for name, seconds in least.items():
        more = seconds - alone
        yield f"{name}: {seconds * 4:.2f} ms CPU a frame, {more * 4:.2f} ms of it for recording"


def _demo(record: RecordConfig) -> StreamConfig:
    return StreamConfig("demo", SourceUri(str(DEMO)), decode="cpu", record=record)


def _decode(record: Callable[[Picture, int], None] | None) -> None:
    source = open_stream(_demo(ONE_FILE if record is None else COPY))
    for number, picture in enumerate(source):
        if record is not None:
            record(picture, number)
    source.close()


def _annotating(folder: Path) -> Callable[[Picture, int], None]:
    context = _context(folder)
    recorder = PrivateSink(context, Recorder(context))
    return lambda picture, number: _discard(recorder.write(_result(picture.image.pixels(), number)))


def _copying(folder: Path) -> Callable[[Picture, int], None]:
    recorder = PacketRecorder(_context(folder))
    moved = PacketTimeline()

    def record(picture: Picture, number: int) -> None:
        placed = moved.place(picture, number * 3600, Fraction(1, 90_000), time.time())
        recorder.write_packets(placed, [])

    return record


def _context(folder: Path, name: str = "x") -> SinkContext:
    stream = StreamConfig(name, SourceUri("rtsp://192.0.2.1/"), record=ONE_FILE)
    return SinkContext(stream, Storage(folder))


def _discard(_: object) -> None:
    """Ignore a result."""


def _result(image: NDArray[np.uint8], number: int, wall_time: float = 0.0) -> Result:
    return Result(
        Frame(number, HostImage(image), number, Fraction(1, RATE), 0.0, wall_time), NOTHING
    )


@dataclass
class Bytes:
    """Bytes out of the encoders, and into files."""

    encoded: int = 0
    synced: int = 0
    sync_seconds: float = 0.0


def sixteen_streams(folder: Path) -> Iterator[str]:
    """Record 16 live streams of 640x360, with and then without fdatasync."""
    images = [_scaled(picture.image.pixels()) for picture in open_stream(_demo(ONE_FILE))]
    for name, interval in (("fdatasync each second", 1.0), ("never, but at the end", 1e9)):
        place = folder / str(int(interval))
        place.mkdir()
        with _counted() as count:
            file_module.OutputFile.sync.__defaults__ = (interval,)
            before, io_before = time.process_time(), _written()
            statuses = _record_all(place, images)
            seconds, into_kernel = time.process_time() - before, _written() - io_before
        on_file = sum(path.stat().st_size for path in place.glob("*.mp4"))
        yield (
            f"{name}: {100 * seconds / SECONDS:.0f} % of a core, "
            f"{on_file / SECONDS / 1e3:.0f} kB/s; {count.synced} calls of fdatasync took "
            f"{1e3 * count.sync_seconds / max(1, count.synced):.1f} ms each"
        )
        yield (
            f"    bytes encoded {count.encoded}, in files {on_file} "
            f"(+{100 * (on_file / count.encoded - 1):.1f} %), handed to the kernel {into_kernel}, "
            f"counted {sum(status.bytes_written for status in statuses)}"
        )


def _scaled(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def _record_all(folder: Path, images: Sequence[NDArray[np.uint8]]) -> list[StreamStatus]:
    statuses = [StreamStatus() for _ in range(STREAMS)]

    def record(number: int) -> None:
        context = replace(_context(folder, f"s{number}"), status=statuses[number])
        recorder = PrivateSink(context, Recorder(context))
        started, pause = time.monotonic(), threading.Event()
        for count in range(RATE * SECONDS):
            pause.wait(max(0.0, started + count / RATE - time.monotonic()))
            recorder.write(_result(images[count % len(images)], count, time.time()))
        recorder.close()

    threads = [threading.Thread(target=record, args=(number,)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@contextmanager
def _counted() -> Iterator[Bytes]:
    count, lock = Bytes(), threading.Lock()
    encode, sync = Encoder.encode, os.fdatasync

    def encoding(*args: object, **kwargs: object) -> list[object]:
        packets = encode(*args, **kwargs)  # type: ignore[arg-type]
        with lock:
            count.encoded += sum(len(packet.data) for packet in packets)
        return list(packets)

    def syncing(descriptor: int) -> None:
        started = time.monotonic()
        sync(descriptor)
        with lock:
            count.synced += 1
            count.sync_seconds += time.monotonic() - started

    Encoder.encode, os.fdatasync = encoding, syncing  # type: ignore[method-assign,assignment]
    try:
        yield count
    finally:
        Encoder.encode, os.fdatasync = encode, sync  # type: ignore[method-assign]


def _written() -> int:
    """Return the bytes that this process has passed to the kernel."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def retention(folder: Path) -> Iterator[str]:
    """Retain 100,000 files for a minute in which each of 16 streams completes a file."""
    head = b"\0\0\0\x20ftyp" + FROM_CAMERA.encode()
    made_at = time.time() - 7 * 86_400
    for number in range(FILES):
        at = datetime.fromtimestamp(made_at + number // STREAMS * 60, timezone.utc)
        path = folder / expand(TEMPLATE, f"s{number % STREAMS}", at)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head)
        os.utime(path, (at.timestamp(), at.timestamp()))
    storage = Storage(folder)
    stream = StreamConfig("s0", SourceUri("rtsp://192.0.2.1/"))
    limits = StorageConfig().model_copy(update={"min_free": 0, "max_bytes": FILES * len(head)})
    kept = Retention(storage, limits, outputs_of([stream], limits.keep_for))
    started = time.process_time()
    kept.scan()
    yield f"the index of {len(kept._index)} files is made in {time.process_time() - started:.2f} s"
    cost, there = 0.0, len(kept._index)
    for second in range(60):
        if second < STREAMS:
            path = storage.place(TEMPLATE, f"s{second}", time.time())
            path.write_bytes(head)
            storage.end(path, path)
        started = time.process_time()
        kept.enforce(time.time())
        cost += time.process_time() - started
    deleted = there + STREAMS - len(kept._index)
    yield f"a minute costs {1e3 * cost:.1f} ms of CPU, {deleted} files deleted in it"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.gettempdir()))
