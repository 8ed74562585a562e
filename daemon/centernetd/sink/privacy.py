"""Covering detections in a stream's pictures: the one place from which pictures reach the sinks."""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.errors import EngineError
from centernetd.flow import HostImage, Reason, Result
from centernetd.sink.stage import Outcome, PictureSink, Released, Sink, SinkContext

log = logging.getLogger(__name__)

MAX_HELD_FRAMES = 64  # that may wait: one second at 60 frames/s
MAX_HELD_BYTES = 768 * 2**20  # for those: half a second of 4K at 60 frames/s, a quarter of 8K at 30

# Measured with the built-in face detector on its own boxes in the demo: of 1518 faces of at
# least 40 pixels it finds 2 again in the recording (mosaic, threshold 0.4, IoU 0.3). Before
# encoding, on every 12th frame: 0; 6 % with a margin of 0.3 and 5 cells, 46 % with 0.3 and 8
# cells, 5 % with 0.1 and 4; with ellipses 4 to 19 points more than with rectangles.
# Filled, in two clips of scripts/measure_blur.py (seeds 2 and 3, 720p25; 1595 faces, 23 of them
# uncovered at any margin): less than 95 % covered were 437 without margin, 68 with 0.1, 29 with
# 0.2, 26 with 0.35.
MARGIN = 0.35  # of the box, on every side
MIN_MARGIN = 4  # pixels
CELLS = 4  # colours kept along each side of a box
MIN_CELL = 4  # pixels along each side
GREY = 128

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


class _Seen(NamedTuple):
    """The boxes of one frame, with its time (seconds) and size (height, width)."""

    time: float
    size: tuple[int, ...]
    xyxy: Boxes


class PrivateSink(Sink):
    """Gives a picture sink the frames of one stream, each once its privacy has been applied.

    Those that can't be made are withheld, and counted by the reason in ``StreamStatus.withheld``.
    """

    def __init__(self, context: SinkContext, sink: PictureSink) -> None:
        self._stream = context.stream.name
        self._privacy = Privacy(context)
        self._sink = sink
        self._hurried = context.hurried
        self._meters = context.meters
        self._withheld = context.status.withheld
        if context.stream.privacy.blur:
            self._withheld.update({Reason.FAILED.value: 0, Reason.SHUTDOWN.value: 0})

    def wants(self, result: Result) -> bool:
        """Return True: what is found in a frame may have to be covered in others too."""
        return True

    def write(self, result: Result) -> Outcome:
        """Pass on the frames that are due after this one; see `stage.Sink`."""
        self._privacy.add(result)
        return self._release()

    def close(self) -> Outcome:
        """Pass on the remaining frames, unless hurried, and finish; see `stage.Sink`."""
        return _sum(self._release(last=True), self._sink.close())

    def _release(self, *, last: bool = False) -> Outcome:
        settled = Outcome()
        try:
            while self._is_due(last=last):
                picture = self._take()
                outcome = Outcome(failed=1) if picture is None else self._sink.write(picture)
                settled = _sum(settled, outcome)
        except Exception:
            self._privacy.forget()
            raise
        return settled

    def _is_due(self, *, last: bool) -> bool:
        if last and self._hurried():
            self._withheld[Reason.SHUTDOWN.value] += self._privacy.forget()
        return self._privacy.due(last=last)

    def _take(self) -> Released | None:
        """Return the oldest frame, or None if its picture can't be made."""
        started = time.perf_counter()
        try:
            picture = self._privacy.take()
        except Exception as error:
            self._withheld[Reason.FAILED.value] += 1
            message = "a frame is withheld because it could not be covered: %s"
            log.error(message, error, extra={"stream": self._stream})  # noqa: TRY400
            return None
        self._meters.stage_duration("privacy", time.perf_counter() - started)
        return picture


def _sum(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(*(sum(counts) for counts in zip(one, other, strict=True)))


class Privacy:
    """Holds back the frames of one stream until everything to cover in them is known.

    In each frame, the boxes of all frames up to ``blur.hold`` before and after it are covered,
    detected and presumed ones, rounded to milliseconds of stream time. Without ``blur``, pictures
    pass unchanged.
    """

    def __init__(self, context: SinkContext) -> None:
        blur = context.stream.privacy.blur
        self._stream = context.stream.name
        self._style = STYLES[blur.style] if blur else None
        self._hold = round(1000 * blur.hold) if blur else 0  # milliseconds
        self._covers = context.covers
        self._waiting: deque[Result] = deque()
        self._seen: deque[_Seen] = deque()

    def add(self, result: Result) -> None:
        """Take the next frame; its picture is covered in place by `take`."""
        frame, xyxy = result.frame, self._covers(result.detections).xyxy
        if result.presumed is not None:
            xyxy = np.concatenate((xyxy, result.presumed))
        self._waiting.append(_in_host_memory(result) if self._hold else result)
        self._seen.append(_Seen(frame.time, frame.image.size, xyxy))

    def due(self, *, last: bool = False) -> bool:
        """Return whether `take` may be called: the oldest frame waits for no other, or ``last``."""
        if not self._waiting or last:
            return bool(self._waiting)
        oldest, newest = self._waiting[0].frame, self._waiting[-1].frame
        if _milliseconds(oldest.time, newest.time) >= self._hold:
            return True
        size = sum(result.frame.image.nbytes for result in self._waiting)
        full = len(self._waiting) > MAX_HELD_FRAMES or size > MAX_HELD_BYTES
        if full:
            message = "privacy.blur.hold is cut short: %d frames wait for it, and no more may"
            log.warning(message, len(self._waiting), extra={"stream": self._stream})
        return full

    def take(self) -> Released:
        """Return the oldest frame, covered and without keypoints; on failure it is dropped.

        Raises
        ------
        ValueError
            When a box is not finite. After any exception the picture must not be shown.
        """
        result = self._waiting.popleft()
        time, image = result.frame.time, result.frame.image.pixels()
        while _milliseconds(self._seen[0].time, time) > self._hold:
            self._seen.popleft()
        detections = result.detections
        if self._style is not None:
            near = (seen for seen in self._seen if _milliseconds(time, seen.time) <= self._hold)
            boxes = np.concatenate([_scaled(seen, image.shape[:2]) for seen in near])
            cover(image, boxes, self._style)
            detections = replace(detections, keypoints=None)
        frame = replace(result.frame, image=HostImage(image))
        return Released(frame, detections, result.events, result.scene)

    def forget(self) -> int:
        """Drop the waiting frames and return their number; their boxes remain in effect."""
        count = len(self._waiting)
        self._waiting.clear()
        return count


def cover(image: Pixels, xyxy: Boxes, style: Callable[[Pixels], None]) -> None:
    """Cover boxes [N, 4] and a margin around each in ``image`` (BGR, in place).

    Raises
    ------
    ValueError
        When a box is not finite; the picture must not be shown then.
    """
    if not np.isfinite(xyxy).all():
        raise ValueError("a box that is not finite can't be covered")
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in _enlarged(xyxy, width, height).tolist():
        if x1 < x2 and y1 < y2:
            style(image[y1:y2, x1:x2])


def fill(region: Pixels) -> None:
    """Replace a region by uniform grey."""
    region[:] = GREY


def mosaic(region: Pixels) -> None:
    """Reduce a region of any size to at most 4 by 4 mean colours, interpolated."""
    height, width = region.shape[:2]
    across, down = (max(1, min(CELLS, side // MIN_CELL)) for side in (width, height))
    colours = cv2.resize(region, (across, down), interpolation=cv2.INTER_AREA)
    region[:] = cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR)


STYLES = {"fill": fill, "mosaic": mosaic}


def _in_host_memory(result: Result) -> Result:
    """Return ``result`` without its hold on the GPU's memory, of which there is less."""
    with suppress(EngineError):  # which `Privacy.take` meets again
        image = HostImage(result.frame.image.pixels())
        return replace(result, frame=replace(result.frame, image=image))
    return result


def _milliseconds(earlier: float, later: float) -> int:
    return round(1000 * (later - earlier))


def _scaled(seen: _Seen, size: tuple[int, ...]) -> Boxes:
    """Return the boxes scaled to a picture of ``size``: a camera may change it at any time."""
    if seen.size == size:
        return seen.xyxy
    return seen.xyxy * np.tile(np.divide(size, seen.size)[::-1], 2).astype(np.float32)


def _enlarged(xyxy: Boxes, width: int, height: int) -> NDArray[np.int64]:
    low, high = xyxy[:, :2].astype(np.float64), xyxy[:, 2:].astype(np.float64)
    margin = np.maximum(MARGIN * (high - low), MIN_MARGIN)
    size = [width, height]
    corners = (np.clip(np.floor(low - margin), 0, size), np.clip(np.ceil(high + margin), 0, size))
    return np.unique(np.hstack(corners).astype(np.int64), axis=0)
