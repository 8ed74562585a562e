"""Which detections a stream keeps, and under which label each is counted."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.errors import ConfigError

OTHER = "other"
_LABELS_COUNTED = 20


@dataclass(frozen=True)
class Wanted:
    """What one stream asks of the detections; ``class_ids`` None means every class.

    ``counted_as`` gives each class id's label in the metric ``detections_total``, whose number
    of series must stay bounded however many classes a model has.
    """

    confidence: float
    class_ids: frozenset[int] | None
    counted_as: tuple[str, ...]


def resolve(
    stream: str, model_labels: Sequence[str], confidence: float, only: Sequence[str]
) -> Wanted:
    """Return what ``stream`` wants, given its ``detect.labels`` (empty: all).

    Raises
    ------
    ConfigError
        When a label isn't one of the model's.
    """
    for label in only:
        if label not in model_labels:
            raise ConfigError(
                f"streams.{stream}.detect.labels: the model has no label {label!r}; "
                f"it has {', '.join(model_labels[:8])}{', ...' if len(model_labels) > 8 else ''}"
            )
    named = set(only or model_labels[:_LABELS_COUNTED])
    return Wanted(
        confidence=confidence,
        class_ids=frozenset(model_labels.index(label) for label in only) or None,
        counted_as=tuple(label if label in named else OTHER for label in model_labels),
    )
