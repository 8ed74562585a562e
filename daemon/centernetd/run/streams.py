"""The streams of a run; a reload adds, removes and replaces them."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from centernetd.config import StreamConfig
from centernetd.config.config import Difference
from centernetd.flow import Lane, Runner
from centernetd.run.models import Models
from centernetd.run.stream import Stream
from centernetd.service.service import Service
from centernetd.track.counts import TrackLedger

log = logging.getLogger(__name__)

END_TIMEOUT = 5.0
"""Seconds that a stream gets to finish its files before it is replaced."""


class Streams:
    """Starts, supervises and changes the streams of a run; all calls are in the main thread."""

    def __init__(
        self,
        streams: Iterable[Stream],
        make: Callable[[StreamConfig], Stream],
        models: Models,
        service: Service,
    ) -> None:
        """Begin with ``streams``, which ``models`` already serve and ``service`` publishes."""
        self._running = {stream.name: stream for stream in streams}
        self._ending: dict[Stream, Stream | None] = {}  # each with the one that replaces it, if any
        self._end_by = 0.0
        self._left_behind: list[Runner] = []  # threads of removed streams that did not end
        self._make = make
        self._models = models
        self._service = service

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of all running and ending streams."""
        return [stream.lane for stream in self._all]

    @property
    def tracks(self) -> Mapping[Lane, TrackLedger]:
        """What counts the objects of each stream in which they are followed."""
        return {s.lane: s.view.tracks for s in self._all if s.view.tracks is not None}

    @property
    def threads(self) -> list[Runner]:
        """All threads, including those left behind by removed streams."""
        return [*self._left_behind, *(thread for stream in self._all for thread in stream.threads)]

    @property
    def captures(self) -> list[Runner]:
        """The capture threads of all streams."""
        return [thread for stream in self._all for thread in stream.captures]

    @property
    def settled(self) -> bool:
        """Whether every change has completed."""
        return not self._ending

    @property
    def _all(self) -> list[Stream]:
        return [*self._running.values(), *self._ending]

    def prepare(self) -> None:
        """Allocate every thread that `start` needs; raises as `Stream.prepare`."""
        for stream in self._running.values():
            stream.prepare()

    def start(self) -> None:
        """Start every stream."""
        for stream in self._running.values():
            stream.start()

    def check(self) -> None:
        """Check every stream, and release ending ones that finished or ran out of time."""
        now = time.monotonic()
        for stream in self._all:
            stream.check()
        self._left_behind = [thread for thread in self._left_behind if thread.alive]
        for stream in [*self._ending]:
            if not stream.alive or now >= self._end_by:
                self._release(stream)

    def apply(self, change: Difference, configs: Mapping[str, StreamConfig]) -> None:
        """Begin the change to ``configs``; streams that do not differ continue undisturbed.

        A changed stream restarts once its files are finished, unless it can adapt. If this raises,
        nothing has changed.

        Raises
        ------
        ConfigError
            If a stream can't be built.
        StartupError
            If there are not enough threads, or a model has ended.
        """
        made: dict[str, Stream] = {}
        running = self._running
        adapting = [name for name in change.changed if running[name].may_adapt(configs[name])]
        restarting = [name for name in change.changed if name not in adapting]
        try:
            for name in (*change.added, *restarting):
                made[name] = self._make(configs[name])
                made[name].prepare()
            # Before closing others: a model ends when all its lanes are closed.
            self._models.serve({stream.lane: stream.filters for stream in made.values()})
        except Exception:
            for stream in made.values():
                stream.stop()
            raise
        for name in adapting:
            running[name].adapt(configs[name])
        self._end_by = time.monotonic() + END_TIMEOUT
        for name in (*change.removed, *restarting):
            former = self._running.pop(name)
            former.stop()
            self._ending[former] = made.get(name)
        for name in change.added:
            self._begin(made[name])

    def close(self) -> None:
        """Stop every stream: close all lanes and end the captures."""
        for stream in self._all:
            stream.stop()
        for successor in self._ending.values():
            if successor is not None:
                successor.stop()

    def _begin(self, stream: Stream) -> None:
        """Start a stream; threads lost by earlier streams of its name count as its own."""
        self._left_behind = stream.adopt(self._left_behind)
        self._running[stream.name] = stream
        self.publish()
        stream.start()

    def _release(self, stream: Stream) -> None:
        """Let go of a stream that has ended, or hangs, and start its successor."""
        lane = stream.lane
        if stream.alive:
            lane.abandon()
            lane.cut_short()
            self._left_behind += [thread for thread in stream.threads if thread.alive]
            log.warning("didn't end in time and is left behind", extra={"stream": stream.name})
        lane.ledger.close()
        self._models.forget(lane)
        for ledger in (lane.ledger, stream.view.tracks):
            if ledger is not None:
                log.info("ended: %s", ledger.read().receipt(), extra={"stream": stream.name})
        successor = self._ending.pop(stream)
        if successor is None:
            self.publish()
        else:
            self._begin(successor)

    def publish(self) -> None:
        """Publish the current streams and models."""
        models = list(self._models.current.values())
        self._service.publish([stream.view for stream in self._all], models)
