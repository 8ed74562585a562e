"""Selecting the detections a stream keeps, and the label under which each is counted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from centernetd.config import BlurConfig, StreamConfig
from centernetd.errors import ConfigError
from centernetd.flow import EVERYTHING, DetectionClass, Filter, Thresholds
from centernetd.model.manifest import Manifest

OTHER = "other"
_LABELS_COUNTED = 20


@dataclass(frozen=True)
class StreamFilter(Filter):
    """The detections one stream keeps of one model; ``blur`` selects those blurred in it, if any.

    Class ids here are the model's own; in the stream, its classes begin at ``first_class``.
    ``counted_as`` maps each class id to its label in the metric ``detections_total``, whose
    number of series must stay bounded for models with any number of classes. ``low_stage`` is the
    share of ``confidence`` from which on the stream's tracker takes detections, and
    ``blur_low_stage`` that of the blur's.
    """

    counted_as: tuple[str, ...] = ()
    blur: Filter | None = None
    first_class: int = 0
    low_stage: float = 1.0
    blur_low_stage: float = 1.0

    @cached_property
    def floor(self) -> Filter:
        """What inference keeps: the union for all consumers, each of which filters again."""
        if self.blur is None and self.low_stage == 1.0:
            return self
        tracked = Filter(self.confidence * self.low_stage, self.class_ids)
        if self.blur is None:
            return tracked
        mine, blurred = self.class_ids, self.blur.class_ids
        return Filter(
            min(tracked.confidence, self.blur.confidence * self.blur_low_stage),
            None if mine is None or blurred is None else mine | blurred,
        )


@dataclass(frozen=True)
class StreamFilters:
    """What one stream keeps, by model, and the classes of its detections.

    ``keypoints`` is whether landmarks are recorded and logged.
    """

    by_model: Mapping[str, StreamFilter]
    classes: tuple[DetectionClass, ...]
    keypoints: bool = True

    @cached_property
    def shows(self) -> Thresholds:
        """What is counted, recorded and logged of the stream."""
        return replace(self._thresholds(self.by_model), keypoints=self.keypoints)

    @cached_property
    def shows_of_kept(self) -> Filter | Thresholds:
        """What is shown of what inference keeps, which takes no time if that is everything."""
        only_shown = all(each.floor is each for each in self.by_model.values())
        return EVERYTHING if only_shown and self.keypoints else self.shows

    @cached_property
    def covers(self) -> Thresholds:
        """What is blurred in the stream."""
        return self._thresholds({name: f.blur for name, f in self.by_model.items() if f.blur})

    @cached_property
    def counted_as(self) -> Sequence[tuple[str, str]]:
        """The model and label under which each class is counted."""
        return [(model, self.by_model[model].counted_as[n]) for model, n, _ in self.classes]

    @property
    def counted(self) -> Iterator[tuple[str, str]]:
        """The models and labels that are counted from 0: those asked for, or a model's only one.

        All others are counted from their first detection, so that a model with many labels has no
        more series than it needs.
        """
        for each, (model, number, _) in zip(self.counted_as, self.classes, strict=True):
            part = self.by_model[model]
            if len(part.counted_as) == 1 if part.class_ids is None else number in part.class_ids:
                yield each

    def _thresholds(self, accepted: Mapping[str, Filter]) -> Thresholds:
        least = np.full(len(self.classes), np.inf, np.float32)
        for class_id, (model, number, _) in enumerate(self.classes):
            part = accepted.get(model)
            if part is not None and (part.class_ids is None or number in part.class_ids):
                least[class_id] = part.confidence
        return Thresholds(least)


def filters_of(
    stream: StreamConfig, models: Mapping[str, Manifest], low_stage: float = 1.0
) -> StreamFilters:
    """Return the filters of ``stream`` for its models, which are in ``models`` by name.

    Labels select the classes of that label in every model; the default threshold is each model's.
    ``low_stage`` is the share of a threshold that suffices to continue a track, of objects that
    the stream follows or of what it blurs.

    Raises
    ------
    ConfigError
        When none of the models has a label that is named.
    """
    if unknown := list(unknown_labels(stream, models)):
        raise ConfigError.joined(unknown)
    shown, covered = _shown(stream), _covered(stream)
    by_model: dict[str, StreamFilter] = {}
    classes: list[DetectionClass] = []
    for name in stream.models:
        model, least = models[name], stream.detect.confidence
        made = make_filter(
            model.labels,
            model.confidence if least is None else least,
            stream.detect.labels,
            stream.privacy.blur if name in covered else None,
            len(classes),
        )
        objects = low_stage if stream.tracks else 1.0
        made = replace(made, low_stage=objects, blur_low_stage=low_stage)
        by_model[name] = made if name in shown else replace(made, class_ids=frozenset())
        classes += [DetectionClass(name, *each) for each in enumerate(model.labels)]
    return StreamFilters(by_model, tuple(classes), stream.privacy.shows_keypoints)


def unknown_labels(stream: StreamConfig, models: Mapping[str, Manifest]) -> Iterator[ConfigError]:
    """Yield an error for each label of ``stream`` that none of the models it is for has.

    Keys of which ``models`` does not have all models are not checked.
    """
    blur, shown = stream.privacy.blur, _shown(stream)
    asked = {"detect": (shown, stream.detect.labels)}
    asked["privacy.blur"] = (_covered(stream), blur.labels if blur else ())
    for kind, places in (("zones", stream.zones), ("lines", stream.lines)):
        asked |= {f"{kind}.{name}": (shown, place.labels) for name, place in places.items()}
    for key, (names, only) in asked.items():
        if models.keys() >= set(names):
            known = [label for name in names for label in models[name].labels]
            some = f"{', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
            for label in (each for each in only if each not in known):
                why = f"the model has no label {label!r}; it has {some}"
                yield ConfigError(f"streams.{stream.name}.{key}.labels: {why}")


def _shown(stream: StreamConfig) -> list[str]:
    return [name for name in stream.models if name != stream.blur_only]


def _covered(stream: StreamConfig) -> list[str]:
    blur = stream.privacy.blur
    return [name for name in stream.models if blur and blur.model in (None, name)]


def make_filter(
    model_labels: Sequence[str],
    confidence: float,
    only: Sequence[str] = (),
    blur: BlurConfig | None = None,
    first_class: int = 0,
) -> StreamFilter:
    """Return the filter for a model, given ``detect.labels`` in ``only`` and ``blur``.

    No labels select every class. Labels that the model does not have are ignored.
    """
    named = set(only or model_labels[:_LABELS_COUNTED])
    return StreamFilter(
        confidence=confidence,
        class_ids=_class_ids(model_labels, only),
        counted_as=tuple(label if label in named else OTHER for label in model_labels),
        blur=None
        if blur is None
        else Filter(blur.confidence, _class_ids(model_labels, blur.labels)),
        first_class=first_class,
    )


def _class_ids(model_labels: Sequence[str], only: Sequence[str]) -> frozenset[int] | None:
    if not only:
        return None
    return frozenset(model_labels.index(label) for label in only if label in model_labels)
