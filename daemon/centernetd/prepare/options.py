"""The user's options for preparing a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareOptions:
    """The user's description of a model; None leaves a field to the layout or the file.

    The fields are those of `Manifest`, plus `heads`: pairs of a role and the name of its output.
    Outputs that are not named there are dropped.
    """

    layout: str | None = None
    heads: tuple[tuple[str, str], ...] = ()
    input_size: tuple[int, int] | None = None
    order: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: str | None = None
    labels: tuple[str, ...] | None = None
    confidence: float | None = None
    nms_iou: float | None = None
    top_k: int | None = None
    precision: str | None = None
