"""The common part of GPU engines: slots in pinned memory, copies overlapping compute."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from centernetd.cuda import Device, DeviceBuffer, Event, PinnedBuffer, Stream, copy_async
from centernetd.errors import EngineError
from centernetd.inference.engines.engine import EngineInfo, Slot, Tensors

log = logging.getLogger(__name__)

_lost: list["Network"] = []
"""Networks that can't be freed, mostly after a GPU failure: trying may abort the process."""


@dataclass(frozen=True)
class Tensor:
    """An input or output; ``shape`` is that of one row of the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return prod(self.shape) * self.dtype.itemsize


class Network(Protocol):
    """A model loaded on the GPU, which runs on the CUDA stream it was loaded with."""

    @property
    def info(self) -> EngineInfo:
        """The backend, precision and device."""

    @property
    def input(self) -> Tensor:
        """The input tensor of pixel rows."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """The output tensors."""

    @property
    def one_shape(self) -> bool:
        """Whether changing the batch size is so expensive that all batches are padded alike."""

    def launch(self, batch: int, addresses: Mapping[str, int]) -> None:
        """Enqueue one run on ``batch`` rows; ``addresses`` are those of the tensors on the device.

        Called by one thread only; returns before the GPU has finished.

        Raises
        ------
        EngineError
            When the GPU or the backend rejects the run.
        """

    def close(self) -> None:
        """Free everything; idempotent. The tensors' memory must still exist.

        Raises
        ------
        EngineError
            When freeing is not possible.
        """


@dataclass(frozen=True)
class Span:
    """One step of a batch on the GPU, between two events."""

    begin: Event
    end: Event

    @contextmanager
    def on(self, cuda_stream: Stream) -> Iterator[None]:
        """Time the work enqueued on ``cuda_stream`` inside the block as this step."""
        cuda_stream.record(self.begin)
        yield
        cuda_stream.record(self.end)


@dataclass(frozen=True, eq=False)
class GpuSlot(Slot):
    """A slot's memory on the host and the device, and the steps of its batch.

    ``rows`` and ``results`` are views of pinned memory.
    """

    host: Mapping[str, PinnedBuffer]
    device: Mapping[str, DeviceBuffer]
    results: Mapping[str, NDArray[np.float32]]
    addresses: Mapping[str, int]
    copy_in: Span
    execute: Span
    copy_out: Span


class GpuEngine:
    """Runs a network batch after batch; the copies of one overlap the compute of another.

    Copies in, execution and copies out have a CUDA stream each, ordered by events. A slot's
    memory belongs to the GPU from `enqueue` until `wait` returns. `enqueue` is called by one
    thread, `wait` by another.
    """

    def __init__(
        self, index: int, max_batch: int, load: Callable[[Device, Stream], Network]
    ) -> None:
        """Use GPU ``index``; ``load`` returns the network, to run on the given CUDA stream.

        Raises
        ------
        EngineError
            When the GPU does not exist or has too little memory.
        ModelError
            As ``load`` does.
        """
        self._max_batch = max_batch
        self._device = Device(index)
        self._device.use()
        self._enqueued: dict[int, int] = {}  # number of rows by id of each slot on the GPU
        self._is_lost = False
        with ExitStack() as owned:
            self._streams = [owned.enter_context(Stream()) for _ in range(3)]
            self._copy_in, self._compute, self._copy_out = self._streams
            self._memory = owned.enter_context(ExitStack())
            self._network = load(self._device, self._compute)
            owned.callback(self._close_network)
            self._owned = owned.pop_all()
        self.info = self._network.info

    def make_slots(self, count: int) -> Sequence[GpuSlot]:
        """Return ``count`` slots in pinned memory, each with a counterpart on the GPU.

        Raises
        ------
        EngineError
            When memory is short.
        """
        self._device.use()
        with ExitStack() as owned:
            slots = [self._make_slot(owned) for _ in range(count)]
            self._memory.push(owned.pop_all())
        return slots

    def bucket(self, size: int) -> int:
        """Return the next power of two, or the largest batch, so that few shapes are used."""
        if self._network.one_shape:
            return self._max_batch
        return min(1 << (size - 1).bit_length(), self._max_batch)

    def enqueue(self, slot: Slot, size: int) -> None:
        """Start running the first ``size`` rows of ``slot``, without waiting.

        Raises
        ------
        EngineError
            When the GPU has failed; nothing can be run after that.
        """
        assert isinstance(slot, GpuSlot)  # noqa: S101 - only ours come back
        if id(slot) in self._enqueued:
            raise ValueError("the slot is still on the GPU")
        network = self._network
        with self._noticing_loss():
            self._device.use()
            with slot.copy_in.on(self._copy_in):
                name, nbytes = network.input.name, size * network.input.row_bytes
                copy_async(slot.device[name], slot.host[name], nbytes, self._copy_in)
            self._compute.wait(slot.copy_in.end)
            with slot.execute.on(self._compute):
                network.launch(self.bucket(size), slot.addresses)
            self._copy_out.wait(slot.execute.end)
            with slot.copy_out.on(self._copy_out):
                for tensor in network.outputs:
                    name, nbytes = tensor.name, size * tensor.row_bytes
                    copy_async(slot.host[name], slot.device[name], nbytes, self._copy_out)
        self._enqueued[id(slot)] = size

    def wait(self, slot: Slot) -> Tensors:
        """Wait for the outputs of ``slot``.

        Raises
        ------
        EngineError
            As for `enqueue`.
        """
        assert isinstance(slot, GpuSlot)  # noqa: S101 - only ours come back
        size = self._enqueued[id(slot)]
        with self._noticing_loss():
            self._device.use()
            slot.copy_out.end.synchronize()
        del self._enqueued[id(slot)]
        return {name: result[:size] for name, result in slot.results.items()}

    def durations(self, slot: Slot) -> Mapping[str, float]:
        """Return the GPU seconds of each step of the batch last waited for in ``slot``."""
        assert isinstance(slot, GpuSlot)  # noqa: S101 - only ours come back
        spans = {"copy_in": slot.copy_in, "execute": slot.execute, "copy_out": slot.copy_out}
        return {step: span.end.seconds_since(span.begin) for step, span in spans.items()}

    def close(self) -> None:
        """Let the GPU finish and free everything; idempotent.

        After a sticky error nothing is waited for, as the process ends.
        """
        if not self._is_lost:
            for stream in self._streams:
                _finish(stream)
        self._streams = []
        self._owned.close()

    def _make_slot(self, owned: ExitStack) -> GpuSlot:
        tensors = [self._network.input, *self._network.outputs]
        sizes = {tensor.name: tensor.row_bytes * self._max_batch for tensor in tensors}
        host = {name: owned.enter_context(PinnedBuffer(size)) for name, size in sizes.items()}
        device = {name: owned.enter_context(DeviceBuffer(size)) for name, size in sizes.items()}
        rows, *results = [
            host[tensor.name].view(tensor.dtype, (self._max_batch, *tensor.shape))
            for tensor in tensors
        ]
        spans = [Span(owned.enter_context(Event()), owned.enter_context(Event())) for _ in range(3)]
        return GpuSlot(
            rows,
            host,
            device,
            {tensor.name: result for tensor, result in zip(tensors[1:], results, strict=True)},
            {name: buffer.address for name, buffer in device.items()},
            *spans,
        )

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """Check after a failure whether the GPU is lost to this process."""
        try:
            yield
        except EngineError:
            self._is_lost = self._compute.is_lost()
            raise

    def _close_network(self) -> None:
        if self._is_lost:
            _lost.append(self._network)
            return
        try:
            self._network.close()
        except EngineError as error:
            log.warning("%s", error)
            _lost.append(self._network)


def _finish(cuda_stream: Stream) -> None:
    try:
        cuda_stream.synchronize()
    except EngineError as error:
        log.warning("%s", error)
