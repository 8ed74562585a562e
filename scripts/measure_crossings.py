"""Count generated crossings of a line, with the daemon's parts and with those of others.

Run as ``PYTHONPATH=daemon V/bin/python -m scripts.measure_crossings``, in the environment of
`scripts.measure_tracking`, whose noise the detections have. Each scene is a minute in which people
walk through the picture in both directions, at different distances, and hide one another. The error
is that of each scene and direction, summed and divided by the true number, so errors of opposite
sign do not cancel out.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import supervision

from centernetd.config import LineConfig, TrackConfig
from centernetd.flow import Detections
from centernetd.track import Tracker
from centernetd.track.journeys import Journeys, Moment
from scripts.measure_tracking import SETTINGS, TUNED, Truth, as_supervision, noisy, peer

RATES = (25.0, 10.0, 5.0)
SIZE = (360, 640)  # height, width
SECONDS = 60.0
WALKERS = 15  # per minute, on average
VISIBLE = 0.25  # share of a box that has to be visible
TOGETHER = 16  # scenes tracked in one batch
Counts = tuple[int, int]  # to the right and to the left
BEST_PEER = "SORTTracker"


@dataclass(frozen=True)
class Walker:
    """Somebody who crosses the picture, at a constant speed except for a rest; in pixels."""

    begins: float
    start: float  # x of the centre
    speed: float  # per second
    feet: float
    height: float
    width: float
    rests_after: float
    rest: float

    def centre(self, now: float) -> float:
        """Return the x at a time."""
        age = now - self.begins
        return self.start + self.speed * (age - min(max(age - self.rests_after, 0.0), self.rest))


def walkers(random: np.random.Generator) -> Iterator[Walker]:
    """Yield the nearest first; who is farther is smaller and slower, and one in ten rests."""
    count = random.poisson(WALKERS)
    for near in sorted(random.uniform(size=count), reverse=True):
        height = 80 + 120 * near
        width = height * random.uniform(0.3, 0.42)
        speed = height / 1.7 * random.uniform(0.9, 1.7) * random.choice((-1, 1))
        yield Walker(
            begins=random.uniform(0, SECONDS - 15),
            start=-width / 2 if speed > 0 else SIZE[1] + width / 2,
            speed=speed,
            feet=SIZE[0] * (0.6 + 0.38 * near),
            height=height,
            width=width,
            rests_after=random.uniform(1, 5),
            rest=random.uniform(1, 4) if random.random() < 0.1 else 0.0,
        )


def scene(seed: int, fps: float) -> tuple[Truth, Counts]:
    """Return true boxes by frame, and how many walkers cross the middle of the picture.

    Boxes end at the edge of the picture. Who is mostly outside or hidden has none.
    """
    people = list(walkers(np.random.default_rng(seed)))
    last = math.floor(SECONDS * fps)
    truth = {}
    for frame in range(1, last + 1):
        shown: dict[int, tuple[float, float, float, float]] = {}
        for number, person in enumerate(people):
            x = person.centre(frame / fps)
            left, right = max(x - person.width / 2, 0.0), min(x + person.width / 2, SIZE[1])
            top = person.feet - person.height
            if frame / fps < person.begins or right - left < person.width * VISIBLE:
                continue
            if _visible(left, right, top, person.feet, shown.values()) >= VISIBLE:
                shown[number] = (left, top, right - left, person.height)
        truth[frame] = (list(shown), np.array(list(shown.values()), float).reshape(-1, 4))
    middle = SIZE[1] / 2
    crossed = [
        bool(p.speed > 0) for p in people if (p.centre(last / fps) > middle) == (p.speed > 0)
    ]
    return truth, (sum(crossed), len(crossed) - sum(crossed))


def _visible(
    left: float, right: float, top: float, bottom: float, before: Iterable[tuple[float, ...]]
) -> float:
    """Return the share of a box that is not hidden, on a grid of 8 by 8 points."""
    xs = left + (right - left) * (np.arange(8) + 0.5) / 8
    ys = top + (bottom - top) * (np.arange(8) + 0.5) / 8
    free = np.ones((8, 8), bool)
    for x, y, w, h in before:
        if x < right and left < x + w:
            free &= ~np.outer((ys > y) & (ys < y + h), (xs > x) & (xs < x + w))
    return float(free.mean())


def count_ours(scenes: Sequence[Mapping[int, Detections]], fps: float) -> list[Counts]:
    """Count with the daemon's own parts."""
    tracker = Tracker()
    # Looking along the line, from the bottom to the top, right is right.
    line = LineConfig.model_validate({"from": (0.5, 1.0), "to": (0.5, 0.0)})
    places = [Journeys({}, {"middle": line}, TrackConfig(), str) for _ in scenes]
    counts = [Counter[str | None]() for _ in scenes]
    for number in range(len(scenes)):
        tracker.add(number, SETTINGS)
    for frame in scenes[0]:
        now = frame / fps
        batch = [(number, now, found[frame]) for number, found in enumerate(scenes)]
        for number, tracked in enumerate(tracker.update(batch)):
            events = places[number].see(Moment(now, now, SIZE), tracked)
            counts[number].update(e.direction for e in events if e.type == "cross")
    for number, journeys in enumerate(places):
        events = journeys.end(tracker.remove(number))
        counts[number].update(e.direction for e in events if e.type == "cross")
    return [(count["in"], count["out"]) for count in counts]


def count_theirs(
    settings: Mapping[str, float],
) -> Callable[[Sequence[Mapping[int, Detections]], float], list[Counts]]:
    """Return how the LineZone of supervision counts feet on the best peer.

    With the corners of boxes, which are its default, it counts fewer of the crossings.
    """

    def count(scenes: Sequence[Mapping[int, Detections]], fps: float) -> list[Counts]:
        height, width = SIZE
        ends = supervision.Point(width / 2, 0), supervision.Point(width / 2, height)
        counts = []
        for found in scenes:
            tracker = peer(BEST_PEER, fps, settings)
            zone = supervision.LineZone(*ends, [supervision.Position.BOTTOM_CENTER])
            for detections in found.values():
                zone.trigger(tracker.update(as_supervision(detections)))
            counts.append((zone.in_count, zone.out_count))
        return counts

    return count


def main() -> None:
    """Print the error of each way to count at each frame rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", type=int, default=10_000, help="at least so many crossings")
    parser.add_argument("--theirs", type=int, default=10_000, help="a peer takes 5 times as long")
    args = parser.parse_args()
    ways = {
        "ours": (count_ours, args.ours),
        f"LineZone, {BEST_PEER}": (count_theirs({}), args.theirs),
        f"LineZone, {BEST_PEER}, tuned": (count_theirs(TUNED[BEST_PEER]), args.theirs),
    }
    for fps in RATES:
        wrong, crossed = Counter[str](), Counter[str]()
        seeds = iter(range(10**9))
        while todo := {name: way for name, (way, least) in ways.items() if crossed[name] < least}:
            scenes = [(seed, *scene(seed, fps)) for seed in islice(seeds, TOGETHER)]
            found = [noisy(truth, seed, SIZE[::-1]) for seed, truth, _ in scenes]
            for name, count in todo.items():
                for counted, (_, _, true) in zip(count(found, fps), scenes, strict=True):
                    wrong[name] += sum(abs(a - b) for a, b in zip(counted, true, strict=True))
                    crossed[name] += sum(true)
        for name in ways:
            if crossed[name]:
                error = wrong[name] / crossed[name]
                print(f"{fps:g} fps, {name}: {error:.2%} of {crossed[name]}", flush=True)


if __name__ == "__main__":
    main()
