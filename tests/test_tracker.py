"""Tracks: who is who from frame to frame."""

import pickle
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.flow import Detections, Thresholds
from centernetd.track import Track, Tracked, Tracker, TrackSettings
from centernetd.track.kalman import begin, predict

Box = Sequence[float]
Row = tuple[str, float, Detections]

SETTINGS = TrackSettings(Thresholds(np.full(2, 0.4, np.float32)))
LOW = 0.3  # a confidence that continues a track and starts none


def boxes(*xyxy: Box, confidence: float = 0.9, class_id: int = 0) -> Detections:
    count = len(xyxy)
    return Detections(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.full(count, class_id, np.int64),
    )


def walker(seconds: float, left: float = 10, top: float = 20, speed: float = 40) -> Box:
    left += speed * seconds
    return left, top, left + 30, top + 80


def tracker(*streams: str, settings: TrackSettings = SETTINGS) -> Tracker:
    made = Tracker()
    for stream in streams or ("gate",):
        made.add(stream, settings)
    return made


def watch(into: Tracker, fps: float, *frames: Detections, start: float = 0.0) -> list[Tracked]:
    """Give `into` the frames one by one."""
    times = [start + number / fps for number in range(len(frames))]
    return [
        into.update([("gate", time, frame)])[0] for time, frame in zip(times, frames, strict=True)
    ]


def walk(fps: float, seconds: float) -> list[Detections]:
    return [boxes(walker(n / fps)) for n in range(round(seconds * fps))]


def test_a_walker_keeps_its_id() -> None:
    gate = tracker()
    seen = watch(gate, 25, *walk(25, 2.0))
    (number,) = {int(number) for frame in seen for number in frame.tracker_id}
    (started,) = [track for frame in seen for track in frame.started]
    assert gate.live("gate") == 1
    (track,) = gate.remove("gate")
    assert track == Track(number, 0, float(np.float32(0.9)), 0.0, 49 / 25)
    assert started.tracker_id == number


@pytest.mark.parametrize("fps", [1, 2, 5, 8, 10, 25, 60])
def test_a_track_is_confirmed_in_time_at_any_frame_rate(fps: int) -> None:
    seen = watch(tracker(), fps, *walk(fps, 4.0))
    first = next(n for n, frame in enumerate(seen) if frame.confirmed.any())
    assert SETTINGS.confirm_after <= first / fps < SETTINGS.confirm_after + 1 / fps + 1e-9
    assert [len(frame.started) for frame in seen] == [int(n == first) for n in range(len(seen))]


def test_a_track_is_confirmed_at_once_if_asked_for() -> None:
    settings = TrackSettings(SETTINGS.confidence, confirm_after=0.0)
    (frame,) = watch(tracker(settings=settings), 25, boxes(walker(0)))
    assert frame.confirmed.tolist() == [True]
    assert [track.tracker_id for track in frame.started] == frame.tracker_id.tolist()


def test_a_detection_too_weak_to_start_a_track_has_no_id_and_keeps_its_box() -> None:
    (frame,) = watch(tracker(), 25, boxes(walker(0), confidence=LOW))
    assert frame.tracker_id.tolist() == [-1]
    np.testing.assert_array_equal(frame.smooth, frame.detections.xyxy)


def test_a_weak_detection_continues_a_track() -> None:
    weak = boxes(walker(1.0), confidence=LOW)
    *_, before, frame = watch(tracker(), 25, *walk(25, 1.0), weak)
    assert frame.tracker_id.tolist() == before.tracker_id.tolist()
    assert not frame.predicted.any()


def test_a_detection_below_the_floor_continues_nothing() -> None:
    *_, frame = watch(tracker(), 25, *walk(25, 1.0), boxes(walker(1.0), confidence=0.19))
    assert frame.tracker_id[0] == -1
    assert frame.predicted.tolist() == [False, True]
    assert SETTINGS.floor.least.tolist() == pytest.approx([0.2, 0.2])


def test_confident_detections_choose_first() -> None:
    """The weak box is nearer to where the walker is expected, but the confident one is it."""
    x1, y1, x2, y2 = walker(1.0)
    two = Detections(
        np.array([(x1, y1, x2, y2), (x1 + 6, y1, x2 + 6, y2)], np.float32),
        np.array([LOW, 0.9], np.float32),
        np.zeros(2, np.int64),
    )
    *_, before, frame = watch(tracker(), 25, *walk(25, 1.0), two)
    assert frame.tracker_id.tolist() == [-1, *before.tracker_id.tolist()]


def test_a_missed_box_is_predicted_for_a_while_and_the_track_goes_on() -> None:
    gate = tracker()
    *_, before = watch(gate, 25, *walk(25, 1.0))
    gap = watch(gate, 25, *[boxes()] * 25, start=1.0)
    assert gap[0].predicted.tolist() == [True]
    assert gap[0].tracker_id.tolist() == before.tracker_id.tolist()
    np.testing.assert_allclose(gap[0].detections.xyxy[0], walker(1.0), atol=1)
    np.testing.assert_allclose(gap[4].detections.xyxy[0], walker(1.16), atol=2)
    assert [len(frame.detections) for frame in gap] == [1] * 5 + [0] * 20  # 200 ms after 0.96 s
    (after,) = watch(gate, 25, boxes(walker(2.0)), start=2.0)
    assert after.tracker_id.tolist() == before.tracker_id.tolist()


def test_a_predicted_box_has_keypoints_that_are_not_known() -> None:
    def found(*xyxy: Box) -> Detections:
        part = boxes(*xyxy)
        points = np.ones((len(xyxy), 5, 3), np.float32)
        return Detections(part.xyxy, part.confidence, part.class_id, points)

    frames = [found(walker(n / 25)) for n in range(25)]
    *_, frame = watch(tracker(), 25, *frames, found((500, 20, 530, 90)))
    assert frame.detections.keypoints is not None
    assert frame.detections.keypoints.shape == (2, 5, 3)
    assert np.isnan(frame.detections.keypoints).all(axis=(1, 2)).tolist() == [False, True]


def test_a_track_survives_a_reconnection_shorter_than_max_gap() -> None:
    gate = tracker()
    *_, before = watch(gate, 25, *walk(25, 1.0))
    (after,) = watch(gate, 25, boxes(walker(2.9)), start=2.9)
    assert after.tracker_id.tolist() == before.tracker_id.tolist()
    assert after.ended == ()


def test_a_track_ends_after_max_gap_even_where_its_box_returns() -> None:
    gate = tracker()
    *_, before = watch(gate, 25, *[boxes(walker(0))] * 25)
    (after,) = watch(gate, 25, boxes(walker(0)), start=3.0)
    assert [track.tracker_id for track in after.ended] == before.tracker_id.tolist()
    assert after.tracker_id.tolist() != before.tracker_id.tolist()
    assert gate.live("gate") == 0


def test_tracks_expire_while_no_frame_comes() -> None:
    gate = tracker()
    *_, before = watch(gate, 25, *walk(25, 1.0))
    assert gate.expire("gate", 2.9) == ()
    (ended,) = gate.expire("gate", 3.0)
    assert [ended.tracker_id] == before.tracker_id.tolist()
    assert gate.expire("gate", 9.0) == gate.remove("gate") == ()


def test_an_unconfirmed_track_ends_unmentioned() -> None:
    gate = tracker()
    seen = watch(gate, 25, boxes(walker(0)), *[boxes()] * 60)
    assert not any(frame.started or frame.ended for frame in seen)
    assert gate.live("gate") == 0
    assert gate.remove("gate") == ()


def test_a_track_lost_long_ago_takes_no_detection_from_one_that_is_seen() -> None:
    """Where the lost one is now, nobody knows: its box has grown over the whole picture."""
    gate = tracker(settings=TrackSettings(SETTINGS.confidence, max_gap=30.0))
    (lost,) = watch(gate, 25, *[boxes(walker(0))] * 25)[-1].tracker_id.tolist()
    random = np.random.default_rng(0)
    there = np.array(walker(0, left=60))
    jittered = [there + random.normal(0, 0.06, 4) * (30, 80, 30, 80) for _ in range(250)]
    seen = watch(gate, 10, *[boxes(box.tolist()) for box in jittered], start=1.0)
    ids = {int(number) for frame in seen for number in frame.tracker_id[~frame.predicted]}
    assert len(ids) == 1
    assert lost not in ids


def test_two_that_cross_keep_their_ids() -> None:
    def pair(seconds: float) -> Detections:
        return boxes(walker(seconds), walker(seconds, left=210, top=30, speed=-60))

    seen = watch(tracker(), 25, *[pair(n / 25) for n in range(75)])
    first = seen[0].tracker_id.tolist()
    assert all(frame.tracker_id.tolist() == first for frame in seen)


def test_neighbours_of_different_classes_are_not_mixed_up() -> None:
    def both(seconds: float, *, swapped: bool) -> Detections:
        face, head = boxes(walker(seconds)), boxes(walker(seconds, left=18), class_id=1)
        parts = (head, face) if swapped else (face, head)
        return Detections(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("xyxy", "confidence", "class_id")
            )
        )

    seen = watch(tracker(), 25, *[both(n / 25, swapped=n % 2 == 1) for n in range(50)])
    first = seen[0].tracker_id.tolist()
    for number, frame in enumerate(seen):
        assert frame.tracker_id.tolist() == (first[::-1] if number % 2 else first)


def test_the_class_of_a_track_is_voted_on() -> None:
    """The first detections call a car a person."""
    gate = tracker()
    frames = [boxes(walker(n / 25), class_id=int(n > 1)) for n in range(20)]
    seen = watch(gate, 25, *frames)
    (started,) = [track for frame in seen for track in frame.started]
    assert started.class_id == 1
    assert {int(number) for frame in seen for number in frame.tracker_id} == {started.tracker_id}


def test_the_class_of_a_track_stays_once_it_is_confirmed() -> None:
    gate = tracker()
    watch(gate, 25, *[boxes(walker(n / 25), class_id=int(n > 10)) for n in range(100)])
    assert [track.class_id for track in gate.remove("gate")] == [0]


def test_thresholds_go_by_class() -> None:
    least = Thresholds(np.array([0.8, np.inf], np.float32))
    gate = tracker(settings=TrackSettings(least))
    (frame,) = watch(gate, 25, boxes(walker(0), class_id=1))
    assert frame.tracker_id.tolist() == [-1]
    (frame,) = watch(gate, 25, boxes(walker(0), confidence=0.7), start=1.0)
    assert frame.tracker_id.tolist() == [-1]
    (frame,) = watch(gate, 25, boxes(walker(0), confidence=0.8), start=2.0)
    assert frame.tracker_id[0] > 0


def test_changed_settings_apply_to_the_tracks_that_are_there() -> None:
    gate = tracker()
    *_, before = watch(gate, 25, *[boxes(walker(0))] * 25)
    gate.add("gate", TrackSettings(SETTINGS.confidence, max_gap=10.0))
    (after,) = watch(gate, 25, boxes(walker(0)), start=6.0)
    assert after.tracker_id.tolist() == before.tracker_id.tolist()


def test_streams_share_nothing_but_the_counter() -> None:
    """The same boxes in two streams, one of which is removed."""
    both = tracker("gate", "yard")
    for n in range(25):
        gate, yard = both.update([(name, n / 25, walk(25, 1.0)[n]) for name in ("gate", "yard")])
        assert not {*gate.tracker_id.tolist()} & {*yard.tracker_id.tolist()}
    assert len(both.remove("yard")) == 1
    assert both.live("gate") == 1


@pytest.mark.parametrize("fps", [2, 5, 10, 25, 60])
def test_a_gap_between_frames_counts_by_its_seconds(fps: int) -> None:
    """Predicting in many steps equals predicting in one."""
    walked = begin(np.array([[50.0], [60.0], [30.0], [80.0]]))
    walked[4:6] = 40.0
    once = walked.copy()
    predict(once, np.array([1.0]))
    for _ in range(fps):
        predict(walked, np.array([1.0 / fps]))
    np.testing.assert_allclose(walked, once, rtol=1e-9)


@pytest.mark.parametrize(("fps", "least"), [(25, 0.95), (10, 0.9), (5, 0.85)])
def test_walkers_are_told_apart_in_spite_of_a_poor_detector(fps: int, least: float) -> None:
    """Eight who pass one another, of whom a detector misses 15 %, with an error of 6 %."""
    random = np.random.default_rng(0)
    lanes = [(-30.0 - 90 * n, 40.0 + 12 * n, 60.0 + 5 * n) for n in range(4)]
    lanes += [(500.0 + 80 * n, 46.0 + 12 * n, -55.0 - 5 * n) for n in range(4)]
    street = tracker()
    same, total = 0, 0
    ids: dict[int, Counter[int]] = {number: Counter() for number in range(len(lanes))}
    for frame in range(8 * fps):
        true = np.array([walker(frame / fps, *lane) for lane in lanes])
        there = np.flatnonzero((true[:, 2] > 0) & (true[:, 0] < 480))
        found = there[random.random(len(there)) < 0.85]
        jittered = true[found] + random.normal(0, 0.06, (len(found), 4)) * (30, 80, 30, 80)
        clutter = random.uniform(0, 400, (random.poisson(0.3), 2))
        drawn = [*jittered, *np.concatenate((clutter, clutter + np.array([25, 60])), axis=1)]
        (seen,) = street.update([("gate", frame / fps, boxes(*drawn, confidence=0.6))])
        for number, given_id in zip(found.tolist(), seen.tracker_id.tolist(), strict=False):
            ids[number][given_id] += 1
    for counts in ids.values():
        same += max(counts.values())
        total += sum(counts.values())
    assert same / total >= least


def test_what_a_stream_holds_does_not_grow_with_the_tracks_it_had() -> None:
    gate = tracker()
    many = np.arange(200.0)
    crowd = boxes(*np.stack((100 * many, 0 * many, 100 * many + 50, 0 * many + 90), axis=1))

    def held() -> int:
        return len(pickle.dumps(gate))

    watch(gate, 0.4, crowd, crowd)
    before = held()
    watch(gate, 0.4, *[crowd] * 100, start=10.0)
    assert held() == pytest.approx(before, rel=0.01)


# Laws


class Scene(NamedTuple):
    """Frames of several streams in the order of their arrival."""

    rows: list[Row]
    max_gap: float


# Some overlap, some touch, and the last three have no area, no width or are inside out.
PLACES = [
    *[(x, y, x + 40, y + 60) for x in (0, 25, 60, 200) for y in (0, 30)],
    *[(0, 0, 200, 200), (50, 50, 50, 50), (10, 20, 10, 90), (90, 90, 40, 30)],
]
FOUND = st.tuples(st.sampled_from(PLACES), st.sampled_from([0.1, LOW, 0.5, 0.9]), st.integers(0, 1))
ARRIVALS = st.tuples(
    st.sampled_from(["gate", "yard", "hall"]),
    st.sampled_from([0.04, 0.1, 0.5, 3.0]),
    st.integers(-4, 4),
    st.none() | st.lists(FOUND, max_size=4),
)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Frames with boxes of their own, or with those of the stream's last frame, moved a little."""
    clocks = dict.fromkeys(("gate", "yard", "hall"), 0.0)
    latest = dict.fromkeys(clocks, boxes())
    rows: list[Row] = []
    for name, seconds, shift, drawn in draw(st.lists(ARRIVALS, min_size=1, max_size=20)):
        clocks[name] += seconds
        if drawn is None:
            last = latest[name]
            found = Detections(last.xyxy + np.float32(shift), last.confidence, last.class_id)
        else:
            found = Detections(
                np.array([place for place, _, _ in drawn], np.float32).reshape(-1, 4),
                np.array([score for _, score, _ in drawn], np.float32),
                np.array([class_id for _, _, class_id in drawn], np.int64),
            )
        latest[name] = found
        rows.append((name, clocks[name], found))
    return Scene(rows, draw(st.sampled_from([0.0, 0.3, 2.0])))


def run(scene: Scene, sizes: Sequence[int]) -> tuple[list[Tracked], Tracker]:
    """Track a scene in batches of these sizes, repeated."""
    settings = TrackSettings(SETTINGS.confidence, scene.max_gap)
    made = tracker(*{name for name, _, _ in scene.rows}, settings=settings)
    seen: list[Tracked] = []
    turn = 0
    while len(seen) < len(scene.rows):
        size = sizes[turn % len(sizes)]
        seen += made.update(scene.rows[len(seen) : len(seen) + size])
        turn += 1
    return seen, made


def renamed(seen: Sequence[Tracked], rows: Sequence[Row]) -> list[object]:
    """Everything that was seen, with ids numbered by stream in the order they appear."""
    names: dict[str, dict[int, int]] = {}
    plain: list[object] = []
    for frame, (stream, _, _) in zip(seen, rows, strict=True):
        known = names.setdefault(stream, {-1: -1})

        def name(number: int, known: dict[int, int] = known) -> int:
            return known.setdefault(number, len(known))

        found = frame.detections
        parts = found.xyxy, found.confidence, found.class_id, frame.predicted, frame.confirmed
        records = [
            [(name(t.tracker_id), t.class_id, t.confidence, t.first, t.last) for t in tracks]
            for tracks in (frame.started, frame.ended)
        ]
        ids = [name(number) for number in frame.tracker_id.tolist()]
        plain.append((ids, *(part.tolist() for part in parts), frame.smooth.tolist(), records))
    return plain


@given(scenes(), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_batches_do_not_matter(scene: Scene, sizes: list[int]) -> None:
    one_by_one, _ = run(scene, [1])
    batched, _ = run(scene, sizes)
    assert renamed(batched, scene.rows) == renamed(one_by_one, scene.rows)


@given(scenes())
def test_every_track_that_started_ended_once_or_is_live(scene: Scene) -> None:
    seen, made = run(scene, [3])
    started = [track.tracker_id for frame in seen for track in frame.started]
    ended = [track.tracker_id for frame in seen for track in frame.ended]
    names = {name for name, _, _ in scene.rows}
    live = [made.live(name) for name in names]
    left = [track.tracker_id for name in names for track in made.remove(name)]
    assert sum(live) == len(left)
    assert sorted(started) == sorted(ended + left)
    assert len(set(started)) == len(started)


@given(scenes())
def test_no_id_is_used_for_two_tracks_or_twice_in_a_frame(scene: Scene) -> None:
    before, _ = run(scene, [3])
    after, _ = run(scene, [3])
    used = [
        {
            (name, number)
            for frame, (name, _, _) in zip(seen, scene.rows, strict=True)
            for number in frame.tracker_id.tolist()
            if number >= 0
        }
        for seen in (before, after)
    ]
    numbers = Counter(number for names in used for _, number in names)
    assert set(numbers.values()) <= {1}
    for frame in [*before, *after]:
        ids = frame.tracker_id[frame.tracker_id >= 0]
        assert len(set(ids.tolist())) == len(ids)


@given(scenes())
def test_detections_come_back_as_they_were_and_all_numbers_are_finite(scene: Scene) -> None:
    seen, _ = run(scene, [4])
    for frame, (_, time, found) in zip(seen, scene.rows, strict=True):
        shown, real = frame.detections, ~frame.predicted
        assert real.tolist() == sorted(real.tolist(), reverse=True)
        np.testing.assert_array_equal(shown.xyxy[real], found.xyxy)
        np.testing.assert_array_equal(shown.confidence[real], found.confidence)
        np.testing.assert_array_equal(shown.class_id[real], found.class_id)
        assert (frame.tracker_id[frame.predicted] >= 0).all()
        assert np.isfinite(shown.xyxy).all()
        assert np.isfinite(frame.smooth).all()
        assert (frame.smooth[:, 2:] >= frame.smooth[:, :2])[frame.tracker_id >= 0].all()
        for track in (*frame.started, *frame.ended):
            assert track.first <= track.last <= time
