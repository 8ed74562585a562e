"""Selecting the detections a stream keeps, and the label under which each is counted."""

from collections.abc import Sequence
from dataclasses import dataclass

from centernetd.config import BlurConfig, StreamConfig
from centernetd.errors import ConfigError
from centernetd.flow import Filter
from centernetd.model.manifest import Manifest

OTHER = "other"
_LABELS_COUNTED = 20


@dataclass(frozen=True)
class StreamFilter(Filter):
    """The detections one stream keeps; ``blur`` selects those blurred in it, if any.

    ``counted_as`` maps each class id to its label in the metric ``detections_total``, whose
    number of series must stay bounded for models with any number of classes.
    """

    counted_as: tuple[str, ...] = ()
    blur: Filter | None = None

    @property
    def floor(self) -> Filter:
        """What inference keeps: the union for all consumers, each of which filters again."""
        if self.blur is None:
            return self
        mine, blurred = self.class_ids, self.blur.class_ids
        return Filter(
            min(self.confidence, self.blur.confidence),
            None if mine is None or blurred is None else mine | blurred,
        )


def filter_of(stream: StreamConfig, model: Manifest) -> StreamFilter:
    """Return the filter of ``stream`` for ``model``, whose threshold is the default.

    Raises
    ------
    ConfigError
        When a label is not one of the model's.
    """
    detect = stream.detect
    for kind, places in (("zones", stream.zones), ("lines", stream.lines)):
        for name, place in places.items():
            _class_ids(f"streams.{stream.name}.{kind}.{name}.labels", model.labels, place.labels)
    confidence = model.confidence if detect.confidence is None else detect.confidence
    return make_filter(stream.name, model.labels, confidence, detect.labels, stream.blur)


def make_filter(
    stream: str,
    model_labels: Sequence[str],
    confidence: float,
    only: Sequence[str],
    blur: BlurConfig | None = None,
) -> StreamFilter:
    """Return the filter given ``detect.labels`` in ``only`` (empty: all) and ``blur``.

    Raises
    ------
    ConfigError
        When a label is not one of the model's.
    """
    named = set(only or model_labels[:_LABELS_COUNTED])
    blurred = None
    if blur is not None:
        key = f"streams.{stream}.blur.labels"
        blurred = Filter(blur.confidence, _class_ids(key, model_labels, blur.labels))
    return StreamFilter(
        confidence=confidence,
        class_ids=_class_ids(f"streams.{stream}.detect.labels", model_labels, only),
        counted_as=tuple(label if label in named else OTHER for label in model_labels),
        blur=blurred,
    )


def _class_ids(key: str, model_labels: Sequence[str], only: Sequence[str]) -> frozenset[int] | None:
    for label in only:
        if label not in model_labels:
            raise ConfigError(
                f"{key}: the model has no label {label!r}; "
                f"it has {', '.join(model_labels[:8])}{', ...' if len(model_labels) > 8 else ''}"
            )
    return frozenset(model_labels.index(label) for label in only) or None
