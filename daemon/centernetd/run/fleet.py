"""The streams of a run, which may come and go while it lasts."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from centernetd.config import StreamConfig
from centernetd.config.difference import Difference
from centernetd.flow import Lane, Worker
from centernetd.inference.stage import InferenceStage
from centernetd.run.crew import MakeWorker, StreamCrew
from centernetd.run.pipeline import StreamStages
from centernetd.run.receipt import receipt
from centernetd.service.service import Service
from centernetd.service.view import StreamView

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a stream has for finishing its files before another takes its place."""


@dataclass(frozen=True)
class _Farewell:
    """A stream that is about to end, and the one that takes its place then, if any."""

    crew: StreamCrew
    successor: StreamCrew | None
    deadline: float


class Fleet:
    """Starts, looks after and changes the streams of a run; all is called in the main thread.

    ``lanes`` is the list that everybody who shows streams keeps: those that run, and those that
    are about to end.
    """

    def __init__(
        self,
        lanes: list[Lane],
        stages: Iterable[StreamStages],
        inference: InferenceStage,
        make_worker: MakeWorker,
        service: Service,
    ) -> None:
        """Make a crew for each of ``stages``, whose lanes ``inference`` serves already."""
        self.lanes = lanes
        self._inference = inference
        self._make_worker = make_worker
        self._service = service
        self._running = {made.lane.name: StreamCrew(made, make_worker) for made in stages}
        self._farewells: list[_Farewell] = []
        self._left: list[Worker] = []

    @property
    def threads(self) -> list[Worker]:
        """All threads, also those that streams which are gone have left behind."""
        return [*self._left, *(thread for crew in self._crews for thread in crew.threads)]

    @property
    def captures(self) -> list[Worker]:
        """The threads that read a source."""
        return [thread for crew in self._crews for thread in crew.captures]

    @property
    def _crews(self) -> list[StreamCrew]:
        """The crews of every stream that runs or is about to end."""
        return [*self._running.values(), *(farewell.crew for farewell in self._farewells)]

    @property
    def settled(self) -> bool:
        """Whether every change is through."""
        return not self._farewells

    def prepare(self) -> None:
        """Get every thread that `start` needs; raises StartupError as `StreamCrew.prepare` does."""
        for crew in self._running.values():
            crew.prepare()

    def start(self) -> None:
        """Start every stream."""
        for crew in self._running.values():
            crew.start()

    def look(self) -> None:
        """Look after every stream, and let those go that have ended as they should."""
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
        """Begin to change to ``streams``; those that don't differ go on untouched.

        One that is changed begins anew once its files are finished.

        Raises
        ------
        ConfigError
            When one of them can't be made; nothing has changed then, as also with
        StartupError
            when there are too few threads for them, or inference has ended.
        """
        made: dict[str, StreamCrew] = {}
        try:
            for name in (*change.added, *change.changed):
                made[name] = StreamCrew(make_stages(streams[name]), self._make_worker)
                made[name].prepare()
            # Before others are closed: inference ends when all of them are.
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
        """Let nothing more into any lane; every capture ends."""
        for crew in self._crews:
            crew.stop()
        for farewell in self._farewells:
            if farewell.successor is not None:
                farewell.successor.stop()

    def _begin(self, crew: StreamCrew) -> None:
        """Start a stream, which counts as its own what others of its name have lost."""
        lost = [thread for thread in self._left if thread.name == crew.capture_name]
        self._left = [thread for thread in self._left if thread not in lost]
        crew.adopt(lost)
        self._running[crew.name] = crew
        self._show()
        crew.start()

    def _show(self) -> None:
        """Tell everybody who shows streams which there are now."""
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
        log.info("ends: %s", receipt(lane), extra={"stream": crew.name})
        self._farewells.remove(farewell)
        if farewell.successor is None:
            self._show()
        else:
            self._begin(farewell.successor)
