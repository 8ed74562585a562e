"""Applying configuration changes while the daemon runs, and publishing the result.

The result is stored in the lock file of the storage root. Clients need no port, only permission
to read that file and to signal the daemon.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace

from centernetd.config import Config, StreamConfig
from centernetd.config.config import Difference, difference
from centernetd.config.polygon import NOTHING, area
from centernetd.errors import CenternetdError
from centernetd.flow import Worker
from centernetd.run.models import MakeWorker, Model, Models
from centernetd.run.streams import Streams
from centernetd.service.service import Service
from centernetd.sink.housekeeping import Housekeeping

log = logging.getLogger(__name__)

READABLE_FOR = 0.5
"""Seconds that a result stays published before another reload begins; clients poll more often."""
_SENTENCES = ("loading", "outcome", "refusal")
_MAX_SENTENCE = 600  # characters of up to six bytes; only one of the sentences is set


@dataclass(frozen=True)
class ReloadStatus:
    """What a daemon publishes: its process, its reloads begun and ended, and the last result.

    ``follows`` is False if there is no configuration file to reload. ``loading`` names the models
    that the reload is waiting for. ``refusal`` explains why nothing was changed; ``outcome`` lists
    the changes.
    """

    pid: int
    follows: bool = True
    begun: int = 0
    ended: int = 0
    loading: str = ""
    outcome: str = ""
    refusal: str = ""

    @classmethod
    def of_this_process(cls, *, follows: bool) -> "ReloadStatus":
        """Return the initial status of this process."""
        return cls(os.getpid(), follows)

    def to_text(self) -> str:
        """Serialize to one line of less than 4,000 bytes, readable by `from_text`."""
        sentences = {key: _shortened(getattr(self, key)) for key in _SENTENCES}
        return json.dumps(asdict(self) | sentences, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "ReloadStatus":
        """Parse the line; raises ValueError if it is invalid or only partly written."""
        try:
            status = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if any(type(getattr(status, field.name)) is not field.type for field in fields(cls)):
            raise ValueError("a field is of another type")
        if not 0 < status.pid < 2**31:
            raise ValueError("it names no process")
        return status


class ModelLoader:
    """Loads the models that a new configuration needs, in a thread of its own."""

    def __init__(
        self, models: Models, load: Callable[[Model], None], make_worker: MakeWorker
    ) -> None:
        """Load with ``load``, which may raise CenternetdError, and start what is loaded."""
        self._models = models
        self._load = load
        self._make_worker = make_worker
        self._loading: Sequence[Model] = ()
        self._worker: Worker | None = None
        self._error: CenternetdError | None = None

    def begin(self, config: Config) -> None:
        """Begin to load what ``config`` lacks; raises CenternetdError if that is impossible."""
        self._error = None
        self._loading = self._models.lacking(config)
        self._worker = self._make_worker("load", self._run) if self._loading else None
        if self._worker is not None:
            self._worker.start()

    @property
    def loading(self) -> Sequence[str]:
        """The names of the models that were begun with."""
        return [model.name for model in self._loading]

    @property
    def done(self) -> bool:
        """Whether all are loaded and warm, or one of them failed."""
        if self._worker is not None and self._worker.alive:
            return False
        return self._error is not None or all(model.warm.is_set() for model in self._loading)

    def accept(self) -> None:
        """Make what was loaded current; raises CenternetdError if a model failed."""
        failures = [model.failure for model in self._loading if model.failure is not None]
        for error in (self._error, *failures):
            if error is not None:
                raise error
        self._models.accept(self._loading)

    def reject(self) -> None:
        """Let go of what was loaded."""
        self._models.reject(self._loading)

    def _run(self) -> None:
        try:
            for model in self._loading:
                self._load(model)
                model.prepare()
            for model in self._loading:
                model.start()
        except CenternetdError as error:
            self._error = error


class Reloader:
    """Rereads the configuration on request and applies it to the streams, one reload at a time.

    Everything is checked before anything changes: a configuration that can't be applied is
    refused as a whole. The result is published in the storage root's lock file, where
    `centernetd reload` reads it.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None,
        take_request: Callable[[], bool],
        streams: Streams,
        loader: ModelLoader,
        housekeeping: Housekeeping,
        service: Service,
    ) -> None:
        """Start from ``config``; when ``take_request`` returns True, call ``reread``, if given."""
        self._config = config
        self._reread = reread
        self._take_request = take_request
        self._streams = streams
        self._loader = loader
        # Applied once its models are loaded.
        self._next: tuple[Config, Difference] | None = None
        self._housekeeping = housekeeping
        self._service = service
        self._status = ReloadStatus.of_this_process(follows=reread is not None)
        self._publish(self._status)
        self._ended_at = -math.inf

    def check(self) -> None:
        """Begin a requested reload, or finish a completed one; called about twice per second."""
        if self._next is not None:
            if self._loader.done:
                self._apply(*self._next)
        elif self._under_way:
            if self._streams.settled:
                self._end(self._config.sha256)
        elif self._reread is not None and self._was_readable and self._take_request():
            self._begin(self._reread)

    def stop(self) -> None:
        """Let go of models that are being loaded."""
        self._loader.reject()

    @property
    def _under_way(self) -> bool:
        return self._status.begun > self._status.ended

    @property
    def _was_readable(self) -> bool:
        return time.monotonic() - self._ended_at >= READABLE_FOR

    def _begin(self, reread: Callable[[], Config]) -> None:
        self._service.reloading()
        self._publish(replace(self._status, begun=self._status.begun + 1, outcome="", refusal=""))
        try:
            config = reread()
            change = difference(self._config, config)
            self._loader.begin(config)
        except CenternetdError as error:
            self._refuse(error)
            return
        self._next = config, change
        self._publish(replace(self._status, loading=", ".join(self._loader.loading)))
        self.check()

    def _apply(self, config: Config, change: Difference) -> None:
        self._next = None
        self._publish(replace(self._status, loading=""))
        try:
            self._loader.accept()
            self._streams.apply(change, config.streams)
        except CenternetdError as error:
            self._loader.reject()
            self._refuse(error)
            return
        for name in change.changed:
            _report_less_privacy(self._config.streams[name], config.streams[name])
        self._config = config
        self._housekeeping.manage(config.streams.values())
        log.info("reloading the configuration: %s", change)
        self._publish(replace(self._status, outcome=str(change)))

    def _refuse(self, error: CenternetdError) -> None:
        log.error("the new configuration is refused, nothing has changed: %s", error)
        self._end(None, str(error))

    def _end(self, sha256: str | None, refusal: str = "") -> None:
        self._service.reloaded(sha256)
        self._ended_at = time.monotonic()
        self._publish(replace(self._status, ended=self._status.begun, refusal=refusal))

    def _publish(self, status: ReloadStatus) -> None:
        self._status = status
        self._housekeeping.publish(status.to_text())


def _report_less_privacy(before: StreamConfig, after: StreamConfig) -> None:
    old, new = before.privacy, after.privacy
    about = {"stream": after.name}
    masks = new.masks.values()
    open_now = area([*old.masks.values(), *masks]) - area(masks)
    if open_now > NOTHING:
        message = "its masks are smaller: %.1f %% of the picture was masked and no longer is"
        log.warning(message, 100 * open_now, extra=about)
    if old.blur and not new.blur:
        log.warning("it is no longer blurred", extra=about)


def _shortened(sentence: str) -> str:
    if len(sentence) <= _MAX_SENTENCE:
        return sentence
    rest = " ... (the daemon's log has it all)"
    return sentence[: _MAX_SENTENCE - len(rest)] + rest
