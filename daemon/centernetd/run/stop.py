"""The end of a run: everything is closed in order, by a deadline, no matter what hangs."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from centernetd.flow import Runner
from centernetd.run.streams import Streams

log = logging.getLogger(__name__)

_DRAIN_GRACE = 0.5  # seconds for inference to end after its lanes were emptied


class Deadlines(NamedTuple):
    """Seconds from the start of a stop after which whatever has not ended is abandoned.

    ``drain``: frames waiting for inference. ``capture``: closing the sources; a source that hangs
    delivers nothing more. ``write``: frames waiting for a sink; what remains is for the current
    frame and the end of the file. ``stop``: everything.
    """

    drain: float
    capture: float
    write: float
    stop: float


ORDERLY = Deadlines(drain=2.0, capture=2.0, write=2.8, stop=4.2)  # 5 s are promised
WITHOUT_ENGINE = Deadlines(drain=0.1, capture=0.5, write=0.5, stop=0.7)  # 1 s is promised


def stop_in_order(
    inference: Sequence[Runner],
    preparing: Sequence[Runner],
    streams: Streams,
    deadlines: Deadlines,
) -> list[str]:
    """Stop capture, drain inference and let the sinks finish their files, all by a deadline.

    Nothing waits for what is ``preparing`` engines but the end.
    Returns the names of the threads that did not end in time. Closes the ledgers of all lanes.
    """
    began = time.monotonic()
    streams.close()
    for worker in (*inference, *preparing):
        worker.cancel()
    if not _join(inference, began + deadlines.drain):
        for lane in streams.lanes:
            lane.discard()
        _join(inference, began + deadlines.drain + _DRAIN_GRACE)
    for lane in streams.lanes:
        lane.abandon()
    _join(streams.captures, began + deadlines.capture)
    everyone = [*inference, *preparing, *streams.threads]
    if not _join(streams.threads, began + deadlines.write):
        for lane in streams.lanes:
            lane.cut_short()
    _join(everyone, began + deadlines.stop)
    left_behind = [worker.name for worker in everyone if worker.alive]
    for name in left_behind:
        log.warning("%s didn't end in time and is left behind", name)
    for lane in streams.lanes:
        lane.ledger.close()
    return left_behind


def _join(workers: Iterable[Runner], deadline: float) -> bool:
    """Wait for ``workers`` until monotonic ``deadline``; return whether all have ended."""
    ended = [worker.join(deadline) for worker in workers]
    return all(ended)
