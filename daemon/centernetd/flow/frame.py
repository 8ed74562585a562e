"""The things that move: a frame, what was detected in it, and the two together."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture of one stream.

    ``image`` is uint8 [height, width, 3] in BGR order; its rows may be padded. ``pts`` counts
    ``time_base`` seconds on the stream's own strictly increasing timeline. ``captured_at`` is
    monotonic, ``wall_time`` Unix time, both in seconds and taken when the frame was decoded.
    ``packet`` is the number of the last source packet that was passed on before the frame, 0
    where packets aren't passed on. ``aspect`` is the width of a pixel over its height.
    """

    frame_id: int
    image: NDArray[np.uint8]
    pts: int
    time_base: Fraction
    captured_at: float
    wall_time: float
    packet: int = 0
    aspect: Fraction = Fraction(1)

    @property
    def time(self) -> float:
        """Seconds on the stream's timeline."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one frame, best first, in source pixels.

    ``xyxy`` is float32 [N, 4], ``confidence`` float32 [N], ``class_id`` int64 [N],
    ``keypoints`` float32 [N, J, 3] (x, y, score) where the model has joints. The names are
    those of the supervision library.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Detections":
        """Return those of ``rows``, bool [N]."""
        keypoints = None if self.keypoints is None else self.keypoints[rows]
        return Detections(self.xyxy[rows], self.confidence[rows], self.class_id[rows], keypoints)


@dataclass(frozen=True)
class Filter:
    """Which detections one consumer of a stream takes; ``class_ids`` None means every class."""

    confidence: float = 0.0
    class_ids: frozenset[int] | None = None

    def __call__(self, found: Detections) -> Detections:
        """Return those of ``found`` that pass."""
        taken = found.confidence >= np.float32(self.confidence)
        if self.class_ids is not None:
            taken &= np.isin(found.class_id, list(self.class_ids))
        return found if taken.all() else found[taken]


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A frame on its way to the sinks, with all that any of them may take of what was found."""

    frame: Frame
    detections: Detections
