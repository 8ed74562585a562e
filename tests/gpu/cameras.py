"""Cameras on this machine: clips that differ, over RTSP, from processes of their own."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.footage import encoded, video_of
from tests.rtp import Video
from tests.rtsp import RtspServer

CLIPS, PROCESSES = 25, 5
LATE = 15  # milliseconds by which a picture may be sent late
LOOP = 8  # seconds of each clip
BIT_RATES = (4_000_000, 8_000_000)  # of the first and the last clip, in 1080p30
KEY_INTERVALS = (1, 2, 3, 4)  # seconds
_FULL_RATE = 1080 * 1920 * 30  # pixels per second
_NOISE = 6.0  # levels: an encoder has to keep its bit rate


@contextmanager
def cameras(
    demo: Path, count: int, size: tuple[int, int], fps: int, clips: int = CLIPS
) -> Iterator[list[str]]:
    """Serve ``clips`` clips of pictures of ``demo``; yield the addresses of ``count`` cameras.

    ``size`` is [height, width]. Each clip has its own bit rate, key frames and part of the demo.
    """
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        served: list[tuple[Connection, Sequence[int]]] = []
        for first in range(min(PROCESSES, clips)):
            mine, theirs = spawn.Pipe()
            stack.enter_context(mine)
            numbers = range(first, clips, PROCESSES)
            process = spawn.Process(
                target=_serve, args=(theirs, demo, numbers, clips, size, fps), daemon=True
            )
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(mine.send, None)
            served.append((mine, numbers))
        urls = {
            number: url
            for connection, numbers in served
            for number, url in zip(numbers, connection.recv(), strict=True)
        }
        yield [urls[number % clips] for number in range(count)]


def _serve(
    parent: Connection,
    demo: Path,
    numbers: Sequence[int],
    clips: int,
    size: tuple[int, int],
    fps: int,
) -> None:
    """Serve the clips of these numbers until ``parent`` sends something or has ended."""
    with ExitStack() as stack:
        servers = [RtspServer(_clip(demo, number, clips, size, fps)) for number in numbers]
        for server in servers:
            stack.callback(server.close)
        parent.send([server.url(f"late/{LATE}") for server in servers])
        parent.poll(None)


def _clip(demo: Path, number: int, clips: int, size: tuple[int, int], fps: int) -> Video:
    height, width = size
    low, high = BIT_RATES
    share = number / max(1, clips - 1)
    bit_rate = (low + share * (high - low)) * height * width * fps / _FULL_RATE
    packets = encoded(
        islice(_pictures(demo, number, size), LOOP * fps),
        fps,
        key_interval=KEY_INTERVALS[number % len(KEY_INTERVALS)] * fps,
        keeps={"bit_rate": int(bit_rate)},
        parameters="sliced-threads=0:threads=1",  # one slice per picture, as most cameras
    )
    return video_of(packets, fps)


def _pictures(demo: Path, number: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the demo's pictures from a place of the clip's own on, with noise."""
    height, width = size
    random = np.random.default_rng(number)
    noise = cycle([random.normal(0, _NOISE, (height, width, 3)).astype(np.int16) for _ in range(3)])
    with av.open(str(demo)) as container:
        frames = [
            frame.to_ndarray(format="bgr24", width=width, height=height)
            for frame in islice(container.decode(video=0), number * 5, number * 5 + 60)
        ]
    for frame, added in zip(cycle(frames), noise, strict=False):
        yield np.asarray(cv2.add(frame, added, dtype=cv2.CV_8U), np.uint8)
