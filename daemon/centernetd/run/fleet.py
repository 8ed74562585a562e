"""The streams of a run; a reload adds, removes and replaces them."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from centernetd.config import StreamConfig
from centernetd.config.config import Difference
from centernetd.flow import Lane, Worker
from centernetd.inference.stage import InferenceStage
from centernetd.run.crew import MakeWorker, StreamCrew
from centernetd.run.pipeline import StreamStages
from centernetd.service.health import StreamView
from centernetd.service.service import Service

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a stream gets to finish its files before it is replaced."""


@dataclass(frozen=True)
class _Farewell:
    """A stream that is ending, and its successor, if any."""

    crew: StreamCrew
    successor: StreamCrew | None
    deadline: float


class Fleet:
    """Starts, supervises and changes the streams of a run; all calls are in the main thread.

    ``lanes`` is shared by everything that shows streams: those running and those ending.
    """

    def __init__(
        self,
        lanes: list[Lane],
        stages: Iterable[StreamStages],
        inference: InferenceStage,
        make_worker: MakeWorker,
        service: Service,
    ) -> None:
        """Create a crew for each of ``stages``; ``inference`` already serves their lanes."""
        self.lanes = lanes
        self._inference = inference
        self._make_worker = make_worker
        self._service = service
        self._running = {made.lane.name: StreamCrew(made, make_worker) for made in stages}
        self._farewells: list[_Farewell] = []
        self._left: list[Worker] = []

    @property
    def threads(self) -> list[Worker]:
        """All threads, including those left behind by removed streams."""
        return [*self._left, *(thread for crew in self._crews for thread in crew.threads)]

    @property
    def captures(self) -> list[Worker]:
        """The capture threads of all streams."""
        return [thread for crew in self._crews for thread in crew.captures]

    @property
    def _crews(self) -> list[StreamCrew]:
        """The crews of all running and ending streams."""
        return [*self._running.values(), *(farewell.crew for farewell in self._farewells)]

    @property
    def settled(self) -> bool:
        """Whether every change has completed."""
        return not self._farewells

    def prepare(self) -> None:
        """Allocate every thread that `start` needs; raises as `StreamCrew.prepare`."""
        for crew in self._running.values():
            crew.prepare()

    def start(self) -> None:
        """Start every stream."""
        for crew in self._running.values():
            crew.start()

    def look(self) -> None:
        """Check every stream, and release ending ones that finished or ran out of time."""
        now = time.monotonic()
        for crew in self._crews:
            crew.look()
        self._left = [thread for thread in self._left if thread.alive]
        for farewell in [*self._farewells]:
            if not farewell.crew.alive or now >= farewell.deadline:
                self._let_go(farewell)

    def follow(
        self,
        change: Difference,
        streams: Mapping[str, StreamConfig],
        make_stages: Callable[[StreamConfig], StreamStages],
    ) -> None:
        """Begin the change to ``streams``; streams that do not differ continue undisturbed.

        A changed stream restarts once its files are finished. If this raises, nothing has changed.

        Raises
        ------
        ConfigError
            If a stream can't be built.
        StartupError
            If there are not enough threads, or inference has ended.
        """
        made: dict[str, StreamCrew] = {}
        try:
            for name in (*change.added, *change.changed):
                made[name] = StreamCrew(make_stages(streams[name]), self._make_worker)
                made[name].prepare()
            # Before closing others: inference ends when all its lanes are closed.
            self._inference.serve({crew.lane: crew.stages.wanted for crew in made.values()})
        except Exception:
            for crew in made.values():
                crew.stop()
            raise
        deadline = time.monotonic() + PATIENCE
        for name in (*change.removed, *change.changed):
            crew = self._running.pop(name)
            crew.stop()
            self._farewells.append(_Farewell(crew, made.get(name), deadline))
        for name in change.added:
            self._begin(made[name])

    def close(self) -> None:
        """Stop every stream: close all lanes and end the captures."""
        for crew in self._crews:
            crew.stop()
        for farewell in self._farewells:
            if farewell.successor is not None:
                farewell.successor.stop()

    def _begin(self, crew: StreamCrew) -> None:
        """Start a stream; threads lost by earlier streams of its name count as its own."""
        lost = [thread for thread in self._left if thread.name == crew.capture_name]
        self._left = [thread for thread in self._left if thread not in lost]
        crew.adopt(lost)
        self._running[crew.name] = crew
        self._show()
        crew.start()

    def _show(self) -> None:
        """Publish the current streams to everything that shows them."""
        self.lanes[:] = [crew.lane for crew in self._crews]
        self._service.show(
            [StreamView(crew.lane, crew.stages.stream.stall_timeout) for crew in self._crews]
        )

    def _let_go(self, farewell: _Farewell) -> None:
        crew, lane = farewell.crew, farewell.crew.lane
        if crew.alive:
            lane.abandon()
            lane.cut_short()
            self._left += [thread for thread in crew.threads if thread.alive]
            log.warning("didn't end in time and is left behind", extra={"stream": crew.name})
        lane.ledger.close()
        self._inference.forget(lane)
        log.info("ends: %s", lane.ledger.read().receipt(crew.name), extra={"stream": crew.name})
        self._farewells.remove(farewell)
        if farewell.successor is None:
            self._show()
        else:
            self._begin(farewell.successor)
