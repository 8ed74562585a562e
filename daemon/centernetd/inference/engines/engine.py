"""The interface of an engine: uint8 rows in, tensors out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Slot:
    """Memory for one batch: ``rows`` is uint8 [max_batch, height, width, 3], BGR.

    The memory belongs to the engine that created the slot (a GPU engine pins it): rows are
    written in place and never replaced.
    """

    rows: NDArray[np.uint8]


@dataclass(frozen=True)
class EngineInfo:
    """The backend, precision and device, as published in the metric ``engine_info``."""

    backend: str
    precision: str
    device: str


class Engine(Protocol):
    """Runs a prepared model on batches of rows.

    `enqueue` and `wait` are called by two threads, the first filling one slot while the second
    waits for another; slots are waited for in the order in which they were enqueued. `enqueue`
    is always called by the same thread, and creates thread-bound resources at its first call.
    """

    info: EngineInfo

    def make_slots(self, count: int) -> Sequence[Slot]:
        """Return ``count`` slots in memory suited to this engine."""

    def bucket(self, size: int) -> int:
        """Return the batch size that runs for ``size`` frames; extra rows are padding."""

    def enqueue(self, slot: Slot, size: int) -> None:
        """Start running the first ``size`` rows of ``slot``, without waiting.

        Raises
        ------
        EngineError
            When the engine or its device has failed; nothing can be run after that.
        """

    def wait(self, slot: Slot) -> Tensors:
        """Wait for the outputs of ``slot``, by name, each [size, ...].

        The arrays are valid until the slot is enqueued again.

        Raises
        ------
        EngineError
            As for `enqueue`.
        """

    def durations(self, slot: Slot) -> Mapping[str, float]:
        """Return the seconds of each step of the batch last waited for in ``slot``.

        The steps are ``execute`` and, if memory is not shared, ``copy_in`` and ``copy_out``.
        """

    def close(self) -> None:
        """Free everything; idempotent."""
