"""TensorRT's own progress monitor, as a `Progress` hears it."""

from typing import Any

from centernetd.model.progress import BuildStoppedError, Progress


class Relay:
    """Passes on what TensorRT's progress monitor is told.

    An error of the `Progress`, be it the interrupt of a Ctrl-C, must not cross native code: it
    stops the build and is kept as ``error``.
    """

    def __init__(self, progress: Progress) -> None:
        self.error: BaseException | None = None
        self._progress = progress
        self._steps: dict[str, int] = {}

    def monitor(self, trt: Any) -> Any:  # noqa: ANN401 - the binding has no types
        """Return a monitor of the binding, to be kept until the build has ended."""
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
                    self.error = BuildStoppedError("the build was stopped")
            except BaseException as error:
                self.error = error
        return self.error is None
