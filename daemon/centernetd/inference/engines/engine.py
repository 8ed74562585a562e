"""What an engine is: uint8 rows in, tensors out, nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Slot:
    """A place for one batch: ``rows`` is uint8 [max_batch, height, width, 3], BGR.

    The memory belongs to the engine that made the slot (a GPU engine pins it): rows are
    written in place and never replaced.
    """

    rows: NDArray[np.uint8]


@dataclass(frozen=True)
class EngineInfo:
    """What runs and on what, as the metric ``engine_info`` tells it."""

    backend: str
    precision: str
    device: str


class Engine(Protocol):
    """Runs a prepared model on batches of rows.

    `enqueue` and `wait` are called by two threads, the first filling one slot while the second
    waits for another; slots come back in the order in which they were enqueued. `enqueue` is
    called by the same thread always: what a backend ties to a thread, it makes at the first call.
    """

    info: EngineInfo

    def make_slots(self, count: int) -> Sequence[Slot]:
        """Return ``count`` slots in memory that suits this engine."""

    def bucket(self, size: int) -> int:
        """Return the batch that really runs for ``size`` frames: spare rows are padding."""

    def enqueue(self, slot: Slot, size: int) -> None:
        """Start the first ``size`` rows of ``slot`` on their way, without waiting.

        Raises
        ------
        EngineError
            When the engine or its device has failed; nothing can be run any more.
        """

    def wait(self, slot: Slot) -> Tensors:
        """Wait for the outputs of ``slot``: name to [size, ...].

        The arrays are valid until the slot is enqueued again.

        Raises
        ------
        EngineError
            As for `enqueue`.
        """

    def durations(self, slot: Slot) -> Mapping[str, float]:
        """Return the seconds of each step of the batch last waited for in ``slot``.

        The steps are ``execute`` and, where memory is not shared, ``copy_in`` and ``copy_out``.
        """

    def close(self) -> None:
        """Free everything; may be called twice."""
