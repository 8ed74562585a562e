"""What a stream keeps of each of its models, and what its sinks see of that."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.config import (
    BlurConfig,
    DetectConfig,
    EventsConfig,
    PrivacyConfig,
    SourceUri,
    StreamConfig,
)
from centernetd.errors import ConfigError
from centernetd.flow import DetectionClass, Detections
from centernetd.inference.filter import StreamFilters, filters_of
from tests.manifests import plain

FACES = plain(labels=("face",), confidence=0.4)
ZOO = plain(labels=("cat", "face", "dog"), confidence=0.3)
MODELS = {"zoo": ZOO, "faces": FACES, "unused": plain(labels=("cow",))}
BOTH = ("faces", "zoo")


def filters(models: tuple[str, ...] = BOTH, **stream: object) -> StreamFilters:
    source = SourceUri("rtsp://192.0.2.1/")
    config = StreamConfig("gate", source, models=models, **stream)  # type: ignore[arg-type]
    return filters_of(config, MODELS)


def covering(**blur: Any) -> PrivacyConfig:
    return PrivacyConfig(blur=BlurConfig(**blur))


def found(*of: tuple[float, int]) -> Detections:
    """Detections of these scores and class ids."""
    scores, class_ids = zip(*of, strict=True) if of else ((), ())
    boxes = np.zeros((len(of), 4), np.float32)
    return Detections(boxes, np.array(scores, np.float32), np.array(class_ids, np.int64))


def test_the_classes_of_a_stream_are_those_of_its_models_in_its_order() -> None:
    classes = filters().classes
    assert classes == (
        DetectionClass("faces", 0, "face"),
        DetectionClass("zoo", 0, "cat"),
        DetectionClass("zoo", 1, "face"),
        DetectionClass("zoo", 2, "dog"),
    )
    assert [each.model for each in filters(("zoo", "faces")).classes] == ["zoo"] * 3 + ["faces"]


@pytest.mark.parametrize("shown", [True, False])
def test_landmarks_are_shown_as_configured(shown: bool) -> None:
    points = np.zeros((2, 5, 3), np.float32)
    both = replace(found((0.9, 0), (0.1, 0)), keypoints=points)
    seen = filters(privacy=PrivacyConfig(keypoints=shown)).shows(both)
    assert len(seen) == 1
    assert (seen.keypoints is not None) == shown


def test_each_model_has_its_own_threshold_unless_the_stream_sets_one() -> None:
    mixed = found((0.39, 0), (0.4, 0), (0.29, 1), (0.3, 3))
    assert filters().shows(mixed).class_id.tolist() == [0, 3]
    every = filters(detect=DetectConfig(confidence=0.29)).shows(mixed)
    assert every.class_id.tolist() == [0, 0, 1, 3]


def test_a_label_selects_its_class_in_every_model_that_has_it() -> None:
    mixed = found((0.9, 0), (0.9, 1), (0.9, 2), (0.9, 3))
    of_both = filters(detect=DetectConfig(labels=("face",)))
    assert of_both.shows(mixed).class_id.tolist() == [0, 2]
    dogs = filters(detect=DetectConfig(labels=("dog",)), privacy=covering(labels=("face",)))
    assert dogs.shows(mixed).class_id.tolist() == [3]
    assert dogs.covers(mixed).class_id.tolist() == [0, 2]
    assert list(dogs.counted) == [("zoo", "dog")]


def test_what_a_tracker_takes_is_kept() -> None:
    source = SourceUri("rtsp://192.0.2.1/")
    plainly = StreamConfig("gate", source, models=("zoo",))
    tracked = replace(plainly, events=EventsConfig(tracks="always"))
    blurred = replace(plainly, privacy=covering(confidence=0.2))
    for config, floor in (
        (plainly, 0.3),
        (tracked, 0.15),
        (blurred, 0.1),
        (replace(blurred, events=tracked.events), 0.1),
        (replace(tracked, privacy=covering(confidence=0.4)), 0.15),
    ):
        kept = filters_of(config, MODELS, 0.5).by_model["zoo"]
        assert (kept.confidence, kept.floor.confidence) == (0.3, floor)


def test_a_model_with_many_labels_has_no_series_before_it_finds_something() -> None:
    many = {"zoo": plain(labels=tuple(f"animal {number}" for number in range(80)))}
    config = StreamConfig("gate", SourceUri("rtsp://192.0.2.1/"), models=("zoo",))
    every = filters_of(config, many)
    assert list(every.counted) == []
    assert len({*every.counted_as}) == 21


@pytest.mark.parametrize("models", [("zoo",), BOTH])
def test_a_label_that_no_model_of_the_stream_has_is_refused_by_key(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"streams\.gate\.detect\.labels.*'cow'.*cat, face, dog"):
        filters(models, detect=DetectConfig(labels=("cow",)))
    key = r"streams\.gate\.privacy\.blur\.labels"
    with pytest.raises(ConfigError, match=key + r".*'cow'.*cat, face, dog"):
        filters(models, privacy=covering(labels=("cow",)))


def test_blur_covers_what_its_own_model_finds_whatever_the_stream_shows() -> None:
    mixed = found((0.25, 0), (0.9, 1), (0.25, 2), (0.9, 3))
    both = filters(privacy=covering(model="faces"))
    assert both.covers(mixed).class_id.tolist() == [0]
    assert both.shows(mixed).class_id.tolist() == [1, 3]
    hidden = filters(("zoo", "faces"), blur_only="faces", privacy=covering(model="faces"))
    mixed = found((0.9, 0), (0.25, 3), (0.9, 3))
    assert hidden.covers(mixed).class_id.tolist() == [3, 3]
    assert hidden.shows(mixed).class_id.tolist() == [0]
    assert ("faces", "face") in set(both.counted)
    assert list(hidden.counted) == []
    floor = hidden.by_model["faces"].floor
    assert len(floor(found((0.25, 0)))) == 1, "inference keeps it"


@pytest.mark.parametrize("labels", [{"privacy": ("dog",)}, {"detect": ("face",)}])
def test_a_label_of_the_other_model_is_not_the_blurs_nor_its_label_the_streams(
    labels: dict[str, tuple[str, ...]],
) -> None:
    """The stream shows what `other` finds, and `faces` only finds what is covered."""
    with pytest.raises(ConfigError, match="has no label"):
        filters(
            ("unused", "faces"),
            blur_only="faces",
            detect=DetectConfig(labels=labels.get("detect", ())),
            privacy=covering(model="faces", labels=labels.get("privacy", ())),
        )


SCORES = st.floats(0, 1, width=32)


@given(
    scores=st.lists(st.tuples(SCORES, st.integers(0, 3)), max_size=20),
    confidence=st.none() | SCORES,
    labels=st.sets(st.sampled_from(["cat", "face", "dog"])),
)
def test_a_stream_shows_what_each_of_its_models_alone_would(
    scores: list[tuple[float, int]], confidence: float | None, labels: set[str]
) -> None:
    detect = DetectConfig(confidence=confidence, labels=tuple(labels))
    together = filters(detect=detect)
    expected: list[tuple[float, int]] = []
    for score, class_id in scores:
        model, number, _ = together.classes[class_id]
        if len(together.by_model[model](found((score, number)))):
            expected.append((score, class_id))
    shown = together.shows(found(*scores))
    assert list(zip(shown.confidence.tolist(), shown.class_id.tolist(), strict=True)) == expected


def test_the_detections_of_several_models_are_joined_best_first() -> None:
    points = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    faces = replace(found((0.9, 0), (0.4, 0)), keypoints=points)
    joined = Detections.joined([faces, found(), found((0.95, 3), (0.4, 1))])
    assert joined.class_id.tolist() == [3, 0, 0, 1]
    assert joined.confidence.tolist() == pytest.approx([0.95, 0.9, 0.4, 0.4])
    assert joined.xyxy.shape == (4, 4)
    assert joined.keypoints is not None
    np.testing.assert_array_equal(joined.keypoints[1:3], points)
    assert np.isnan(joined.keypoints[[0, 3]]).all(), "these have no joints"
    assert Detections.joined([found(), found((0.5, 1))]).keypoints is None
