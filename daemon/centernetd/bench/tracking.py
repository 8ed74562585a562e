"""CPU cost per frame of tracking, on generated boxes."""

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import numpy as np

from centernetd.config import LineConfig, SourceUri, StreamConfig, ZoneConfig
from centernetd.flow import (
    Arrivals,
    Backpressure,
    DetectionClass,
    Detections,
    Frame,
    Lane,
    Meters,
    Thresholds,
)
from centernetd.flow.image import no_pixels
from centernetd.inference.filter import StreamFilters, make_filter
from centernetd.run.tracking import StreamTracks, Tracking
from centernetd.track import Tracker, TrackSettings

Item = TypeVar("Item")

_FPS = 25
_FRAMES = 125  # of each stream
_RUNS = 3
_WARM_UP = 50  # frames that are not measured, until tracks come and go evenly
_SIZE = (1920, 1080)
_CLOCK = 90_000
_MODEL = "idle"
_LABELS = ("person",)
_ZONE = ZoneConfig(polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
_LINE = LineConfig.model_validate({"from": (0.0, 0.6), "to": (1.0, 0.6)})

Batch = Sequence[tuple[int, float, Detections]]


class Crowd(NamedTuple):
    """Streams that are tracked together, and objects in each."""

    streams: int
    objects: int


class Cost(NamedTuple):
    """CPU seconds per frame: of the tracker alone, and with a zone, a line, counts and results."""

    tracker: float
    whole: float


CROWDS = (Crowd(1, 5), Crowd(32, 5), Crowd(32, 40))


def track_crowd(crowd: Crowd) -> Cost:
    """Return what it costs to track ``crowd``, a frame of each stream per batch.

    Returns the median of all batches, each of which is the fastest of a few runs, since other
    programs' use of the caches can only add to it. Objects cross the picture at 0 to 200 pixels per
    second. 15 % of them are missed in each frame, the others are found with an error of 6 % of
    their sides.
    """
    batches = _batches(crowd)
    runs = [(_tracker(crowd, batches), _whole(crowd, batches)) for _ in range(_RUNS)]
    fastest = np.min(runs, axis=0)[:, _WARM_UP:]
    tracker, whole = np.median(fastest, axis=1).tolist()
    return Cost(tracker / crowd.streams, whole / crowd.streams)


def _tracker(crowd: Crowd, batches: Sequence[Batch]) -> list[float]:
    tracker = Tracker()
    settings = TrackSettings(Thresholds(np.array([0.4], np.float32)))
    for stream in range(crowd.streams):
        tracker.add(stream, settings)
    return _times(tracker.update, batches)


def _whole(crowd: Crowd, batches: Sequence[Batch]) -> list[float]:
    tracking, lanes = Tracking(Meters()), []
    classes = tuple(DetectionClass(_MODEL, *each) for each in enumerate(_LABELS))
    filters = StreamFilters({_MODEL: make_filter(_LABELS, 0.4)}, classes)
    places: dict[str, Any] = {"zones": {"zone": _ZONE}, "lines": {"line": _LINE}}
    for number in range(crowd.streams):
        config = StreamConfig(f"cam{number}", SourceUri("idle"), **places)
        lanes.append(
            Lane(
                config.name,
                Backpressure.DROP_OLDEST,
                depth=1,
                inbox=1,
                arrivals={_MODEL: Arrivals()},
                sinks=(),
            )
        )
        tracking.serve(lanes[-1], StreamTracks(config, filters), None)
    return _times(
        tracking.results,
        [[(lanes[stream], _frame(now), found) for stream, now, found in each] for each in batches],
    )


def _frame(now: float) -> Frame:
    return Frame(0, no_pixels(_SIZE[::-1]), round(now * _CLOCK), Fraction(1, _CLOCK), now, now)


def _times(update: Callable[[Item], object], batches: Sequence[Item]) -> list[float]:
    """Return the CPU seconds of an ``update`` with each batch."""
    taken = []
    for batch in batches:
        started = time.thread_time()
        update(batch)
        taken.append(time.thread_time() - started)
    return taken


def _batches(crowd: Crowd) -> Sequence[Batch]:
    random = np.random.default_rng(0)
    start = random.uniform(0, _SIZE, (*crowd, 2))
    speed = random.normal(0, 80, (*crowd, 2))
    sides = random.uniform(30, 60, (*crowd, 1)) * (1, 2.5)
    batches = []
    for frame in range(_FRAMES):
        now = frame / _FPS
        corner = (start + speed * now) % _SIZE
        true = np.concatenate((corner, corner + sides), axis=2)
        found = true + random.normal(0, 0.06, true.shape) * np.tile(sides, 2)
        seen = random.random(crowd) < 0.85
        score = random.uniform(0.35, 0.95, crowd)
        batches.append(
            [
                (stream, now, _detections(found[stream][rows], score[stream][rows]))
                for stream, rows in enumerate(seen)
            ]
        )
    return batches


def _detections(xyxy: np.ndarray, score: np.ndarray) -> Detections:
    class_id = np.zeros(len(score), np.int64)
    return Detections(xyxy.astype(np.float32), score.astype(np.float32), class_id)
