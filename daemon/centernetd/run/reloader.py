"""Applying configuration changes while the daemon runs."""

import logging
from collections.abc import Callable
from dataclasses import replace

from centernetd.config import Config, StreamConfig
from centernetd.config.difference import difference
from centernetd.errors import CenternetdError
from centernetd.run.control import Control
from centernetd.run.fleet import Fleet
from centernetd.run.pipeline import StreamStages
from centernetd.service.service import Service
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.storage import Storage

log = logging.getLogger(__name__)


class Reloader:
    """Rereads the configuration on request and applies it to the fleet, one reload at a time.

    Everything is checked before anything changes: a configuration that can't be applied is
    refused as a whole. The result is published in the storage root's lock file, where
    `centernetd reload` reads it.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None,
        asked: Callable[[], bool],
        fleet: Fleet,
        make_stages: Callable[[StreamConfig], StreamStages],
        keeper: Housekeeping,
        service: Service,
        storage: Storage,
    ) -> None:
        """Start from ``config``; when ``asked`` returns True, call ``reread``, if given."""
        self._config = config
        self._reread = reread
        self._asked = asked
        self._fleet = fleet
        self._make_stages = make_stages
        self._keeper = keeper
        self._service = service
        self._storage = storage
        self._says = Control.of_this_process(follows=reread is not None)
        self._say(self._says)

    def look(self) -> None:
        """Begin a requested reload, or finish a completed one; called about twice per second."""
        if self._under_way and self._fleet.settled:
            self._end(self._config.sha256)
        if self._reread is not None and not self._under_way and self._asked():
            self._begin(self._reread)

    @property
    def _under_way(self) -> bool:
        return self._says.begun > self._says.ended

    def _begin(self, reread: Callable[[], Config]) -> None:
        self._service.reloading()
        self._say(replace(self._says, begun=self._says.begun + 1, outcome="", refusal=""))
        try:
            config = reread()
            change = difference(self._config, config)
            self._fleet.follow(change, config.streams, self._make_stages)
        except CenternetdError as error:
            log.error("the configuration is not followed, nothing has changed: %s", error)  # noqa: TRY400
            self._end(None, str(error))
            return
        self._config = config
        self._keeper.follow(config.streams.values())
        log.info("following the configuration: %s", change)
        self._say(replace(self._says, outcome=str(change)))

    def _end(self, sha256: str | None, refusal: str = "") -> None:
        self._service.reloaded(sha256)
        self._say(replace(self._says, ended=self._says.begun, refusal=refusal))

    def _say(self, control: Control) -> None:
        self._says = control
        self._storage.say(control.to_text())
