"""Watches the threads that foreign code may keep for ever: those of captures and sinks."""

import logging
from collections.abc import Callable, Mapping

from daemon.flow import Lane, Worker
from daemon.pipeline import Pipeline

log = logging.getLogger(__name__)

MOST_LOST = 3
"""Threads of one stream that may be lost at a time; then it waits for one to come back."""
HUNG_AFTER = 20.0
"""Seconds in one write after which a sink counts as hung."""

MakeWorker = Callable[[str, Callable[[], None]], Worker]


class Watch:
    """Owns the captures' threads: replaces those that are lost, and tells which sinks hang.

    All is called in one thread, `tick` about twice a second.
    """

    def __init__(
        self, pipeline: Pipeline, lanes: Mapping[str, Lane], make_worker: MakeWorker
    ) -> None:
        """Make the first thread of every capture with ``make_worker``, from its name and work."""
        self._captures = pipeline.captures
        self._sinks = pipeline.sinks
        self._lanes = lanes
        self._make_worker = make_worker
        self._threads = {name: [self._make(name)] for name in self._captures}
        self._vacant: set[str] = set()

    @property
    def threads(self) -> list[Worker]:
        """The captures' threads, lost ones included."""
        return [thread for threads in self._threads.values() for thread in threads]

    def tick(self) -> None:
        """Look at every stream once."""
        for name in self._captures:
            self._look_at_capture(name)
        for name, lane in self._lanes.items():
            self._look_at_sinks(name, lane)

    def _look_at_capture(self, name: str) -> None:
        if self._captures[name].watch():
            self._vacant.add(name)
        threads = self._threads[name] = [t for t in self._threads[name] if t.alive]
        if name not in self._vacant:
            self._lanes[name].status.lost_threads = max(0, len(threads) - 1)
            return
        lost = len(threads)
        if lost < MOST_LOST:
            threads.append(self._make(name))
            threads[-1].start()
            self._vacant.remove(name)
        elif self._lanes[name].status.lost_threads < lost:
            message = "%d of its capture's threads are lost: it stays stuck until one comes back"
            log.error(message, lost, extra={"stream": name})
        self._lanes[name].status.lost_threads = lost

    def _look_at_sinks(self, name: str, lane: Lane) -> None:
        busy = {sink.value: self._sinks[f"{sink.value}:{name}"].busy_for for sink in lane.outlets}
        hung = tuple(sink for sink, seconds in busy.items() if seconds >= HUNG_AFTER)
        before, lane.status.hung_sinks = lane.status.hung_sinks, hung
        for sink in set(hung) - set(before):
            message = "stuck: %s has hung in a write for %.0f s"
            log.error(message, sink, busy[sink], extra={"stream": name})
        for sink in set(before) - set(hung):
            log.warning("%s has come back from a write", sink, extra={"stream": name})

    def _make(self, name: str) -> Worker:
        return self._make_worker(f"capture:{name}", self._captures[name].run)
