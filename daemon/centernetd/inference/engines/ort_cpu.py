"""ONNX Runtime on the CPU."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from centernetd.errors import EngineError, ModelError
from centernetd.flow import Image
from centernetd.inference.engines.engine import Engine, EngineInfo, Slot, Tensors
from centernetd.inference.letterbox import Geometry, fill_row
from centernetd.model.files import first_line

ERRORS_ONLY = 3


class CpuSlot(Slot):
    """A slot in ordinary memory."""

    def __init__(self, engine: "OrtCpuEngine", rows: NDArray[np.uint8]) -> None:
        self.rows = rows
        self._engine = engine
        self._running: Future[tuple[Tensors, float]] | None = None
        self._seconds = 0.0

    def put(self, row: int, image: Image, geometry: Geometry) -> None:
        """Letterbox ``image`` into ``row``."""
        fill_row(image.pixels(), self.rows[row], geometry)

    def move(self, row: int, to: int) -> None:
        """Replace the picture in row ``to`` by that of ``row``."""
        self.rows[to] = self.rows[row]

    def clear(self) -> None:
        """Do nothing: no picture is held."""

    def enqueue(self, size: int) -> None:
        """Queue the first ``size`` rows for the engine's next free thread."""
        if self._running is not None:
            raise ValueError("the slot is already enqueued")
        self._running = self._engine.submit(self.rows[:size])

    def wait(self) -> Tensors:
        """Wait for the outputs.

        Raises
        ------
        EngineError
            When ONNX Runtime fails.
        """
        if self._running is None:
            raise ValueError("the slot is not enqueued")
        running, self._running = self._running, None
        tensors, self._seconds = running.result()
        return tensors

    def durations(self) -> Mapping[str, float]:
        """Return the run time in seconds of the batch last waited for."""
        return {"execute": self._seconds}


class OrtCpuEngine(Engine):
    """Runs a prepared model with ONNX Runtime's CPU provider.

    Several batches run concurrently, each on its share of the cores. In one network spread over
    all cores, threads wait for each other after every layer (on two cores that costs a fifth),
    and threads that spin meanwhile take their core from the other stages.
    """

    def __init__(self, model: Path, precision: str, max_batch: int, concurrency: int) -> None:
        """Load ``model``, which is in ``precision``, to run ``concurrency`` batches concurrently.

        Raises
        ------
        ModelError
            When the file can't be loaded.
        """
        threads = max(1, len(os.sched_getaffinity(0)) // concurrency)
        self.info = EngineInfo("onnxruntime-cpu", precision, "cpu")
        self._session = _open_session(model, threads)
        (frames,) = self._session.get_inputs()
        self._input = frames.name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._slot_shape = (max_batch, *frames.shape[1:])
        self._pool = ThreadPoolExecutor(concurrency, "onnxruntime")

    def make_slots(self, count: int) -> Sequence[CpuSlot]:
        """Return ``count`` slots."""
        return [CpuSlot(self, np.zeros(self._slot_shape, np.uint8)) for _ in range(count)]

    def bucket(self, size: int) -> int:
        """Return ``size``: on the CPU the cost of a batch is proportional to its rows."""
        return size

    def submit(self, rows: NDArray[np.uint8]) -> "Future[tuple[Tensors, float]]":
        """Run ``rows`` in the next free thread; the result has the tensors and the seconds."""
        return self._pool.submit(self._timed, rows)

    def close(self) -> None:
        """Accept no more batches; one that never finishes does not block the daemon's exit."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, rows: NDArray[np.uint8]) -> tuple[Tensors, float]:
        started = time.monotonic()
        return self._run(rows), time.monotonic() - started

    def _run(self, rows: NDArray[np.uint8]) -> Tensors:
        try:
            outputs = self._session.run(self._outputs, {self._input: rows})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from None
        return dict(zip(self._outputs, outputs, strict=True))


def _open_session(model: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ERRORS_ONLY
    # It would plan a block of memory per running batch: 45 MB more for CenterFace, and no faster.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelError(f"{model}: ONNX Runtime can't load it: {first_line(error)}") from None
