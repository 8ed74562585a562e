"""Frames, results and lanes for the tests of the sinks, and a way to read recordings back."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from centernetd.config import BlurConfig, PrivacyConfig, StreamConfig
from centernetd.config.secret import SourceUri
from centernetd.flow import (
    Arrivals,
    Backpressure,
    DetectionClass,
    Detections,
    Frame,
    HostImage,
    Lane,
    Packet,
    Result,
    StageName,
)
from centernetd.sink.encoder import Encoder
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.privacy import PrivateSink
from centernetd.sink.registry import RECORD, SINKS
from centernetd.sink.segments import FROM_CAMERA
from centernetd.sink.stage import Sink, SinkContext
from centernetd.sink.storage import Storage
from tests.fakes import MODEL

MILLISECOND = Fraction(1, 1000)
NOON = 1_700_000_000.0 // 3600 * 3600  # some full hour


def picture(height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, which no encoder makes small."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def detections(*boxes: Sequence[float], score: float = 0.9) -> Detections:
    return Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=np.full(len(boxes), score, np.float32),
        class_id=np.zeros(len(boxes), np.int64),
    )


def result(
    number: int = 0,
    image: NDArray[np.uint8] | None = None,
    found: Detections | None = None,
    pts: int | None = None,
    time_base: Fraction = MILLISECOND,
    wall_time: float | None = None,
) -> Result:
    """Frame `number` of a stream of 25 frames per second."""
    frame = Frame(
        frame_id=number,
        image=HostImage(picture(seed=number) if image is None else image),
        pts=number * 40 if pts is None else pts,
        time_base=time_base,
        captured_at=0.0,
        wall_time=NOON + number * 0.04 if wall_time is None else wall_time,
    )
    return Result(frame, detections() if found is None else found)


def sink_context(
    root: Path, *, from_file: bool = False, blur: BlurConfig | None = None, **stream: Any
) -> SinkContext:
    """What the sinks of "gate" are built from; `stream` are fields of its configuration."""
    source = SourceUri("/gate.mp4" if from_file else "rtsp://192.0.2.1/")
    config = StreamConfig("gate", source, privacy=PrivacyConfig(blur=blur), **stream)
    return SinkContext(config, Storage(root), [DetectionClass("faces", 0, "face")], node="box-7")


def recorder_of(context: SinkContext) -> Sink:
    """The recorder as a stream has it: behind what makes its pictures private."""
    recorder = SINKS[RECORD].make(context)
    assert isinstance(recorder, PrivateSink)
    return recorder


def open_lane(*sinks: StageName, depth: int = 1000) -> Lane:
    arrivals = Arrivals()
    return Lane(
        "gate", Backpressure.BLOCK, depth=depth, inbox=1, arrivals={MODEL: arrivals}, sinks=sinks
    )


def deliver(lane: Lane, results: Sequence[Result]) -> None:
    """Bring results through the lane to its outlets."""
    for item in results:
        assert lane.offer(item.frame)
        assert lane.take() is item.frame
        lane.deliver(item)


def send(lane: Lane, results: Sequence[Result]) -> None:
    """Bring results through the lane to its outlets, and close it."""
    deliver(lane, results)
    lane.close()


def decode(video: Path | bytes) -> list[av.VideoFrame]:
    """Decode what can be decoded: a video that was cut off raises at its end."""
    frames: list[av.VideoFrame] = []
    source = BytesIO(video) if isinstance(video, bytes) else str(video)
    with av.open(source, "r") as container, suppress(av.FFmpegError):
        frames.extend(container.decode(video=0))
    return frames


def times(video: Path) -> list[Fraction]:
    """The presentation time of each frame, in seconds."""
    return [Fraction(frame.pts or 0) * Fraction(frame.time_base or 0) for frame in decode(video)]


def coded(count: int, step: int = 40, start: int = 0) -> Iterator[Packet]:
    """Yield packets of noise, `step` ms apart, with a key frame each second."""
    encoder = Encoder("libx264", 64, 48, MILLISECOND)
    for number in range(count):
        wall_time = NOON + (start + number * step) / 1000
        yield from encoder.encode(picture(seed=number), start + number * step, wall_time)


def tear(path: Path) -> Path:
    """Leave a recording for ``path`` as a kill does; returns what it is called then."""
    path.parent.mkdir(parents=True)
    packets = list(coded(40))
    file = FragmentedMp4(path, packets[0], FROM_CAMERA)
    for packet in packets:
        file.write(packet)
    content = file.part.read_bytes()
    file.close()
    path.unlink()
    file.part.write_bytes(content)
    return file.part


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes: a disk that is really full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
