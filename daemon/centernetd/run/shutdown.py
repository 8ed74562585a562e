"""The end of a run: everything closed in order, and by a deadline whatever hangs."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from centernetd.flow import Worker
from centernetd.run.fleet import Fleet

log = logging.getLogger(__name__)

_MORE = 0.5  # seconds for an inference whose lanes were emptied


class Patience(NamedTuple):
    """Seconds from the start of a stop until what has not ended is left behind.

    ``drain`` is for what waits for inference; ``capture`` for sources to be closed, as one
    that hangs has nothing more to give; ``write`` for what waits for a sink, as the rest is for
    the frame in hand and the end of its file; ``stop`` for everything.
    """

    drain: float
    capture: float
    write: float
    stop: float


ORDERLY = Patience(drain=2.0, capture=2.0, write=2.8, stop=4.2)  # 5 s are promised
WITHOUT_ENGINE = Patience(drain=0.1, capture=0.5, write=0.5, stop=0.7)  # 1 s is promised


def shut_down(inference: Sequence[Worker], fleet: Fleet, patience: Patience) -> list[str]:
    """Stop capture, drain inference, let the sinks finish their files; all by a deadline.

    Returns the names of the threads that didn't end in time. The books of all lanes are closed.
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
    """Wait for ``workers`` until monotonic ``deadline``; returns whether all have ended."""
    ended = [worker.join(deadline) for worker in workers]
    return all(ended)
