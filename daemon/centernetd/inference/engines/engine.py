"""The interface of an engine and of its slots: uint8 rows in, tensors out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Image
from centernetd.inference.letterbox import Geometry

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class EngineInfo:
    """The backend, precision and device, as published in the metric ``engine_info``."""

    backend: str
    precision: str
    device: str


class Slot(Protocol):
    """Room for one batch, which is filled, enqueued and waited for, again and again.

    ``rows`` is uint8 [max_batch, height, width, 3], BGR. The memory belongs to the engine that
    created the slot (a GPU engine pins it): rows are written in place and never replaced.
    """

    rows: NDArray[np.uint8]

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        """Letterbox ``image`` into ``row`` by ``geometry``, the map from its pixels.

        Different rows may be put by different threads.
        """

    def move(self, row: int, to: int) -> None:
        """Replace the picture in row ``to`` by that of ``row``."""

    def clear(self) -> None:
        """Forget the pictures that were put, as the batch is not to be enqueued."""

    def enqueue(self, size: int) -> None:
        """Start running the first ``size`` rows, without waiting.

        Raises
        ------
        EngineError
            When the engine or its device has failed; nothing can be run after that.
        ValueError
            When the slot is already enqueued.
        """

    def wait(self) -> Tensors:
        """Wait for the outputs, by name, each [size, ...].

        The arrays are valid until the slot is enqueued again.

        Raises
        ------
        EngineError
            As for `enqueue`.
        ValueError
            When the slot is not enqueued.
        """

    def durations(self) -> Mapping[str, float]:
        """Return the seconds of each step of the batch last waited for.

        The steps are ``execute`` and, if memory is not shared, ``copy_out`` and, unless all of its
        pictures were on the GPU, ``copy_in``.
        """


class Engine(Protocol):
    """Runs a prepared model on batches in its slots.

    Slots are enqueued and waited for by two threads, the first filling one slot while the second
    waits for another, in the order in which they were enqueued. Only one thread enqueues; the
    first call creates what is bound to that thread.
    """

    info: EngineInfo
    takes_surfaces: bool = False
    """Whether slots take pictures that are on the GPU as they are."""

    def make_slots(self, count: int) -> Sequence[Slot]:
        """Return ``count`` slots in memory suited to this engine."""

    def bucket(self, size: int) -> int:
        """Return the batch size that runs for ``size`` frames; extra rows are padding."""

    def prepare_smaller(self, must_stop: Callable[[], bool]) -> None:
        """Prepare sizes of batches for which a start shouldn't wait; `bucket` then returns them.

        Call it in any thread, once every slot there will be has run a batch of the largest, also
        while others are run. No further size is begun once ``must_stop`` returns True.

        Raises
        ------
        EngineError
            When memory is short or the engine fails; batches are run as before.
        ModelError
            When the file can't be loaded again.
        """
        return

    def close(self) -> None:
        """Free everything; idempotent."""
