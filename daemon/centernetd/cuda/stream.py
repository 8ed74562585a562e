"""CUDA streams and events: the order of work on the GPU."""

from typing import Any

from centernetd.cuda.calls import CudaError, call, release, runtime
from centernetd.cuda.owned import Owned


class Handle(Owned):
    """A CUDA object identified by a handle."""

    _destroyer: str

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - cuda-python's own types
        self.handle = handle
        self._acquired()

    def _free(self) -> None:
        release(self._destroyer, self.handle)
        self._freed()


class Event(Handle):
    """A point in a CUDA stream, with a timestamp once the GPU has passed it."""

    _destroyer = "cudaEventDestroy"

    def __init__(self) -> None:
        """Create the event; a thread waiting for it sleeps instead of spinning."""
        super().__init__(call("cudaEventCreateWithFlags", runtime().cudaEventBlockingSync))

    def record_after_decoding(self) -> None:
        """Record after all pictures decoded so far: FFmpeg copies them in the legacy stream."""
        call("cudaEventRecord", self.handle, runtime().cudaStreamLegacy)

    def synchronize(self) -> None:
        """Wait until the GPU has passed the event; the GIL is released meanwhile."""
        call("cudaEventSynchronize", self.handle)

    def seconds_since(self, earlier: "Event") -> float:
        """Return the GPU time from ``earlier`` to this event; both must have happened."""
        milliseconds: float = call("cudaEventElapsedTime", earlier.handle, self.handle)
        return milliseconds / 1000


class CudaStream(Handle):
    """A queue of work on the current device, independent of the default stream."""

    _destroyer = "cudaStreamDestroy"

    def __init__(self) -> None:
        super().__init__(call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking))

    @property
    def address(self) -> int:
        """The handle as an integer, for other libraries."""
        return int(self.handle)

    def record(self, event: Event, *, captured: bool = False) -> None:
        """Record ``event`` after all work enqueued so far.

        If that is ``captured``, each launch of the graph records it; nothing can wait for it then.
        """
        if captured:
            external = runtime().cudaEventRecordExternal
            call("cudaEventRecordWithFlags", event.handle, self.handle, external)
        else:
            call("cudaEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Delay work enqueued from now on until ``event`` has happened."""
        call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until all enqueued work is done."""
        call("cudaStreamSynchronize", self.handle)

    def is_lost(self) -> bool:
        """Return whether an error has ended all GPU use by this process; does not wait."""
        try:
            call("cudaStreamQuery", self.handle)
        except CudaError as error:
            return error.sticky  # otherwise work is still pending
        return False
