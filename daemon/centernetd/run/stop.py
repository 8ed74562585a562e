"""The end of a run: everything is closed in order, by a deadline, no matter what hangs."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from centernetd.flow import Worker
from centernetd.run.fleet import Fleet

log = logging.getLogger(__name__)

_MORE = 0.5  # seconds for inference to end after its lanes were emptied


class Patience(NamedTuple):
    """Deadlines in seconds from the start of a stop; whatever has not ended by then is abandoned.

    ``drain``: frames waiting for inference. ``capture``: closing the sources; a source that hangs
    delivers nothing more. ``write``: frames waiting for a sink; what remains is for the current
    frame and the end of the file. ``stop``: everything.
    """

    drain: float
    capture: float
    write: float
    stop: float


ORDERLY = Patience(drain=2.0, capture=2.0, write=2.8, stop=4.2)  # 5 s are promised
WITHOUT_ENGINE = Patience(drain=0.1, capture=0.5, write=0.5, stop=0.7)  # 1 s is promised


def shut_down(inference: Sequence[Worker], fleet: Fleet, patience: Patience) -> list[str]:
    """Stop capture, drain inference and let the sinks finish their files, all by a deadline.

    Returns the names of the threads that did not end in time. Closes the ledgers of all lanes.
    """
    began = time.monotonic()
    fleet.close()
    for worker in inference:
        worker.cancel()
    if not _join(inference, began + patience.drain):
        for lane in fleet.lanes:
            lane.discard()
        _join(inference, began + patience.drain + _MORE)
    for lane in fleet.lanes:
        lane.abandon()
    _join(fleet.captures, began + patience.capture)
    everyone = [*inference, *fleet.threads]
    if not _join(fleet.threads, began + patience.write):
        for lane in fleet.lanes:
            lane.cut_short()
    _join(everyone, began + patience.stop)
    left_behind = [worker.name for worker in everyone if worker.alive]
    for name in left_behind:
        log.warning("%s didn't end in time and is left behind", name)
    for lane in fleet.lanes:
        lane.ledger.close()
    return left_behind


def _join(workers: Iterable[Worker], deadline: float) -> bool:
    """Wait for ``workers`` until monotonic ``deadline``; return whether all have ended."""
    ended = [worker.join(deadline) for worker in workers]
    return all(ended)
