"""Track detections in the text format of the MOTChallenge: ``python scripts/track_mot.py IN OUT``.

IN has a line ``frame,-1,x,y,w,h,score`` per detection, in any order; further columns are ignored.
Frame numbers are integers, and no number is beyond ±2^24, up to which float32 has all integers.
OUT gets a line ``frame,id,x,y,w,h,score,-1,-1,-1`` per box and frame, predicted boxes included. An
id is written from its second detection on, because one alone may be an error. Nothing is changed
afterwards: each frame is written before the next is read.

Frames without a line have no detections. If all frame numbers are a multiple of a step apart,
only every such frame exists: ``--fps`` is always the rate of the frame numbers.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from centernetd.flow import Detections, Thresholds
from centernetd.track import Tracker, TrackSettings

_COLUMNS = 7
_LARGEST = 2**24


def read(path: Path) -> dict[int, Detections]:
    """Return the detections by frame; raises ValueError with a sentence naming the line."""
    frames: dict[int, list[list[float]]] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(text) for text in line.split(",")[:_COLUMNS]]
        except ValueError:
            row = []
        if len(row) < _COLUMNS or not all(abs(value) <= _LARGEST for value in row):
            raise ValueError(
                f"{path}:{number}: is not frame,-1,x,y,w,h,score in numbers up to {_LARGEST}"
            )
        if not row[0].is_integer():
            raise ValueError(f"{path}:{number}: frame {row[0]:g} is not an integer")
        frames.setdefault(int(row[0]), []).append(row[2:])
    return {frame: _detections(np.array(rows)) for frame, rows in frames.items()}


def _detections(rows: np.ndarray) -> Detections:
    xyxy = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1)
    classes = np.zeros(len(rows), np.int64)
    return Detections(xyxy.astype(np.float32), rows[:, 4].astype(np.float32), classes)


def track(found: Mapping[int, Detections], fps: float, settings: TrackSettings) -> list[str]:
    """Return the lines for detections by frame."""
    tracker = Tracker()
    tracker.add("", settings)
    nothing = _detections(np.empty((0, _COLUMNS - 2)))
    lines: list[str] = []
    times: Counter[int] = Counter()  # each id was detected
    first, last = min(found), max(found)
    step = math.gcd(*(frame - first for frame in found)) or 1
    for frame in range(first, last + 1, step):
        (shown,) = tracker.update([("", frame / fps, found.get(frame, nothing))])
        ids = shown.tracker_id
        times.update(ids[~shown.predicted].tolist())
        for number, box, score in zip(
            ids.tolist(), shown.smooth, shown.detections.confidence, strict=True
        ):
            if number >= 0 and times[number] > 1:
                x1, y1, x2, y2 = box.tolist()
                lines.append(
                    f"{frame},{number},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
                    f"{score:.4f},-1,-1,-1"
                )
    return lines


def main() -> None:
    """Read the command line, and track."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detections", type=Path, metavar="IN.txt")
    parser.add_argument("tracks", type=Path, metavar="OUT.txt")
    parser.add_argument("--fps", type=float, required=True, help="frames per second")
    parser.add_argument(
        "--confidence", type=float, default=0.4, help="detect.confidence; centerface's is 0.4"
    )
    args = parser.parse_args()
    if not 0 < args.fps < math.inf:
        sys.exit(f"--fps {args.fps}: must be more than 0")
    try:
        found = read(args.detections)
        settings = TrackSettings(Thresholds(np.array([args.confidence], np.float32)))
        lines = track(found, args.fps, settings) if found else []
        args.tracks.write_text("".join(f"{line}\n" for line in lines))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
