"""The status document that /status returns and ``centernetd status`` shows."""

import time
from dataclasses import asdict

from centernetd.service.health import health
from centernetd.service.view import Pipeline, StreamView

Document = dict[str, object]


def status(pipeline: Pipeline) -> Document:
    """Describe the daemon and each stream, ready for JSON; times are seconds."""
    now = time.monotonic()
    engine = pipeline.engine()
    verdict = health(engine is not None, pipeline.progress, pipeline.storage)
    return {
        "version": pipeline.version,
        "uptime": round(now - pipeline.started_at, 1),
        "healthy": verdict.ok,
        "troubles": verdict.reasons,
        "engine": None if engine is None else asdict(engine),
        "storage": asdict(pipeline.storage),
        "streams": {
            view.name: _stream(view, pipeline.rates.fps(view.name), now)
            for view in pipeline.streams()
        },
    }


def _stream(view: StreamView, fps: float, now: float) -> Document:
    known, book = view.lane.status, view.lane.ledger.read()
    return {
        "state": view.state.value,
        "fresh": view.fresh(now),
        "failed": known.failed,
        "last_error": view.last_error,
        "frozen": known.frozen,
        "frame_age": round(view.age(now), 3) if book.captured else None,
        "fps": round(fps, 2),
        "captured": book.captured,
        "inferred": book.inferred,
        "dropped": {
            f"{stage.value}/{reason.value}": count
            for (stage, reason), count in book.dropped.items()
            if count
        },
        "written": {sink.value: count for sink, count in book.written.items()},
        "in_flight": {stage.value: count for stage, count in book.in_flight.items()},
        "total_frames": known.total_frames,
        "damaged": known.damaged,
        "lost_threads": known.lost_threads,
        "lost_connections": known.lost_connections,
        "reconnects": sum(dict(known.reconnects).values()),
        "codec": known.codec,
        "decoder": known.decoder,
        "encoder": known.encoder,
        "output": known.output,
    }
