"""Everything the daemon publishes about itself, in one object."""

import faulthandler
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector

from centernetd.config import Config
from centernetd.flow import Incident, Lane, Reason, StorageStatus
from centernetd.service.health import Heartbeats, StreamView
from centernetd.service.http import HttpServer
from centernetd.service.metrics import PipelineCollector, PrometheusMeters
from centernetd.service.notify import Notifier
from centernetd.service.overload import Overload
from centernetd.service.pages import Pages
from centernetd.service.status import DaemonStatus, ModelView

log = logging.getLogger(__name__)

_STDERR = 2
_MAX_SILENCE = 300.0
"""Seconds between progress reports of a start: a plan builder times each layer in many ways."""


class Service:
    """Metrics, health pages and systemd notifications, while used as a context manager.

    Raises
    ------
    StartupError
        From the constructor, if ``metrics.listen`` can't be bound.
    """

    def __init__(
        self,
        config: Config,
        lanes: Sequence[Lane],
        storage: StorageStatus,
        inferences: Callable[[], Mapping[str, int]],
    ) -> None:
        """Publish each stream of ``config``, so far only its lane, until `publish` is called.

        ``inferences`` returns how many frames each model ran on.
        """
        self._notifier = Notifier()
        self._overload = Overload()
        self._hang = Incident()
        self.heartbeats = Heartbeats()
        self._status = DaemonStatus(
            storage,
            config.sha256,
            streams=[StreamView(lane, config.streams[lane.name].stall_timeout) for lane in lanes],
            inferences=inferences,
            heartbeats=self.heartbeats,
        )
        registry = CollectorRegistry()
        registry.register(PipelineCollector(self._status))
        ProcessCollector(registry=registry)
        self.meters = PrometheusMeters(registry)
        for lane in lanes:
            self.meters.add_stream(lane.name)
        listen = config.metrics.listen
        self._server = HttpServer(listen, Pages(self._status, registry)) if listen else None

    def __enter__(self) -> "Service":
        if self._server is not None:
            self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()

    def starting(self, doing: str) -> None:
        """Report startup progress, so that systemd keeps waiting; from any thread."""
        self._notifier.status(doing)
        self._notifier.extend_timeout(_MAX_SILENCE)

    def running(self, models: Sequence[ModelView]) -> None:
        """Report that ``models`` are loaded and every stage is running."""
        # A start of minutes does not count as a stall.
        self.heartbeats.tick({model.name: 0 for model in models})
        self._status.models = models
        self._notifier.ready()

    def publish(self, streams: Sequence[StreamView], models: Sequence[ModelView]) -> None:
        """Publish these streams and models from now on."""
        self._status.models = models
        before, after = ({view.name for view in some} for some in (self._status.streams, streams))
        for name in after - before:
            self.meters.add_stream(name)
        self._status.streams = list(streams)
        for name in before - after:
            self.meters.remove_stream(name)

    def reloading(self) -> None:
        """Report that a reload has begun."""
        self._notifier.reloading()

    def reloaded(self, sha256: str | None) -> None:
        """Report the end of a reload; ``sha256`` is None if the configuration was refused."""
        self._status.last_reload_succeeded = sha256 is not None
        self._status.config_sha256 = sha256 or self._status.config_sha256
        self._notifier.ready()

    def tick(self) -> None:
        """Note the progress made; systemd is pinged only while all is well."""
        now = time.monotonic()
        lanes = [view.lane for view in self._status.streams]
        waiting = {model.name: 0 for model in self._status.models}
        for inbox in (inbox for lane in lanes for inbox in lane.inboxes.values()):
            waiting[inbox.model] = waiting.get(inbox.model, 0) + inbox.pending
        self.heartbeats.tick(waiting)
        self._status.rates.tick(lanes, now)
        self._overload.tick(lanes, now)
        self._judge()
        self._notifier.status(self._summary(now))

    def stopping(self) -> None:
        """Report that the stop has begun."""
        self._notifier.stopping()

    def _judge(self) -> None:
        """Ping systemd's watchdog, or log once what hangs and where each thread is.

        The stacks are dumped here because the threads still hang. The dump on SIGABRT, which comes
        later, may be cut short by a thread that moves.
        """
        verdict = self._status.health
        if verdict.ok:
            self._notifier.watchdog()
            if self._hang.resolved():
                log.warning("inference makes progress again")
        elif self._hang.occurred():
            log.error("%s; a stack trace of each thread follows", "; ".join(verdict.reasons))
            faulthandler.dump_traceback(_STDERR)

    def _summary(self, now: float) -> str:
        """Return the line of `systemctl status`, at monotonic ``now``."""
        streams, rates = self._status.streams, self._status.rates
        up = sum(view.fresh(now) for view in streams)
        fps = sum(rates.fps(view.name) for view in streams)
        dropped = sum(_lost(view.lane) for view in streams)
        return f"{up} of {len(streams)} streams up, {fps:.1f} frames/s, {dropped} dropped"


def _lost(lane: Lane) -> int:
    """Return how many frames were dropped although the configuration wants them."""
    dropped = lane.ledger.read().dropped
    return sum(count for (_, reason), count in dropped.items() if reason is not Reason.UNWANTED)
