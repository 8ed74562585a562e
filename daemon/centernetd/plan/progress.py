"""Adapter from TensorRT's progress monitor to `Progress`."""

from typing import Any

from centernetd.errors import StoppedError
from centernetd.model.progress import Progress


class Relay:
    """Forwards reports of TensorRT's progress monitor.

    Exceptions of the `Progress`, including a Ctrl-C interrupt, must not cross native code. They
    stop the build and are kept as ``error``.
    """

    def __init__(self, progress: Progress) -> None:
        self.error: BaseException | None = None
        self._progress = progress
        self._steps: dict[str, int] = {}

    def monitor(self, trt: Any) -> Any:  # noqa: ANN401 - the binding has no types
        """Return a monitor for the binding; keep a reference until the build has ended."""
        relay = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
                relay._steps[phase] = steps
                relay._tell(phase, 0)

            def step_complete(self, phase: str, step: int) -> bool:
                return relay._tell(phase, step + 1)

            def phase_finish(self, phase: str) -> None:
                relay._tell(phase, relay._steps[phase])

        return Monitor()

    def _tell(self, phase: str, step: int) -> bool:
        if self.error is None:
            try:
                if not self._progress(phase, step, self._steps[phase]):
                    self.error = StoppedError("the build was stopped")
            except BaseException as error:
                self.error = error
        return self.error is None
