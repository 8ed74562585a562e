"""From an engine's tensors to detections in source pixels."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from centernetd.config import BlurConfig
from centernetd.flow import Detections
from centernetd.inference.filter import OTHER, StreamFilter, make_filter
from centernetd.inference.letterbox import Geometry
from centernetd.inference.postprocess import View, postprocess

Array = NDArray[np.float32]
SAME = Geometry(1.0, 1.0, 0.0, 0.0)
ALL = StreamFilter(0.4, None, ("cat", "dog"))


def rows(*of: tuple[float, ...]) -> Array:
    return np.array(of, np.float32).reshape(-1, 6)


def process(
    found: Array,
    *,
    keypoints: Array | None = None,
    geometry: Geometry = SAME,
    stream_filter: StreamFilter = ALL,
    nms_iou: float | None = None,
) -> tuple[Detections, int]:
    """Process ``found`` in the middle of a batch, whose other frames must not matter."""
    other = np.array([[0, 0, 9, 9, 0.95, 1]] * len(found), np.float32).reshape(-1, 6)
    views = [
        View((50, 50), SAME, ALL),
        View((100, 200), geometry, stream_filter),
        View((9, 9), SAME, ALL),
    ]
    points = None if keypoints is None else np.stack([np.ones_like(keypoints)] * 3)
    if points is not None and keypoints is not None:
        points[1] = keypoints
    detections, broken = postprocess(np.stack([other, found, other]), points, views, nms_iou)
    assert len(detections[0]) == len(detections[2]) == (len(found) if nms_iou is None else 1)
    return detections[1], broken


def test_boxes_are_mapped_to_source_pixels_and_clipped_to_the_picture() -> None:
    found, broken = process(
        rows((10, 20, 30, 40, 0.9, 1), (-50, -50, 900, 900, 0.8, 0)),
        geometry=Geometry(2.0, 4.0, 10.0, 20.0),
    )
    np.testing.assert_array_equal(found.xyxy, [[0, 0, 10, 5], [0, 0, 200, 100]])
    np.testing.assert_array_equal(found.class_id, [1, 0])
    assert found.confidence == pytest.approx([0.9, 0.8])
    assert found.xyxy.dtype == found.confidence.dtype == np.float32
    assert found.class_id.dtype == np.int64
    assert found.keypoints is None
    assert broken == 0


def test_a_box_outside_the_picture_is_dropped() -> None:
    found, broken = process(
        rows((-30, 5, -10, 15, 0.9, 0), (0, 0, 9, 9, 0.8, 1), (10, 100, 20, 120, 0.7, 0)),
        keypoints=np.zeros((3, 2, 3), np.float32),
    )
    np.testing.assert_array_equal(found.class_id, [1])
    assert found.keypoints is not None
    assert len(found.xyxy) == len(found.confidence) == len(found.keypoints) == 1
    assert broken == 0


def test_a_score_at_the_threshold_is_kept() -> None:
    found, _ = process(rows((0, 0, 9, 9, 0.4, 0), (0, 0, 9, 9, 0.3999, 0)))
    assert found.confidence == pytest.approx([0.4])


def test_only_the_classes_that_are_wanted_are_kept() -> None:
    stream_filter = StreamFilter(0.4, frozenset({1}), ("cat", "dog"))
    found, broken = process(
        rows((0, 0, 9, 9, 0.9, 0), (0, 0, 5, 5, 0.8, 1)), stream_filter=stream_filter
    )
    np.testing.assert_array_equal(found.class_id, [1])
    assert broken == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(6))
def test_rows_that_are_not_finite_are_thrown_away_and_counted(column: int, value: float) -> None:
    found = rows((0, 0, 9, 9, 0.9, 0), (0, 0, 5, 5, 0.8, 1))
    found[0, column] = value
    kept, broken = process(found)
    np.testing.assert_array_equal(kept.class_id, [1])
    assert broken == 1


@pytest.mark.parametrize("class_id", [-1, 2, 1e9])
def test_a_class_that_the_model_has_not_is_thrown_away_and_counted(class_id: float) -> None:
    kept, broken = process(rows((0, 0, 9, 9, 0.9, class_id)))
    assert (len(kept), broken) == (0, 1)


@pytest.mark.parametrize("class_id", [0, 1])
def test_a_broken_row_costs_no_other(class_id: int) -> None:
    kept, broken = process(rows((0, 0, 9, 9, 0.9, np.nan), (0, 0, 5, 5, 0.8, class_id)))
    np.testing.assert_array_equal(kept.class_id, [class_id])
    assert broken == 1


def test_keypoints_follow_their_boxes_and_keep_their_scores() -> None:
    keypoints = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    found, _ = process(
        rows((0, 0, 9, 9, 0.1, 0), (0, 0, 9, 9, 0.9, 0)),
        keypoints=keypoints,
        geometry=Geometry(2.0, 1.0, 0.0, 1.0),
    )
    np.testing.assert_array_equal(found.keypoints, [[[3, 6, 8], [4.5, 9, 11]]])
    np.testing.assert_array_equal(keypoints.ravel(), range(12))


def test_a_box_with_a_broken_keypoint_is_thrown_away() -> None:
    keypoints = np.zeros((1, 2, 3), np.float32)
    keypoints[0, 1, 0] = np.nan
    kept, broken = process(rows((0, 0, 9, 9, 0.9, 0)), keypoints=keypoints)
    assert (len(kept), broken) == (0, 1)
    assert kept.keypoints is not None
    assert kept.keypoints.shape == (0, 2, 3)


def test_nothing_found_is_an_empty_set_of_the_same_shapes() -> None:
    for nms_iou in (None, 0.3):
        found, broken = process(rows((0, 0, 9, 9, 0.0, 0)), nms_iou=nms_iou)
        assert (found.xyxy.shape, found.confidence.shape, broken) == ((0, 4), (0,), 0)


def test_suppression_keeps_the_best_of_each_class_in_order() -> None:
    found, _ = process(
        rows(
            (0, 0, 10, 10, 0.9, 0),
            (0, 0, 10, 9, 0.8, 1),  # of another class
            (1, 0, 11, 10, 0.7, 0),  # IoU 0.82 with the first
            (50, 50, 60, 60, 0.6, 0),
            (0, 5, 10, 15, 0.5, 0),  # IoU 0.33 with the first
            (0, 40, 10, 50, 0.45, 0),
            (0, 50, 10, 60, 0.4, 0),  # just below the last
        ),
        nms_iou=0.4,
    )
    assert found.confidence == pytest.approx([0.9, 0.8, 0.6, 0.5, 0.45, 0.4])


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_suppression_is_apart_for_each_frame_and_class(seed: int, iou: float) -> None:
    """OpenCV sets classes apart by their coordinates, some of which are negative."""
    random = np.random.default_rng(seed)
    corner = random.uniform(-30, 40, (3, 12, 2))
    size, score = random.uniform(5, 40, (3, 12, 2)), random.uniform(0.4, 1, (3, 12, 1))
    classes = random.integers(0, 2, (3, 12, 1))
    frames = np.concatenate([corner, corner + size, -np.sort(-score, 1), classes], 2)
    frames = frames.astype(np.float32)
    view = View((50, 50), SAME, ALL)
    together, _ = postprocess(frames, None, [view] * 3, iou)
    for rows_of_one, found in zip(frames, together, strict=True):
        by_class = [rows_of_one[rows_of_one[:, 5] == number] for number in (0, 1)]
        alone = [postprocess(part[None], None, [view], iou)[0][0] for part in by_class if len(part)]
        np.testing.assert_array_equal(found.xyxy, Detections.joined(alone).xyxy)


def test_a_wild_box_costs_no_other_frame_a_detection() -> None:
    """A broken model may return numbers that are finite, and nothing else."""
    good = rows((10, 10, 50, 50, 0.9, 0), (100, 100, 140, 140, 0.8, 0), (200, 20, 240, 60, 0.7, 0))
    for wild in (1e9, 1e12, 1e17, 1e30):
        broken = rows((-wild, -wild, wild, wild, 0.9, 0), *[(0,) * 6] * 2)
        views = [View((480, 640), SAME, ALL)] * 2
        (_, found), _ = postprocess(np.stack([broken, good]), None, views, 0.3)
        assert len(found) == 3


def test_the_results_own_their_memory() -> None:
    tensor = rows((1, 2, 3, 4, 0.9, 1))
    found, _ = process(tensor)
    tensor[:] = 0
    np.testing.assert_array_equal(found.xyxy, [[1, 2, 3, 4]])
    assert found.confidence == pytest.approx([0.9])


def test_a_streams_labels_become_class_ids_and_bounded_counters() -> None:
    stream_filter = make_filter(["cat", "dog", "cow"], 0.3, ["cow", "cat"])
    assert stream_filter == StreamFilter(0.3, frozenset({0, 2}), ("cat", OTHER, "cow"))


def test_without_labels_every_class_is_kept_and_20_of_them_counted_by_name() -> None:
    labels = [f"class_{n}" for n in range(80)]
    stream_filter = make_filter(labels, 0.3, [])
    assert stream_filter.class_ids is None
    assert stream_filter.counted_as == (*labels[:20], *[OTHER] * 60)


CLASSES = st.sampled_from([(), ("cat",), ("dog",), ("cat", "dog")])


@given(
    scores=st.lists(
        st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), min_size=1, max_size=20
    ),
    detect=st.tuples(st.floats(0, 1), CLASSES),
    blur=st.tuples(st.floats(0, 1), CLASSES),
    suppress=st.booleans(),
)
@example(scores=[(0.0, 1), (0.0, 0)], detect=(0.0, ()), blur=(0.0, ("cat",)), suppress=True)
def test_what_is_kept_for_one_consumer_changes_nothing_for_another(
    scores: list[tuple[float, int]],
    detect: tuple[float, tuple[str, ...]],
    blur: tuple[float, tuple[str, ...]],
    suppress: bool,
) -> None:
    """Each gets what it would get if it were the only one."""
    scores.sort(reverse=True)
    found = rows(*((n, n, n + 9, n + 9, *score) for n, score in enumerate(scores)))
    both = make_filter(["cat", "dog"], *detect, BlurConfig(confidence=blur[0], labels=blur[1]))
    assert both.blur is not None
    for filtered, (confidence, labels) in ((both, detect), (both.blur, blur)):
        alone = make_filter(["cat", "dog"], confidence, labels)
        kept, together = (
            postprocess(
                found[None], None, [View((50, 50), SAME, stream_filter)], 0.5 if suppress else None
            )
            for stream_filter in (alone, both)
        )
        expected, mine = kept[0][0], filtered(together[0][0])
        np.testing.assert_array_equal(mine.xyxy, expected.xyxy)
        np.testing.assert_array_equal(mine.confidence, expected.confidence)
        np.testing.assert_array_equal(mine.class_id, expected.class_id)


def test_of_two_boxes_on_one_thing_one_is_left() -> None:
    two = rows((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.7, 0))
    found, _ = process(two, nms_iou=0.4, keypoints=np.zeros((2, 1, 3), np.float32))
    assert found.confidence == pytest.approx([0.9])
    assert found.keypoints is not None
    assert len(found.keypoints) == 1
