"""Blur that stays on a face which the detector loses, from what was found to the pictures."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from centernetd.config import BlurConfig, SourceUri, StreamConfig
from centernetd.flow import (
    Detections,
    Frame,
    HostImage,
    Lane,
    Meters,
    Result,
    Thresholds,
)
from centernetd.inference.delivery import Inferred
from centernetd.inference.filter import StreamFilter
from centernetd.run.tracking import BlurTracks, StreamTracks, Tracking
from centernetd.sink.privacy import GREY, Privacy
from tests.fakes import only
from tests.sinks import detections, open_lane, sink_context

SIZE = (120, 640)  # of the pictures: height, width
HOLD = 0.2
SEEN = 0.19  # seconds after which it is known where a face moves
COVERS = Thresholds(np.array([0.2], np.float32))
Box = tuple[float, float, float, float]
Moment = tuple[float, Sequence[tuple[Box, float]]]
"""Seconds, and the boxes found then with their scores."""
Pixels = NDArray[np.uint8]


def inferred(lane: Lane, moment: Moment) -> Inferred:
    at, found = moment
    image = HostImage(np.zeros((*SIZE, 3), np.uint8))
    parts = [detections(box, score=score) for box, score in found]
    boxes = Detections.joined(parts) if parts else detections()
    pts = round(at * 90000)
    return lane, Frame(pts, image, pts, Fraction(1, 90000), time.monotonic(), at), boxes


class Rig:
    """One blurred stream: what was found in its frames goes in, its pictures come out."""

    def __init__(self) -> None:
        self.tracking, self.lane = Tracking(Meters()), open_lane()
        self.blur = BlurTracks(COVERS)
        self.tracking.serve(self.lane, None, self.blur)

    def results(self, moments: Iterable[Moment]) -> Iterator[Result]:
        for moment in moments:
            yield from self.tracking.results([inferred(self.lane, moment)])


def pictures(results: Iterable[Result]) -> list[Pixels]:
    """The pictures that sinks get, which were black before."""
    context = sink_context(Path(), blur=BlurConfig(hold=HOLD))
    privacy, out = Privacy(replace(context, covers=COVERS)), []
    for result in results:
        privacy.add(result)
        while privacy.due():
            out.append(privacy.take().frame.image.pixels())
    while privacy.due(last=True):
        out.append(privacy.take().frame.image.pixels())
    return out


def steady(moments: Iterable[Moment]) -> list[Pixels]:
    return pictures(Rig().results(moments))


def held(moments: Iterable[Moment]) -> list[Pixels]:
    """The pictures if only the hold helps."""
    return pictures(Result(*inferred(open_lane(), moment)[1:]) for moment in moments)


def share(picture: Pixels, box: Box) -> float:
    """The share of a box that is covered."""
    x1, y1, x2, y2 = (round(edge) for edge in box)
    return float((picture[y1:y2, x1:x2] == GREY).mean())


def walking(at: float, x: float = 40.0, speed: float = 80.0, y: float = 30.0) -> Box:
    """A face of 40 by 50 pixels, ``speed`` in pixels per second."""
    return (x + speed * at, y, x + speed * at + 40, y + 50)


def times(fps: float, seconds: float = 5.0) -> list[float]:
    return [number / fps for number in range(round(seconds * fps))]


@pytest.mark.parametrize("fps", [5, 10, 25])
@pytest.mark.parametrize("missed", [0.4, 0.6, 1.0])  # seconds: at least one frame
@pytest.mark.parametrize("lost", [None, 0.1])  # not detected, or below the confidence
def test_a_moving_face_stays_covered_while_it_is_lost(
    fps: int, missed: float, lost: float | None
) -> None:
    def found(at: float) -> list[tuple[Box, float]]:
        away = 2.0 < at < 2.0 + missed - 1e-9
        scores = [lost] if away else [0.9]
        return [(walking(at), score) for score in scores if score is not None]

    moments = [(at, found(at)) for at in times(fps)]
    shares = [share(p, walking(at)) for p, (at, _) in zip(steady(moments), moments, strict=True)]
    assert min(shares) == 1.0
    before = [share(p, walking(at)) for p, (at, _) in zip(held(moments), moments, strict=True)]
    assert missed < 1 or min(before) < 0.5, "the hold alone does not reach it"


def test_a_face_that_is_lost_for_good_is_presumed_for_a_second() -> None:
    moments: list[Moment] = [(at, [(walking(at), 0.9)] if at <= 1 else []) for at in times(25)]
    covered = [at for p, (at, _) in zip(steady(moments), moments, strict=True) if p.any()]
    assert covered == [at for at in times(25) if at <= 1 + 1 + HOLD + 1e-9]


@pytest.mark.parametrize(("score", "followed"), [(0.1, True), (0.09, False)])
def test_half_the_confidence_suffices_for_a_face_that_was_covered(
    score: float, followed: bool
) -> None:
    moments: list[Moment] = [(at, [(walking(at), 0.9 if at <= 1 else score)]) for at in times(10)]
    shares = [share(p, walking(at)) for p, (at, _) in zip(steady(moments), moments, strict=True)]
    assert (min(shares) == 1.0) is followed


@example(steps=[0.02] * 10 + [0.1, 0.2], lost=11)
@given(
    steps=st.lists(st.sampled_from([0.02, 0.04, 0.1, 0.2, 0.25]), min_size=12, max_size=25),
    lost=st.integers(5, 25),
)
def test_frames_may_come_at_any_time(steps: list[float], lost: int) -> None:
    """Frames are dropped, and a camera changes its rate: only seconds count."""
    at = list(accumulate(steps, initial=0.0))
    known = [now for number, now in enumerate(at) if number < lost]
    assume(known[-1] > SEEN)
    moments: list[Moment] = [(now, [(walking(now), 0.9)] if now in known else []) for now in at]
    for picture, now in zip(steady(moments), at, strict=True):
        if now < known[-1] + 0.99:
            assert share(picture, walking(now)) > 0.9


def test_what_was_before_a_cut_is_covered_no_longer_than_what_was_lost() -> None:
    def found(at: float) -> list[tuple[Box, float]]:
        return [((20.0, 30.0, 60.0, 80.0) if at < 2 else (500.0, 30.0, 540.0, 80.0), 0.9)]

    moments = [(at, found(at)) for at in times(10)]
    for picture, (at, seen) in zip(steady(moments), moments, strict=True):
        assert share(picture, seen[0][0]) == 1.0
        if at > 1.9 + 1.0 + HOLD + 1e-9:
            assert not picture[:, :400].any()


@pytest.mark.parametrize("fps", [5, 10, 25])
@pytest.mark.parametrize("hidden", [0, 1])
def test_of_two_faces_that_cross_the_one_that_is_lost_stays_covered(fps: int, hidden: int) -> None:
    def both(at: float) -> list[Box]:
        return [walking(at, 40, 80), walking(at, 440, -80, 40)]

    meet = [at for at in times(fps) if abs(at - 2.5) < 0.45]
    moments: list[Moment] = [
        (
            at,
            [(box, 0.9) for n, box in enumerate(both(at)) if n != hidden or at not in meet],
        )
        for at in times(fps)
    ]
    for picture, (at, _) in zip(steady(moments), moments, strict=True):
        assert min(share(picture, box) for box in both(at)) > 0.9


BOXES = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.floats(0, 500),
    st.floats(0, 80),
    st.floats(1, 100),
    st.floats(1, 100),
)
FOUND = st.lists(st.tuples(BOXES, st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.5, 0.9])), max_size=4)


@given(
    steps=st.lists(st.sampled_from([0.02, 0.04, 0.2, 0.5, 30.0]), min_size=1, max_size=12),
    found=st.lists(FOUND, min_size=13, max_size=13),
)
def test_no_less_is_covered_than_by_the_hold_alone(
    steps: list[float], found: list[list[tuple[Box, float]]]
) -> None:
    moments = [*zip(accumulate(steps, initial=0.0), found, strict=False)]
    for picture, alone in zip(steady(moments), held(moments), strict=True):
        assert (picture[alone == GREY] == GREY).all()


def test_only_what_is_blurred_is_presumed() -> None:
    """An object of another class is followed for its own sake, if at all."""
    rig = Rig()
    rig.blur.settings = replace(
        rig.blur.settings, confidence=Thresholds(np.array([0.2, np.inf], np.float32))
    )
    rig.tracking.serve(rig.lane, None, rig.blur)
    for moment in [(at, [(walking(at), 0.9)] if at < 0.5 else []) for at in times(10, 1.0)]:
        lane, frame, boxes = inferred(rig.lane, moment)
        boxes.class_id[:] = 1
        (result,) = rig.tracking.results([(lane, frame, boxes)])
        assert result.presumed is not None
        assert not len(result.presumed)


def test_objects_and_blur_of_one_stream_are_followed_apart() -> None:
    tracking, lane = Tracking(Meters()), open_lane()
    config = StreamConfig("gate", SourceUri("rtsp://192.0.2.1/"))
    objects = StreamTracks(config, only(StreamFilter(0.8, None, ("face",))))
    tracking.serve(lane, objects, BlurTracks(COVERS))
    seen = []
    for at in times(10, 2.0):
        score = 0.9 if at < 1 else 0.1
        (result,) = tracking.results([inferred(lane, (at, [(walking(at), score)]))])
        assert result.scene is not None
        assert result.presumed is not None
        seen.append((len(result.scene.track_ids), len(result.presumed)))
        seen.append((len(result.scene.predicted), len(result.presumed)))
    assert {presumed for _, presumed in seen[20:]} == {1}
    assert {presumed for _, presumed in seen[:20]} == {0}
    lane.close()
    assert tracking.results([inferred(lane, (3.0, []))])[0].presumed is None


def test_a_fault_costs_what_is_presumed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()

    def fail(self: BlurTracks, result: Result, *_: Any) -> Result:
        raise RuntimeError("an index is out of range")

    moments: list[Moment] = [(at, [(walking(at), 0.9)]) for at in times(10, 1.0)]
    monkeypatch.setattr(BlurTracks, "see", fail)
    results = [*rig.results(moments)]
    assert [result.presumed for result in results] == [None] * 10
    assert caplog.text.count("while following what is blurred") == 1
    for picture, (at, _) in zip(pictures(results), moments, strict=True):
        assert share(picture, walking(at)) == 1.0


def test_memory_stays_flat() -> None:
    rig, dice = Rig(), np.random.default_rng(0)
    known = []
    for number in range(2000):
        x, y = dice.uniform(0, 500), dice.uniform(0, 60)
        clutter: list[tuple[Box, float]] = [((x, y, x + 30, y + 40), 0.3)]
        [*rig.results([(number / 10, clutter)])]
        known.append(len(rig.tracking._tracker._streams[rig.blur].tracks))
    assert max(known[1000:]) <= max(known[:1000]) <= 11, "those of one second"
