"""ONNX Runtime on the CPU."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from daemon.errors import EngineError, ModelError
from daemon.inference.engines.engine import EngineInfo, Slot, Tensors

_ERRORS_ONLY = 3


class OrtCpuEngine:
    """Runs a prepared model with ONNX Runtime's CPU provider.

    The CPU has no queue of its own to put work into, so `enqueue` only notes how many rows
    count and `wait` does the work: in the thread that would otherwise idle, while the other
    one fills the next slot.
    """

    def __init__(self, model: Path, max_batch: int, *, spinning: bool = False) -> None:
        """Load ``model``; ``spinning`` lets idle threads burn the CPU, as they do by default.

        Raises
        ------
        ModelError
            When the file can't be loaded or doesn't take uint8 frames.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = _ERRORS_ONLY
        # Threads that spin while they wait took a third of two cores from the other stages.
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        try:
            self._session = ort.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a dozen classes of its own
            raise ModelError(f"{model}: ONNX Runtime can't load it: {_first_line(error)}") from None
        (frames,) = self._session.get_inputs()
        _, height, width, channels = frames.shape
        self.info = EngineInfo("onnxruntime-cpu", "float32", "cpu")
        self._input = frames.name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._row_shape = (height, width, channels)
        self._max_batch = max_batch
        self._sizes: dict[int, int] = {}

    def make_slots(self, count: int) -> Sequence[Slot]:
        """Return ``count`` slots in ordinary memory."""
        shape = (self._max_batch, *self._row_shape)
        return [Slot(np.zeros(shape, np.uint8)) for _ in range(count)]

    def bucket(self, size: int) -> int:
        """Return ``size``: on the CPU a batch of any size costs what its rows cost."""
        return size

    def enqueue(self, slot: Slot, size: int) -> None:
        """Note that the first ``size`` rows of ``slot`` are to be run."""
        self._sizes[id(slot)] = size

    def wait(self, slot: Slot) -> Tensors:
        """Run ``slot`` and return its outputs.

        Raises
        ------
        EngineError
            When ONNX Runtime fails.
        """
        rows = slot.rows[: self._sizes.pop(id(slot))]
        try:
            outputs = self._session.run(self._outputs, {self._input: rows})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {_first_line(error)}") from None
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """Nothing to free that the session doesn't free itself."""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
