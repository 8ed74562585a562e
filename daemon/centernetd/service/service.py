"""Everything the daemon publishes about itself, in one object."""

import faulthandler
import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector

from centernetd.config import Config
from centernetd.flow import Incident, Lane, Reason, StorageStatus
from centernetd.service.health import health
from centernetd.service.http import HttpServer
from centernetd.service.metrics import PipelineCollector, PrometheusMeters
from centernetd.service.notify import Notifier
from centernetd.service.overload import Overload
from centernetd.service.pages import Pages
from centernetd.service.progress import Progress
from centernetd.service.rates import Rates
from centernetd.service.view import ConfigState, EngineInfo, Pipeline, StreamView

log = logging.getLogger(__name__)

_STDERR = 2
_LONGEST_SILENCE = 300.0
"""Seconds between progress reports of a start: a plan builder times each layer in many ways."""


class Service:
    """Metrics, health pages and systemd notifications, while used as a context manager.

    Raises
    ------
    StartupError
        From the constructor, if ``metrics.listen`` can't be bound.
    """

    def __init__(self, config: Config, lanes: Sequence[Lane], storage: StorageStatus) -> None:
        """Show the streams of ``config``; ``lanes`` is a shared list that changes with `show`."""
        self._lanes = lanes
        self._storage = storage
        self._engine: EngineInfo | None = None
        self._slots_busy: Callable[[], int] = lambda: 0
        self._notifier = Notifier()
        self.config = ConfigState(config.sha256)
        self.progress = Progress()
        self.rates = Rates()
        self._overload = Overload()
        self._hang = Incident()
        self._views = [StreamView(lane, config.streams[lane.name].stall_timeout) for lane in lanes]
        pipeline = Pipeline(
            streams=lambda: self._views,
            engine=lambda: self._engine,
            slots_busy=lambda: self._slots_busy(),
            progress=self.progress,
            rates=self.rates,
            storage=storage,
            config=self.config,
            version=version("centernetd"),
            started_at=time.monotonic(),
        )
        registry = CollectorRegistry()
        registry.register(PipelineCollector(pipeline))
        ProcessCollector(registry=registry)
        self.meters = PrometheusMeters(registry)
        for lane in lanes:
            self.meters.add_stream(lane.name)
        listen = config.metrics.listen
        self._server = HttpServer(listen, Pages(pipeline, registry)) if listen else None

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
        self._notifier.extend_timeout(_LONGEST_SILENCE)

    def running(self, engine: EngineInfo, slots_busy: Callable[[], int]) -> None:
        """Report that the engine is loaded and every stage is running."""
        self.progress.tick(waiting=0)  # a start of minutes does not count as a stall
        self._engine, self._slots_busy = engine, slots_busy
        self._notifier.ready()

    def show(self, views: Sequence[StreamView]) -> None:
        """Show these streams from now on."""
        before, after = ({view.name for view in some} for some in (self._views, views))
        for name in after - before:
            self.meters.add_stream(name)
        self._views = list(views)
        for name in before - after:
            self.meters.remove_stream(name)

    def reloading(self) -> None:
        """Report that a reload has begun."""
        self._notifier.reloading()

    def reloaded(self, sha256: str | None) -> None:
        """Report the end of a reload; ``sha256`` is None if the configuration was refused."""
        self.config.last_reload_succeeded = sha256 is not None
        self.config.sha256 = sha256 or self.config.sha256
        self._notifier.ready()

    def tick(self) -> None:
        """Note the progress made; systemd is pinged only while all is well."""
        self.progress.tick(sum(lane.ledger.waiting for lane in self._lanes))
        now = time.monotonic()
        self.rates.tick(self._lanes, now)
        self._overload.tick(self._lanes, now)
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
        verdict = health(self._engine is not None, self.progress, self._storage)
        if verdict.ok:
            self._notifier.watchdog()
            if self._hang.resolved():
                log.warning("inference moves again")
        elif self._hang.occurred():
            log.error("%s; where each thread is follows", "; ".join(verdict.reasons))
            faulthandler.dump_traceback(_STDERR)

    def _summary(self, now: float) -> str:
        """Return the line of `systemctl status`, at monotonic ``now``."""
        up = sum(view.fresh(now) for view in self._views)
        fps = sum(self.rates.fps(view.name) for view in self._views)
        dropped = sum(_lost(lane) for lane in self._lanes)
        return f"{up} of {len(self._views)} streams up, {fps:.1f} frames/s, {dropped} dropped"


def _lost(lane: Lane) -> int:
    """Return how many frames were dropped although the configuration wants them."""
    dropped = lane.ledger.read().dropped
    return sum(count for (_, reason), count in dropped.items() if reason is not Reason.UNWANTED)
