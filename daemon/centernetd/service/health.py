"""Whether the daemon is healthy and ready: what /healthz and /readyz answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from centernetd.flow import StorageStatus
from centernetd.service.progress import Progress
from centernetd.service.view import StreamView

NOT_LOADED = "the engine is not loaded yet"
STORAGE_HUNG = "the storage thread hangs in the disk: nothing is deleted until it comes back"


@dataclass(frozen=True)
class Verdict:
    """An answer and its reasons: what is wrong, also where the answer as a whole is yes."""

    ok: bool
    reasons: tuple[str, ...] = ()


def health(engine_ready: bool, progress: Progress, storage: StorageStatus) -> Verdict:
    """Judge whether engine and supervisor progress or are rightly idle.

    A dead camera or disk is no reason: restarting the daemon would not mend it. A thread that
    hangs in the disk is reported, though.
    """
    reasons = tuple(progress.troubles()) if engine_ready else (NOT_LOADED,)
    hung = (STORAGE_HUNG,) if storage.hung else ()
    return Verdict(not reasons, reasons + hung)


def readiness(engine_ready: bool, streams: Sequence[StreamView], now: float) -> Verdict:
    """Judge whether the engine is loaded and at least one stream is fresh.

    One stream is asked for by giving only that one.
    """
    reasons: tuple[str, ...] = () if engine_ready else (NOT_LOADED,)
    if not streams:
        reasons += ("there is no stream",)
    troubles = [(stream.name, stream.trouble(now)) for stream in streams]
    reasons += tuple(f"{name}: {trouble}" for name, trouble in troubles if trouble)
    return Verdict(engine_ready and any(not trouble for _, trouble in troubles), reasons)
