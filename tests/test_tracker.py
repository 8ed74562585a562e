"""Tracks: who is who from frame to frame."""

from collections.abc import Sequence

import numpy as np

from centernetd.flow import Detections, Thresholds
from centernetd.track import Tracker, TrackSettings

SETTINGS = TrackSettings(Thresholds(np.full(2, 0.4, np.float32)))


def boxes(*xyxy: Sequence[float], confidence: float = 0.9, class_id: int = 0) -> Detections:
    count = len(xyxy)
    return Detections(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.full(count, class_id, np.int64),
    )


def walker(seconds: float) -> Sequence[float]:
    left = 10 + 40 * seconds
    return left, 20, left + 30, 100


def test_a_walker_keeps_its_id() -> None:
    tracker = Tracker()
    tracker.add("gate", SETTINGS)
    seen = [tracker.update([("gate", n / 25, boxes(walker(n / 25)))])[0] for n in range(50)]
    ids = {int(number) for frame in seen for number in frame.tracker_id}
    assert len(ids) == 1
    assert sum(len(frame.started) for frame in seen) == 1
    (track,) = tracker.remove("gate")
    assert track.tracker_id in ids
    assert track.first == 0


def test_a_frame_without_boxes_and_tracks_is_empty() -> None:
    tracker = Tracker()
    tracker.add("gate", SETTINGS)
    (frame,) = tracker.update([("gate", 0.0, boxes())])
    assert len(frame.detections) == 0
    (frame,) = tracker.update([("gate", 0.1, boxes((0, 0, 9, 9), confidence=0.1))])
    assert frame.tracker_id.tolist() == [-1]


def test_a_missed_box_is_predicted() -> None:
    tracker = Tracker()
    tracker.add("gate", SETTINGS)
    for n in range(25):
        tracker.update([("gate", n / 25, boxes(walker(n / 25)))])
    (frame,) = tracker.update([("gate", 1.0, boxes())])
    assert frame.predicted.tolist() == [True]
    assert frame.confirmed.tolist() == [True]
    np.testing.assert_allclose(frame.detections.xyxy[0], walker(1.0), atol=3)
