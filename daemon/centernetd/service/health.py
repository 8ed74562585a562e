"""Whether the daemon is healthy and ready, as /healthz and /readyz answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from centernetd.flow import StorageStatus
from centernetd.service.progress import Progress
from centernetd.service.view import StreamView

NOT_LOADED = "the engine is not loaded yet"
STORAGE_HUNG = "the storage thread hangs in the disk: nothing is deleted until it comes back"


@dataclass(frozen=True)
class Verdict:
    """An answer, and what is wrong; there may be reasons even if ``ok``."""

    ok: bool
    reasons: tuple[str, ...] = ()


def health(engine_ready: bool, progress: Progress, storage: StorageStatus) -> Verdict:
    """Judge whether engine and supervisor are making progress or are idle for want of work.

    A dead camera or disk does not count, because restarting the daemon would not fix it. A thread
    that hangs in a disk operation is still reported.
    """
    reasons = tuple(progress.troubles()) if engine_ready else (NOT_LOADED,)
    hung = (STORAGE_HUNG,) if storage.hung else ()
    return Verdict(not reasons, reasons + hung)


def readiness(engine_ready: bool, streams: Sequence[StreamView], now: float) -> Verdict:
    """Judge whether the engine is loaded and at least one of ``streams`` is fresh.

    To ask about one stream, pass only that one.
    """
    reasons: tuple[str, ...] = () if engine_ready else (NOT_LOADED,)
    if not streams:
        reasons += ("there is no stream",)
    troubles = [(stream.name, stream.trouble(now)) for stream in streams]
    reasons += tuple(f"{name}: {trouble}" for name, trouble in troubles if trouble)
    return Verdict(engine_ready and any(not trouble for _, trouble in troubles), reasons)
