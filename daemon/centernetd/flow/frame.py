"""What a lane carries: frames with their detections, and a source's packets.

Nothing modifies any of it, except that the lane frees the pixels of a frame that no sink draws.
The types of which each frame makes several are not frozen dataclasses all the same: one of those
takes six times as long to make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from centernetd.flow.image import Image, no_pixels


@dataclass(slots=True, eq=False)
class Frame:
    """One decoded picture of one stream.

    ``pts`` counts ``time_base`` seconds on the stream's own strictly increasing timeline.
    ``captured_at`` is monotonic, ``wall_time`` Unix time, both in seconds and taken when the frame
    was decoded.
    ``packet`` is the number of the last source packet passed on before the frame, 0 if packets
    are not passed on. ``aspect`` is the width of a pixel over its height.
    """

    frame_id: int
    image: Image
    pts: int
    time_base: Fraction
    captured_at: float
    wall_time: float
    packet: int = 0
    aspect: Fraction = Fraction(1)

    @property
    def time(self) -> float:
        """Seconds on the stream's timeline."""
        return self.pts * self.time_base.numerator / self.time_base.denominator

    def drop_pixels(self) -> None:
        """Free the picture's pixels for good: nobody else needs them."""
        self.image = no_pixels(self.image.size)

    def without_pixels(self) -> "Frame":
        """Return this frame for who needs no pixels, so that those of the picture can be freed."""
        return replace(self, image=no_pixels(self.image.size))


@dataclass(slots=True, eq=False)
class Detections:
    """The detections in one frame, best first, in source pixels.

    ``xyxy`` is float32 [N, 4], ``confidence`` float32 [N], ``class_id`` int64 [N], which counts
    the classes of all of the stream's models (see `DetectionClass`), ``keypoints`` float32
    [N, J, 3] (x, y, score) if a model has joints: NaN where a detection has fewer, ``tracker_id``
    int64 [N] (-1: no track) if the stream is tracked. The names are those of the supervision
    library.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    keypoints: NDArray[np.float32] | None = None
    tracker_id: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "Detections":
        """Return the detections selected by ``rows``: a slice, bool [N] or indices."""
        keypoints = None if self.keypoints is None else self.keypoints[rows]
        tracker_id = None if self.tracker_id is None else self.tracker_id[rows]
        return Detections(
            self.xyxy[rows], self.confidence[rows], self.class_id[rows], keypoints, tracker_id
        )

    @classmethod
    def joined(cls, parts: Sequence["Detections"]) -> "Detections":
        """Return the detections of several models in one frame."""
        if len(parts) == 1:
            return parts[0]
        confidence = np.concatenate([part.confidence for part in parts])
        order = np.argsort(-confidence, kind="stable")
        return cls(
            np.concatenate([part.xyxy for part in parts])[order],
            confidence[order],
            np.concatenate([part.class_id for part in parts])[order],
            _joined_keypoints(parts, order),
        )


def _joined_keypoints(
    parts: Sequence[Detections], order: NDArray[np.intp]
) -> NDArray[np.float32] | None:
    joints = max((p.keypoints.shape[1] for p in parts if p.keypoints is not None), default=0)
    if not joints:
        return None
    joined = np.full((len(order), joints, 3), np.nan, np.float32)
    start = 0
    for part in parts:
        if part.keypoints is not None:
            joined[start : start + len(part), : part.keypoints.shape[1]] = part.keypoints
        start += len(part)
    return joined[order]


class DetectionClass(NamedTuple):
    """A class of one of a stream's models: the model's name, its number there, and its label.

    The classes of a stream are those of its first model, then those of its second, and so on.
    """

    model: str
    number: int
    label: str


@dataclass(frozen=True)
class Filter:
    """The detections one consumer of a stream accepts; ``class_ids`` None means every class."""

    confidence: float = 0.0
    class_ids: frozenset[int] | None = None

    def __call__(self, found: Detections) -> Detections:
        """Return the detections in ``found`` that pass."""
        if not self.confidence and self.class_ids is None:
            return found
        taken = found.confidence >= np.float32(self.confidence)
        if self.class_ids is not None:
            taken &= np.isin(found.class_id, list(self.class_ids))
        return found if taken.all() else found[taken]


EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class Thresholds:
    """What a consumer accepts of all of a stream's models.

    ``least`` is the minimum score by class id, float32 [C]; infinity accepts none of a class.
    Without ``keypoints``, it gets none.
    """

    least: NDArray[np.float32]
    keypoints: bool = True

    def __call__(self, found: Detections) -> Detections:
        """Return the detections in ``found`` that pass."""
        taken = found.confidence >= self.least[found.class_id]
        passed = found if taken.all() else found[taken]
        return passed if self.keypoints else replace(passed, keypoints=None)


Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in source pixels."""


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """Something that happened to a confirmed track.

    ``time`` is on the stream's timeline and ``wall_time`` Unix time, both in seconds, ``box`` where
    the object then was, in a picture of ``size`` (height, width). ``score`` is the highest so far.
    ``direction`` is in or out; ``dwell`` is in seconds. An ``end`` is at the moment at which the
    track was last seen, and also has the Unix time at which it was ``first`` seen, its
    ``crossings`` of lines (line and direction), and the seconds in each of ``zones``.
    """

    type: Literal["start", "update", "enter", "leave", "cross", "end"]
    track_id: str
    tracker_id: int
    label: str
    score: float
    time: float
    wall_time: float
    box: Box
    size: tuple[int, int]
    zone: str | None = None
    line: str | None = None
    direction: Literal["in", "out"] | None = None
    dwell: float | None = None
    first: float | None = None
    crossings: tuple[tuple[str, str], ...] = ()
    zones: Mapping[str, float] = field(default_factory=dict)


class ZoneCount(NamedTuple):
    """A zone, its corners as shares of the picture, and the number of objects in it."""

    name: str
    corners: tuple[tuple[float, float], ...]
    inside: int


class LineCount(NamedTuple):
    """A line, its ends as shares of the picture, and how often it was crossed in and out."""

    name: str
    start: tuple[float, float]
    to: tuple[float, float]
    crossed_in: int
    crossed_out: int


@dataclass(slots=True, eq=False)
class Scene:
    """What tracking knows at the moment of a frame.

    ``track_ids`` names the confirmed tracks by their tracker_id. ``predicted`` are the boxes of
    tracks that were not detected in the frame; their confidence is not a score.
    """

    track_ids: Mapping[int, str]
    predicted: Detections
    zones: tuple[ZoneCount, ...] = ()
    lines: tuple[LineCount, ...] = ()


@dataclass(slots=True, eq=False)
class Result:
    """A frame for the sinks, with every detection that any of them may use.

    A tracked stream also has a ``scene``, and ``events``: what happened since the frame before.
    A blurred one has ``presumed``, float32 [N, 4]: boxes of what it blurs, which was followed to
    there without being detected with enough confidence.
    """

    frame: Frame
    detections: Detections
    events: tuple[TrackEvent, ...] = ()
    scene: Scene | None = None
    presumed: NDArray[np.float32] | None = None


Orientation = tuple[int, int, int, int]
"""How to display a picture: a, b, c, d, of which two are 0 and two are 1 or -1.

The point ``x`` to the right and ``y`` down is displayed at a*x + c*y to the right and
b*x + d*y down (ISO/IEC 14496-12, 8.3.2).
"""
UPRIGHT: Orientation = (1, 0, 0, 1)


@dataclass(frozen=True, slots=True)
class Coding:
    """How a run of packets is coded and displayed; a file holds packets of one coding.

    ``codec`` is FFmpeg's name (h264, hevc), ``width`` and ``height`` are in pixels.
    ``parameters`` are the codec's parameter sets known apart from the packets.
    ``aspect`` is a pixel's width over its height, before ``orientation``. ``colours`` are range,
    matrix, primaries and transfer, numbered as in FFmpeg and ITU-T H.273.
    """

    codec: str
    width: int
    height: int
    parameters: bytes = b""
    aspect: Fraction = Fraction(1)
    orientation: Orientation = UPRIGHT
    colours: tuple[int, int, int, int] = (0, 2, 2, 2)


@dataclass(slots=True, eq=False)
class Packet:
    """One coded picture: a NAL unit stream with start codes (ITU-T H.264, annex B).

    Key frames carry their parameter sets. ``number`` counts a stream's packets from 1, so
    that gaps can be detected. ``pts``, ``dts`` and ``duration`` count ``time_base`` seconds on
    the stream's timeline; ``dts`` increases strictly. ``wall_time`` is Unix time in seconds.

    A ``hidden`` packet is never shown, but others are predicted from it. One that precedes all
    shown packets has the ``pts`` of the first picture after it.
    """

    number: int
    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_keyframe: bool
    wall_time: float
    coding: Coding
    hidden: bool = False

    @property
    def time(self) -> float:
        """Seconds on the stream's timeline."""
        return self.pts * self.time_base.numerator / self.time_base.denominator
