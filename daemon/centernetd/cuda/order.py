"""Streams and events: what the GPU does after what."""

from typing import Any

from centernetd.cuda.calls import CudaError, call, release, runtime
from centernetd.cuda.owned import Owned


class Handle(Owned):
    """A CUDA object that is known by a handle."""

    _destroyer: str

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - cuda-python's own types
        self.handle = handle
        self._acquired()

    def _free(self) -> None:
        release(self._destroyer, self.handle)
        self._freed()


class Event(Handle):
    """A point in a stream, which has a time once the GPU has come by it."""

    _destroyer = "cudaEventDestroy"

    def __init__(self) -> None:
        """Make the event; a thread that waits for it sleeps rather than spins."""
        super().__init__(call("cudaEventCreateWithFlags", runtime().cudaEventBlockingSync))

    def synchronize(self) -> None:
        """Wait until the GPU has come by; the interpreter lock is released meanwhile."""
        call("cudaEventSynchronize", self.handle)

    def seconds_since(self, earlier: "Event") -> float:
        """Return the GPU's time from ``earlier`` to this event; both must have happened."""
        milliseconds: float = call("cudaEventElapsedTime", earlier.handle, self.handle)
        return milliseconds / 1000


class Stream(Handle):
    """A queue of work on the current device, independent of the default stream."""

    _destroyer = "cudaStreamDestroy"

    def __init__(self) -> None:
        super().__init__(call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking))

    @property
    def address(self) -> int:
        """The handle as the number that other libraries take."""
        return int(self.handle)

    def record(self, event: Event) -> None:
        """Have ``event`` happen after what was enqueued so far."""
        call("cudaEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Hold what is enqueued from now on until ``event`` has happened."""
        call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait until everything enqueued is done."""
        call("cudaStreamSynchronize", self.handle)

    def is_lost(self) -> bool:
        """Whether an error has ended all use of the GPU by this process; doesn't wait."""
        try:
            call("cudaStreamQuery", self.handle)
        except CudaError as error:
            return error.sticky  # else it says that there is still work to do
        return False
