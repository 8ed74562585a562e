"""CUDA graphs: work that is recorded once and launched as a whole."""

from collections.abc import Callable
from contextlib import suppress

from centernetd.cuda.calls import CudaError, call, release, runtime
from centernetd.cuda.stream import CudaStream, Handle
from centernetd.errors import EngineError


class Graph(Handle):
    """Work that was captured from a CUDA stream, with the addresses it had then.

    All memory that the work uses must exist, unchanged in place, until the last launch is done.
    """

    _destroyer = "cudaGraphExecDestroy"

    @classmethod
    def capture(cls, cuda_stream: CudaStream, enqueue: Callable[[], None]) -> "Graph":
        """Record what ``enqueue`` enqueues in ``cuda_stream`` instead of running it.

        Meanwhile this thread must not wait for the GPU or allocate its memory; others may.

        Raises
        ------
        EngineError
            When the work can't be captured, or as ``enqueue`` does.
        """
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", cuda_stream.handle, mode)
        try:
            enqueue()
        except EngineError:
            with suppress(CudaError):
                release("cudaGraphDestroy", call("cudaStreamEndCapture", cuda_stream.handle))
            raise
        recorded = call("cudaStreamEndCapture", cuda_stream.handle)
        try:
            return cls(call("cudaGraphInstantiate", recorded, 0))
        finally:
            release("cudaGraphDestroy", recorded)

    def launch(self, cuda_stream: CudaStream) -> None:
        """Enqueue the work.

        Raises
        ------
        CudaError
            When the GPU has failed.
        """
        call("cudaGraphLaunch", self.handle, cuda_stream.handle)
