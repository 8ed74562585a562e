"""What a user says of a model that is to be prepared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareOptions:
    """What the user says of a model; None leaves it to the layout or the file.

    The fields are those of `Manifest`, and `heads`: pairs of a role and the name of the output
    that has it. Outputs that are not named there are dropped.
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
