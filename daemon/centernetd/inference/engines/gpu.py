"""The common part of GPU engines: slots in pinned memory, copies overlapping compute."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from centernetd.cuda import (
    JOB,
    OUT_OF_MEMORY,
    CudaError,
    CudaStream,
    Device,
    DeviceBuffer,
    Event,
    Graph,
    Letterbox,
    PinnedBuffer,
    Surface,
    copy_async,
    describe,
    leave,
)
from centernetd.errors import EngineError
from centernetd.flow import Image
from centernetd.inference.engines.engine import Engine, EngineInfo, Slot, Tensors
from centernetd.inference.letterbox import Geometry, fill_row

log = logging.getLogger(__name__)

CAPTURE_ATTEMPTS, CAPTURE_PAUSE = 10, 0.1
"""Tries at capturing a graph, and the seconds between them. If another thread opens or closes a
decoder meanwhile, a capture is invalid."""

_lost: list["GpuModel"] = []
"""Models that can't be freed, mostly after a GPU failure: trying may abort the process."""


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


def batch_sizes(max_batch: int) -> Sequence[int]:
    """Return the sizes to which batches are padded: few, as each takes time and memory."""
    return sorted({min(1 << n, max_batch) for n in range(max_batch.bit_length() + 1)})


class GpuModel(Protocol):
    """A model loaded on the GPU, which runs on the CUDA stream it was loaded with.

    Of `batch_sizes`, ``sizes`` are ready once it is loaded, always the largest among them; others
    need `prepare`. If it is not ``capturable``, that is not tried.
    """

    capturable: bool
    sizes: Sequence[int]
    info: EngineInfo
    input: Tensor
    outputs: Sequence[Tensor]

    def launch(self, batch: int, addresses: Mapping[str, int], *, captured: bool = False) -> None:
        """Enqueue one run on ``batch`` rows; ``addresses`` are those of the tensors on the device.

        Called by one thread per size only; returns before the GPU has finished. If it is
        ``captured``, it becomes part of a graph, which is valid until `close` or a run that is not
        captured.

        Raises
        ------
        EngineError
            When the GPU or the backend rejects the run, or it can't be captured.
        """

    def rehearse(self, batch: int, addresses: Mapping[str, int]) -> None:
        """Run what comes before a captured run: whatever is allocated or chosen once.

        Raises
        ------
        EngineError
            As for `launch`.
        """

    def prepare(self, batch: int, cuda_stream: CudaStream) -> None:
        """Get ready to run batches of this size, on a CUDA stream that may be another.

        Raises
        ------
        EngineError
            As for `launch`, or when memory is short.
        ModelError
            When the file can't be loaded again.
        """

    def close(self) -> None:
        """Free everything; idempotent. The tensors' memory must still exist, graphs must not.

        Raises
        ------
        EngineError
            When freeing is not possible.
        """


class Span(NamedTuple):
    """One step of a batch on the GPU, between two events."""

    begin: Event
    end: Event


class GpuSlot(Slot):
    """A slot in pinned memory with a counterpart on the GPU, and the steps of its batch.

    ``rows`` and ``results`` are views of the pinned memory. All of it belongs to the GPU from
    `enqueue` until `wait` returns, and so do the surfaces that were put into rows.

    A batch is one CUDA graph, if it can be captured: letterboxing, the model, and the copies of its
    outputs. Every call of CUDA releases Python's lock, and waits for it afterwards with the threads
    of all captures.
    """

    def __init__(self, engine: "GpuEngine", owned: ExitStack) -> None:
        """Allocate the memory, to be freed by ``owned``.

        Raises
        ------
        EngineError
            When memory is short.
        """
        self._engine = engine
        self._enqueued: int | None = None  # number of rows on the GPU
        self._put: dict[int, tuple[Surface, Geometry]] = {}  # by row; other rows are on the host
        self._on_gpu: Sequence[Surface] = ()
        self._graphs: dict[int, Graph] = {}  # by the size of the batch
        model, max_batch = engine.model, engine.max_batch
        tensors = [model.input, *model.outputs]
        sizes = {tensor.name: tensor.row_bytes * max_batch for tensor in tensors}
        self._host = {name: owned.enter_context(PinnedBuffer(size)) for name, size in sizes.items()}
        self._device = {
            name: owned.enter_context(DeviceBuffer(size)) for name, size in sizes.items()
        }
        self.addresses = {name: buffer.address for name, buffer in self._device.items()}
        self.rows, *results = [
            self._host[tensor.name].view(tensor.dtype, (max_batch, *tensor.shape))
            for tensor in tensors
        ]
        self.results: Mapping[str, NDArray[np.float32]] = {
            tensor.name: result for tensor, result in zip(model.outputs, results, strict=True)
        }
        jobs = JOB.size * max_batch
        self._jobs, self._jobs_there = (
            owned.enter_context(PinnedBuffer(jobs)),
            owned.enter_context(DeviceBuffer(jobs)),
        )
        self._table = self._jobs.view(np.uint8, (jobs,)).data
        began, copied, executing, executed, copied_out, self._decoded, self._finished = (
            owned.enter_context(Event()) for _ in range(7)
        )
        self.copy_in, self.execute = Span(began, copied), Span(executing, executed)
        self.copy_out = Span(executed, copied_out)
        self._steps: Mapping[str, Span] = {}  # of the last batch

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        """Letterbox ``image`` into ``row``: now on the host, or a surface in `enqueue`."""
        if isinstance(image, Surface) and self._engine.takes_surfaces:
            self._put[row] = image, geometry
        else:
            self._put.pop(row, None)
            fill_row(image.pixels(), self.rows[row], geometry)

    def move(self, row: int, to: int) -> None:
        """Replace the picture in row ``to`` by that of ``row``."""
        surface = self._put.pop(row, None)
        if surface is not None:
            self._put[to] = surface
        else:
            self._put.pop(to, None)
            self.rows[to] = self.rows[row]

    def clear(self) -> None:
        """Release the surfaces that were put."""
        self._put = {}

    def enqueue(self, size: int) -> None:
        """Start running the first ``size`` rows, without waiting.

        Raises
        ------
        EngineError
            When the GPU has failed; nothing can be run after that.
        """
        if self._enqueued is not None:
            raise ValueError("the slot is still on the GPU")
        engine, compute = self._engine, self._engine.compute
        surfaces = {row: put for row, put in self._put.items() if row < size}
        self._put = {}
        self._steps = {"execute": self.execute, "copy_out": self.copy_out}
        batch = engine.bucket(size)
        with engine.noticing_loss():
            engine.use_device()
            if len(surfaces) < size:
                self._copy_in(size)
            self._describe(surfaces, batch)
            graph = self._graph(batch)
            if surfaces:
                self._decoded.record_after_decoding()
                compute.wait(self._decoded)
            if graph is None:
                self._enqueue_batch(batch, compute)
            else:
                graph.launch(compute)
            compute.record(self._finished)
        self._enqueued = size

    def _copy_in(self, size: int) -> None:
        """Enqueue the copying of rows on the host, before all else."""
        engine, frames = self._engine, self._engine.model.input
        self._steps = {"copy_in": self.copy_in, **self._steps}
        engine.copy_in.record(self.copy_in.begin)
        nbytes = size * frames.row_bytes
        copy_async(self._device[frames.name], self._host[frames.name], nbytes, engine.copy_in)
        engine.copy_in.record(self.copy_in.end)
        engine.compute.wait(self.copy_in.end)

    def _describe(self, surfaces: Mapping[int, tuple[Surface, Geometry]], batch: int) -> None:
        """Describe to the kernel what to do for each row of ``batch``."""
        self._on_gpu = [surface for surface, _ in surfaces.values()]
        for row in range(batch):
            found = surfaces.get(row)
            if found is None:
                leave(self._table, row)
            else:
                surface, geometry = found
                describe(self._table, row, surface, geometry.inverse)

    def _graph(self, batch: int) -> Graph | None:
        """Return the graph of a batch, captured here unless `prepare_smaller` did; None without."""
        engine = self._engine
        if batch not in self._graphs and engine.captures:
            try:
                self.capture(batch, engine.compute)
            except EngineError as error:
                if engine.compute.is_lost():
                    raise
                engine.do_without_graphs(str(error))
        return self._graphs.get(batch) if engine.captures else None

    def capture(self, batch: int, cuda_stream: CudaStream) -> None:
        """Capture the graph of a batch on the stream that the model runs it on; in any thread.

        Raises
        ------
        EngineError
            When it can't be captured.
        """
        engine = self._engine
        engine.model.rehearse(batch, self.addresses)
        for attempt in range(CAPTURE_ATTEMPTS):
            try:
                graph = Graph.capture(
                    cuda_stream, lambda: self._enqueue_batch(batch, cuda_stream, captured=True)
                )
                break
            except EngineError:
                if engine.compute.is_lost() or attempt == CAPTURE_ATTEMPTS - 1:
                    raise
                time.sleep(CAPTURE_PAUSE)
        self._graphs[batch] = engine.graphs.enter_context(graph)

    def _enqueue_batch(
        self, batch: int, cuda_stream: CudaStream, *, captured: bool = False
    ) -> None:
        """Enqueue everything from letterboxing surfaces to copying the outputs back."""
        model, kernel = self._engine.model, self._engine.letterbox
        frames = model.input
        cuda_stream.record(self.execute.begin, captured=captured)
        if kernel is not None:
            copy_async(self._jobs_there, self._jobs, JOB.size * batch, cuda_stream)
            size = frames.shape[0], frames.shape[1]
            kernel.launch(self._jobs_there, batch, self._device[frames.name], size, cuda_stream)
        model.launch(batch, self.addresses, captured=captured)
        cuda_stream.record(self.execute.end, captured=captured)
        for tensor in model.outputs:
            name, nbytes = tensor.name, batch * tensor.row_bytes
            copy_async(self._host[name], self._device[name], nbytes, cuda_stream)
        cuda_stream.record(self.copy_out.end, captured=captured)

    def wait(self) -> Tensors:
        """Wait for the outputs.

        Raises
        ------
        EngineError
            As for `enqueue`.
        """
        if self._enqueued is None:
            raise ValueError("the slot is not on the GPU")
        with self._engine.noticing_loss():
            self._engine.use_device()
            self._finished.synchronize()
        size, self._enqueued, self._on_gpu = self._enqueued, None, ()
        return {name: result[:size] for name, result in self.results.items()}

    def durations(self) -> Mapping[str, float]:
        """Return the GPU seconds of each step of the batch last waited for.

        Only a batch with rows on the host has a ``copy_in``.
        """
        return {step: span.end.seconds_since(span.begin) for step, span in self._steps.items()}


class GpuEngine(Engine):
    """Runs a model batch after batch; the copying in of one overlaps the compute of another.

    Copying rows in has a CUDA stream of its own; an event puts what is done with them after it.
    Smaller batches are captured in another: nothing else may be enqueued in it meanwhile.
    """

    def __init__(
        self, index: int, max_batch: int, load: Callable[[Device, CudaStream], GpuModel]
    ) -> None:
        """Use GPU ``index``; ``load`` returns the model, to run on the given CUDA stream.

        Raises
        ------
        EngineError
            When the GPU does not exist or has too little memory.
        ModelError
            As ``load`` does.
        """
        self.max_batch = max_batch
        self.device = Device(index)
        self._threads = threading.local()
        self.use_device()
        self._is_lost = False
        with ExitStack() as owned:
            self._streams = [owned.enter_context(CudaStream()) for _ in range(2)]
            self.copy_in, self.compute = self._streams
            self._memory = owned.enter_context(ExitStack())
            self.letterbox = _letterbox(owned)
            self.takes_surfaces = self.letterbox is not None
            self.model = load(self.device, self.compute)
            self.captures = self.model.capturable  # until it turns out not to be
            owned.callback(self._close_model)
            self.graphs = owned.enter_context(ExitStack())
            self._owned = owned.pop_all()
        self.info = self.model.info
        self._sizes = sorted(self.model.sizes)  # replaced whole
        self._slots: list[GpuSlot] = []
        self._prepares = False

    def make_slots(self, count: int) -> Sequence[GpuSlot]:
        """Return ``count`` slots.

        Raises
        ------
        EngineError
            When memory is short.
        ValueError
            When that is too late, after `prepare_smaller`.
        """
        if self._prepares:
            raise ValueError("slots are made before smaller batches are prepared for each of them")
        self.use_device()
        with ExitStack() as owned:
            slots = [GpuSlot(self, owned) for _ in range(count)]
            self._memory.push(owned.pop_all())
        self._slots += slots
        return slots

    def bucket(self, size: int) -> int:
        """Return the next of `batch_sizes` that is prepared."""
        return next(prepared for prepared in self._sizes if prepared >= size)

    def prepare_smaller(self, must_stop: Callable[[], bool]) -> None:
        """Prepare the others of `batch_sizes`, the largest first; raises as `Engine` does."""
        self._prepares = True
        lacking = sorted({*batch_sizes(self.max_batch)} - {*self._sizes}, reverse=True)
        with self.noticing_loss():
            self.use_device()
            cuda_stream = self.compute
            if lacking and self.captures:
                cuda_stream = self._memory.enter_context(CudaStream())
                self._streams.append(cuda_stream)
            for size in lacking:
                if must_stop():
                    return
                self.model.prepare(size, cuda_stream)
                if self.captures:
                    for slot in self._slots:
                        slot.capture(size, cuda_stream)
                    cuda_stream.synchronize()  # graphs use the memory of what it has still to run
                self._sizes = sorted([*self._sizes, size])

    def use_device(self) -> None:
        """Select this GPU for the calling thread, which keeps it."""
        if not hasattr(self._threads, "selected"):
            self.device.use()
            self._threads.selected = True

    def do_without_graphs(self, reason: str) -> None:
        """Enqueue batches step by step from now on, as they can't be captured."""
        self.captures = False
        log.warning(
            "the model's kernels are launched one by one, which takes longer, since they "
            "can't be captured in a CUDA graph: %s", reason,
        )  # fmt: skip

    def close(self) -> None:
        """Let the GPU finish and free everything; idempotent.

        After a sticky error nothing is waited for, as the process ends.
        """
        if not self._is_lost:
            for stream in self._streams:
                _finish(stream)
        self._streams, self._slots = [], []
        self._owned.close()

    @contextmanager
    def noticing_loss(self) -> Iterator[None]:
        """Check after a failure whether the GPU is lost to this process."""
        try:
            yield
        except EngineError:
            self._is_lost = self.compute.is_lost()
            raise

    def _close_model(self) -> None:
        if self._is_lost:
            _lost.append(self.model)
            return
        try:
            self.model.close()
        except EngineError as error:
            log.warning("%s", error)
            _lost.append(self.model)


def _letterbox(owned: ExitStack) -> Letterbox | None:
    """Return the kernel, to be freed by ``owned``; None if the GPU or its driver can't run it."""
    try:
        return owned.enter_context(Letterbox())
    except CudaError as error:
        if error.sticky or error.code == OUT_OF_MEMORY:
            raise
        log.warning("pictures decoded on the GPU are letterboxed on the CPU: %s", error)
        return None


def _finish(cuda_stream: CudaStream) -> None:
    try:
        cuda_stream.synchronize()
    except EngineError as error:
        log.warning("%s", error)
