"""Compare the tracker with those of the package `trackers`.

Run as ``PYTHONPATH=daemon V/bin/python -m scripts.measure_tracking`` in an environment of its own:
``python -m venv V; V/bin/pip install trackers motmetrics pydantic PyYAML``.

Detections are made out of true boxes: 15 % are missing, the others err by 6 % of their sides
(normally distributed) and have scores of 0.35 to 0.95, and there are 0.3 false boxes per frame with
scores of 0.3 to 0.6. The true boxes are those of TUD-Campus, which comes with motmetrics.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import motmetrics
import numpy as np
import pandas
import supervision
import trackers
from numpy.typing import NDArray

from centernetd.flow import Detections, Thresholds
from centernetd.track import TrackSettings
from scripts.track_mot import track

Boxes = NDArray[np.float64]
Truth = Mapping[int, tuple[Sequence[int], Boxes]]  # by frame: numbers of objects, and x, y, w, h
Found = Mapping[int, Detections]
Tracks = Mapping[int, tuple[Sequence[int], Boxes]]  # by frame: ids, and x, y, w, h

PEERS = ("SORTTracker", "ByteTrackTracker", "BoTSORTTracker", "CBIoUTracker", "OCSORTTracker")
SEEDS = range(10)
TUNING_SEEDS = range(100, 104)
FPS = 25.0
STEPS = (1, 3, 5)  # every frame, every third, every fifth: 25, 8.3 and 5 frames per second
SETTINGS = TrackSettings(Thresholds(np.array([0.4], np.float32)))
CHOICES: Mapping[str, Sequence[float]] = {
    "lost_track_buffer": (5, 10, 15, 30, 60),
    "track_activation_threshold": (0.25, 0.4, 0.5, 0.6, 0.7),
    "minimum_consecutive_frames": (1, 2, 3),
    "minimum_iou_threshold": (0.05, 0.1, 0.2, 0.3, 0.4),
    "minimum_iou_threshold_first_assoc": (0.05, 0.1, 0.2, 0.3),
    "minimum_iou_threshold_second_assoc": (0.1, 0.2, 0.3, 0.5),
    "minimum_iou_threshold_unconfirmed_assoc": (0.1, 0.2, 0.3),
    "high_conf_det_threshold": (0.3, 0.4, 0.5, 0.6),
    "direction_consistency_weight": (0.0, 0.1, 0.2),
    "delta_t": (1, 2, 3, 5),
    "buffer_ratio_first": (0.0, 0.1, 0.3, 0.5),
    "buffer_ratio_second": (0.1, 0.3, 0.5, 0.7),
}
"""What `tune` tries for the parameters that a peer has."""
TUNED: Mapping[str, Mapping[str, float]] = {
    "SORTTracker": {
        "lost_track_buffer": 10,
        "track_activation_threshold": 0.25,
        "minimum_consecutive_frames": 1,
        "minimum_iou_threshold": 0.05,
    },
    "ByteTrackTracker": {
        "lost_track_buffer": 15,
        "track_activation_threshold": 0.25,
        "minimum_consecutive_frames": 1,
        "minimum_iou_threshold": 0.05,
        "high_conf_det_threshold": 0.3,
    },
    "BoTSORTTracker": {
        "lost_track_buffer": 60,
        "track_activation_threshold": 0.6,
        "minimum_consecutive_frames": 1,
        "minimum_iou_threshold_first_assoc": 0.05,
        "minimum_iou_threshold_second_assoc": 0.1,
        "minimum_iou_threshold_unconfirmed_assoc": 0.3,
        "high_conf_det_threshold": 0.3,
    },
    "CBIoUTracker": {
        "lost_track_buffer": 10,
        "track_activation_threshold": 0.6,
        "minimum_consecutive_frames": 1,
        "minimum_iou_threshold_first_assoc": 0.2,
        "minimum_iou_threshold_second_assoc": 0.2,
        "minimum_iou_threshold_unconfirmed_assoc": 0.3,
        "high_conf_det_threshold": 0.3,
        "buffer_ratio_first": 0.5,
        "buffer_ratio_second": 0.1,
    },
    "OCSORTTracker": {
        "lost_track_buffer": 5,
        "minimum_consecutive_frames": 1,
        "minimum_iou_threshold": 0.05,
        "high_conf_det_threshold": 0.4,
        "direction_consistency_weight": 0.0,
        "delta_t": 1,
    },
}
"""The best of 60 settings each, found by `tune`."""


def noisy(truth: Truth, seed: int, area: tuple[int, int] = (600, 400)) -> dict[int, Detections]:
    """Return detections by frame; false ones have their corners in ``area``."""
    random = np.random.default_rng(seed)
    found = {}
    for frame, (_, xywh) in truth.items():
        boxes = xywh[random.random(len(xywh)) < 0.85]
        boxes = boxes + random.normal(0, 0.06, boxes.shape) * np.tile(boxes[:, 2:], 2)
        score = random.uniform(0.35, 0.95, len(boxes))
        count = random.poisson(0.3)
        sides = ((0, area[0]), (0, area[1]), (20, 80), (60, 200))
        false = np.stack([random.uniform(*side, count) for side in sides], axis=1)
        boxes = np.concatenate((boxes, false))
        score = np.concatenate((score, random.uniform(0.3, 0.6, count)))
        xyxy = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
        found[frame] = Detections(
            xyxy.astype(np.float32), score.astype(np.float32), np.zeros(len(score), np.int64)
        )
    return found


def ours(found: Found, fps: float) -> Tracks:
    """Track as ``scripts/track_mot.py`` does."""
    rows: dict[int, list[list[float]]] = {}
    for line in track({f: d for f, d in found.items() if len(d)}, fps, SETTINGS):
        frame, *row = (float(text) for text in line.split(",")[:6])
        rows.setdefault(int(frame), []).append(row)
    return {f: ([int(row[0]) for row in r], np.array(r)[:, 1:]) for f, r in rows.items()}


def peer(name: str, fps: float, settings: Mapping[str, float]) -> Any:  # noqa: ANN401
    """Return a tracker of the package, told the frame rate if it asks for it."""
    made = getattr(trackers, name)
    asked = inspect.signature(made).parameters
    return made(**({"frame_rate": fps} if "frame_rate" in asked else {}), **settings)


def theirs(name: str, settings: Mapping[str, float]) -> Callable[[Found, float], Tracks]:
    """Return how a tracker of the package tracks."""

    def run(found: Found, fps: float) -> Tracks:
        tracker = peer(name, fps, settings)
        tracks = {}
        for frame, detections in found.items():
            shown = tracker.update(as_supervision(detections))
            ids = shown.tracker_id if shown.tracker_id is not None else np.full(len(shown), -1)
            xyxy = shown.xyxy[ids >= 0].astype(float)
            xywh = np.concatenate((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]), axis=1)
            tracks[frame] = (ids[ids >= 0].tolist(), xywh)
        return tracks

    return run


def as_supervision(found: Detections) -> Any:  # noqa: ANN401
    """Return detections as the peers take them."""
    return supervision.Detections(
        xyxy=found.xyxy, confidence=found.confidence, class_id=found.class_id
    )


def score(truth: Truth, tracks: Tracks) -> tuple[float, float]:
    """Return IDF1 and the number of switches, at an overlap of one half."""
    book = motmetrics.MOTAccumulator()
    for frame, (numbers, boxes) in truth.items():
        ids, shown = tracks.get(frame, ([], np.empty((0, 4))))
        book.update(numbers, ids, distances(boxes, shown), frameid=frame)
    names = ["idf1", "num_switches"]
    row = motmetrics.metrics.create().compute(book, metrics=names, name="").iloc[0]
    return float(row["idf1"]), float(row["num_switches"])


def distances(true: Boxes, shown: Boxes) -> Boxes:
    """Return 1 - intersection over union of all pairs; NaN where the overlap is below one half."""
    one, other = true[:, None], shown[None]
    ends = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    shared = np.maximum(ends - np.maximum(one[..., :2], other[..., :2]), 0).prod(axis=2)
    union = one[..., 2:].prod(axis=2) + other[..., 2:].prod(axis=2) - shared
    return np.where(shared >= union / 2, 1 - shared / union, np.nan)


def campus() -> Truth:
    """Return the true boxes of TUD-Campus: 71 frames, 8 people who cross one another."""
    path = Path(motmetrics.__file__).parent / "data" / "TUD-Campus" / "gt.txt"
    table: pandas.DataFrame = motmetrics.io.loadtxt(path, fmt="mot15-2D")
    return {
        frame: (
            rows.index.get_level_values(1).tolist(),
            rows[["X", "Y", "Width", "Height"]].to_numpy(float),
        )
        for frame, rows in table.groupby(level=0)
    }


def measure(
    run: Callable[[Found, float], Tracks], seeds: Sequence[int], *, scaled: bool
) -> list[tuple[float, float]]:
    """Return mean IDF1 and switches at each frame rate.

    Ours is always given frame numbers at 25 per second; peers are given the rate, ``scaled``.
    """
    truth = campus()
    rows = []
    for step in STEPS:
        frames = sorted(truth)[::step]
        thinned = {frame: truth[frame] for frame in frames}
        results = []
        for seed in seeds:
            full = noisy(truth, seed)
            found = {frame: full[frame] for frame in frames}
            results.append(score(thinned, run(found, FPS / step if scaled else FPS)))
        rows.append(tuple(np.mean(results, axis=0).tolist()))
    return rows


def accuracy() -> None:
    """Print a row for each tracker: IDF1 and switches at each frame rate."""

    def show(name: str, rows: Sequence[tuple[float, float]]) -> None:
        print(f"| {name} | " + " | ".join(f"{idf1:.3f} / {n:.1f}" for idf1, n in rows) + " |")

    show("ours", measure(ours, SEEDS, scaled=False))
    for name in PEERS:
        show(name, measure(theirs(name, {}), SEEDS, scaled=True))
        if name in TUNED:
            show(f"{name}, tuned", measure(theirs(name, TUNED[name]), SEEDS, scaled=True))


def tune(count: int) -> None:
    """Print each peer's best of ``count`` random settings, by mean IDF1 at all frame rates."""
    for name in PEERS:
        random = np.random.default_rng(0)
        asked = inspect.signature(getattr(trackers, name)).parameters
        best: tuple[float, dict[str, float]] = (0.0, {})
        for _ in range(count):
            tried = {key: random.choice(v).item() for key, v in CHOICES.items() if key in asked}
            rows = measure(theirs(name, tried), TUNING_SEEDS, scaled=True)
            best = max(
                best, (float(np.mean([idf1 for idf1, _ in rows])), tried), key=lambda b: b[0]
            )
        print(f"    {name!r}: {best[1]},  # {best[0]:.3f}", flush=True)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", type=int, metavar="N", help="try N settings of each peer instead")
    args = parser.parse_args()
    if args.tune:
        tune(args.tune)
    else:
        accuracy()


if __name__ == "__main__":
    main()
