"""How much memory the streams of a configuration may use."""

from collections.abc import Mapping, Sequence

from centernetd.commands.look import Look
from centernetd.config import StreamConfig
from centernetd.flow.lane import MOST_WAITING
from centernetd.run.pipeline import LIVE_DEPTH, LOSSLESS_BYTES
from centernetd.sink.recording import LARGEST_PREROLL

# Bytes per pixel, measured with H.264 of 8192x4320 and 4096x2160 on the CPU.
_READ = 16  # the decoder's frames (1.5 each), and images (3 each) in capture and inference
_ENCODE = 28  # libx264 with our settings, and the images that are annotated and converted
_PICTURE = 3  # an image queued for a sink


def most_memory(
    streams: Mapping[str, StreamConfig], looks: Sequence[Look], lossless_depth: int
) -> int:
    """Return the bytes that the streams use when all their queues are full.

    Excludes the daemon itself, its model, and streams that delivered no frame.
    """
    seen = [(streams[look.stream], look.width * look.height) for look in looks]
    live = sum(_waiting_live(stream, pixels) for stream, pixels in seen)
    lossless = sum(pixels for stream, pixels in seen if stream.policy == "lossless")
    waiting = live + min(LOSSLESS_BYTES, lossless_depth * _PICTURE * lossless)
    return waiting + sum(_of(stream, pixels) for stream, pixels in seen)


def _waiting_live(stream: StreamConfig, pixels: int) -> int:
    if stream.policy == "lossless" or stream.record.when == stream.events.when == "never":
        return 0
    return min(LIVE_DEPTH * _PICTURE * pixels, MOST_WAITING)


def _of(stream: StreamConfig, pixels: int) -> int:
    encoded = stream.record.when != "never" and not stream.copies
    needed = pixels * (_READ + _ENCODE * encoded)
    return needed + LARGEST_PREROLL * (stream.record.when == "detection" and pixels > 0)
