"""The threads of one stream; any of them may hang forever in a third-party library."""

import logging
from collections.abc import Callable, Iterable

from centernetd.errors import StartupError
from centernetd.flow import StreamState, Worker
from centernetd.run.pipeline import StreamStages

log = logging.getLogger(__name__)

MOST_LOST = 3
"""Maximum number of hung capture threads per stream; then it waits for one to return."""
HUNG_AFTER = 20.0
"""Seconds in a single write after which a sink counts as hung."""

MakeWorker = Callable[[str, Callable[[], None]], Worker]


class StreamCrew:
    """Owns the threads of one stream: replaces lost captures and reports hung sinks.

    All methods are called from one thread, `look` about twice per second.
    """

    def __init__(self, stages: StreamStages, make_worker: MakeWorker) -> None:
        """Create the sinks' threads with ``make_worker``, which takes a name and a callable."""
        self.stages = stages
        self.name = stages.stream.name
        self.lane = stages.lane
        self._make_worker = make_worker
        self.capture_name = f"capture:{self.name}"
        self._vacant = True
        self._next: Worker | None = None  # becomes the capture when there is none
        self._short_of_threads = False
        self.captures: list[Worker] = []
        """Capture threads, including lost ones."""
        self.sinks = [
            make_worker(f"{sink.value}:{self.name}", stage.run)
            for sink, stage in stages.sinks.items()
        ]

    @property
    def threads(self) -> list[Worker]:
        """All threads of the stream."""
        return [*self.captures, *self.sinks]

    @property
    def alive(self) -> bool:
        """Whether any thread is still running."""
        return any(thread.alive for thread in self.threads)

    def adopt(self, lost: Iterable[Worker]) -> None:
        """Take over the lost threads of an earlier stream of this name; call before `start`."""
        self.captures += lost

    def prepare(self) -> None:
        """Allocate every thread that `start` needs.

        Raises
        ------
        StartupError
            If the system has no more threads; `stop` ends those already allocated.
        """
        self._next = self._make_worker(self.capture_name, self.stages.capture.run)
        for thread in (*self.sinks, self._next):
            thread.prepare()

    def start(self) -> None:
        """Start the sinks, then the capture."""
        for thread in self.sinks:
            thread.start()
        self._look_at_capture()

    def stop(self) -> None:
        """Stop the capture and let the sinks finish the frames in flight."""
        self.stages.stop.set()
        self.lane.close()
        for thread in self.threads if self._next is None else (*self.threads, self._next):
            thread.cancel()

    def look(self) -> None:
        """Check every thread once."""
        self._look_at_capture()
        self._look_at_sinks()

    def _look_at_capture(self) -> None:
        self._vacant |= self.stages.capture.watch()
        self.captures = [thread for thread in self.captures if thread.alive]
        status, lost = self.lane.status, len(self.captures)
        if not self._vacant:
            status.lost_threads = max(0, lost - 1)
            return
        if lost < MOST_LOST:
            self._vacant = not self._begin_capture()
        elif status.lost_threads < lost:
            message = "%d of its capture's threads are lost: it stays stuck until one comes back"
            log.error(message, lost, extra={"stream": self.name})
            status.state = StreamState.STUCK
        status.lost_threads = lost

    def _begin_capture(self) -> bool:
        """Start a capture thread; return False if none could be started, to retry later."""
        capture = self._next or self._make_worker(self.capture_name, self.stages.capture.run)
        try:
            capture.start()
        except StartupError as error:
            if not self._short_of_threads:
                log.error("it waits: %s", error, extra={"stream": self.name})  # noqa: TRY400
            self._short_of_threads = True
            return False
        self.captures.append(capture)
        self._next, self._short_of_threads = None, False
        return True

    def _look_at_sinks(self) -> None:
        status = self.lane.status
        busy = {sink.value: stage.busy_for for sink, stage in self.stages.sinks.items()}
        hung = tuple(sink for sink, seconds in busy.items() if seconds >= HUNG_AFTER)
        before, status.hung_sinks = status.hung_sinks, hung
        for sink in set(hung) - set(before):
            message = "stuck: %s has hung in a write for %.0f s"
            log.error(message, sink, busy[sink], extra={"stream": self.name})
        for sink in set(before) - set(hung):
            log.warning("%s has come back from a write", sink, extra={"stream": self.name})
