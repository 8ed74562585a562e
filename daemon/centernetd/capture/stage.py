"""The capture stage: reads one source into one lane, reopens it and detects stalls."""

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from centernetd.capture.container import reason_of
from centernetd.capture.decoding import DecoderChoice
from centernetd.capture.intake import Intake
from centernetd.capture.lease import Lease, LeaseEndedError
from centernetd.capture.open import open_stream
from centernetd.capture.source import Picture, Source
from centernetd.config import StreamConfig
from centernetd.errors import EngineError, SourceError
from centernetd.flow import Incident, Lane, Meters, StreamState

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds after a stall in which a library may still return by itself."""
_STALL = 0.9  # of stall_timeout: with a check every half second, 10 s are kept on a busy machine

_REPEATED_AFTER = 60.0  # seconds after which a persisting failure is logged again
_FIRST_WAIT = 0.5  # seconds between two attempts to open a source
_MAX_WAIT = 5.0

Opener = Callable[[StreamConfig, DecoderChoice], Source]


class CaptureStage:
    """Reads one stream into its lane: a file once, a live source forever.

    A live source that can't be opened, ends, stalls or lags is reopened after a delay, which
    ``stop`` interrupts; a playlist that was complete from the beginning is not. A file that
    can't be read ends its stream and marks it as failed.

    A thread blocked inside a library can't be terminated. So `watch`, called from outside,
    ends its lease, and `run` is called again in another thread; if the lost thread ever
    returns, its pictures are rejected.
    """

    def __init__(
        self,
        stream: StreamConfig,
        lane: Lane,
        meters: Meters,
        stop: threading.Event,
        opener: Opener = open_stream,
        *,
        surfaces: bool = False,
    ) -> None:
        """Read ``stream`` into ``lane``; tests replace ``opener``.

        With ``surfaces``, what the GPU decodes stays there.
        """
        self._stream = stream
        self._lane = lane
        self._status = lane.status
        self._stop = stop
        self._opener = opener
        self._choice = DecoderChoice(stream, surfaces=surfaces)
        self._intake = Intake(stream, lane, meters, stop)
        self._failures = Incident(_REPEATED_AFTER)
        self._damage = Incident(_REPEATED_AFTER)
        self._reads_pipe = False
        self._lease = Lease()
        self._stalls_at = _STALL * stream.stall_timeout
        self._lost_at = stream.stall_timeout + GRACE

    def run(self) -> None:
        """Read until the source is finished or ``stop`` is set, then close the lane.

        Called once, and again each time `watch` has returned True.
        """
        lease = self._lease
        try:
            if self._stream.from_file:
                self._read_file(lease)
            else:
                self._read_live(lease)
        except LeaseEndedError:
            self._log(logging.INFO, "a lost capture thread has returned and ends")
            return
        self._status.state = StreamState.ENDED
        self._lane.close()

    def watch(self) -> bool:
        """Detect a stall; return whether the thread is lost and `run` must be called in a new one.

        Call this about twice per second from one thread that reads no source. A file's thread
        keeps its lease, as no other could continue from the middle. A pipe may be silent for any
        length of time.
        """
        waited = self._lease.waited
        if self._reads_pipe or waited < self._stalls_at:
            return False
        if self._stream.from_file:
            if waited >= self._lost_at and self._status.state is not StreamState.STUCK:
                self._note_loss(waited)
            return False
        if self._lease.end(self._lost_at):
            self._lease = Lease()
            self._status.reconnects["stuck"] += 1
            self._note_loss(waited)
            return True
        if self._lease.declare_stall(self._stalls_at):
            self._note_failure(self._stalled, "reopening it")
        return False

    def _read_file(self, lease: Lease) -> None:
        try:
            self._read(lease)
        except SourceError as error:
            count = self._intake.count
            self._status.last_error = str(error)
            self._status.failed = count == 0
            if self._status.failed:
                self._log(logging.ERROR, "%s: %s", self._stream.source, error)
            else:
                message = "%s: only the first %d frames are readable: %s"
                self._log(logging.WARNING, message, self._stream.source, count, error)

    def _read_live(self, lease: Lease) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            before, began = self._intake.count, time.monotonic()
            try:
                if self._read(lease):
                    return
                error = SourceError("the source ended", "ended")
            except SourceError as raised:
                error = raised
            if self._stop.is_set():
                return
            if self._intake.count > before:
                backoff, began = Backoff(), time.monotonic()
            wait = backoff.after(time.monotonic() - began)
            if not lease.recover():
                self._note_failure(error, f"next try in {wait:.1f} s")
            self._stop.wait(wait)

    def _read(self, lease: Lease) -> bool:
        """Open the source and read it to its end; return whether that is the end of the stream.

        Every failure is raised as SourceError.
        """
        try:
            return self._read_to_the_end(lease)
        except (SourceError, LeaseEndedError):
            raise
        except EngineError as error:  # of the GPU that holds the picture
            raise SourceError(str(error)) from None
        except PermissionError as error:  # of a folder on the way to a file
            raise SourceError(f"can't be opened: {reason_of(error)}", "open_failed") from None
        except Exception as error:
            # A bug in a library or in our code ends this reading, but affects no other stream.
            sentence = f"a fault while reading: {type(error).__name__}"
            if self._damage.occurred(sentence):
                log.exception(sentence, extra={"stream": self._stream.name})
            raise SourceError(sentence) from None
        finally:
            lease.resume()

    def _read_to_the_end(self, lease: Lease) -> bool:
        began, damaged = time.monotonic(), self._status.damaged
        lease.wait()
        self._reads_pipe = (
            self._stream.source.is_file and not Path(self._stream.source.reveal()).is_file()
        )
        source = self._opener(self._stream, self._choice)
        try:
            lease.resume()
            finished = source.info.complete and not self._stream.never_ends
            if source.info.complete and self._intake.count:
                raise SourceError("its playlist does not grow any more", "ended")
            self._intake.connected(source.info)
            lease.wait(since=began)
            for picture in source:
                if lease.resume():
                    raise self._stalled
                if self._stop.is_set():
                    return False
                self._intake.take(picture)
                self._status.damaged = damaged + source.damaged
                self._note_picture(picture, source)
                lease.wait()
            lease.resume()
            if self._intake.count == 0:
                raise SourceError("contains no picture that can be decoded")
            return finished
        finally:
            lease.wait()
            source.close()
            lease.resume()
            self._status.damaged = damaged + source.damaged
            self._note_damage(source.damaged - source.held_back, source.held_back)

    def _note_picture(self, picture: Picture, source: Source) -> None:
        self._status.decoder = source.info.decoder
        if self._status.state is StreamState.RUNNING:
            return
        self._status.state = StreamState.RUNNING
        self._status.last_error = None
        if self._failures.resolved() or self._intake.count == 1:
            height, width = picture.image.size
            self._log(logging.INFO, "running: %s, %dx%d", self._status.decoder, width, height)

    def _note_failure(self, error: SourceError, what_next: str) -> None:
        self._status.lost_connections += self._status.state is StreamState.RUNNING
        self._status.state = StreamState.RECONNECTING
        self._status.last_error = str(error)
        self._status.reconnects[error.reason] += 1
        if times := self._failures.occurred((error.reason, str(error))):
            again = f" ({times} times)" if times > 1 else ""
            message = "%s: %s%s; %s"
            self._log(logging.WARNING, message, self._stream.source, error, again, what_next)

    def _note_damage(self, damaged: int, held_back: int) -> None:
        if damaged and self._damage.occurred("damaged"):
            message = "%s: %d damaged packets or pictures were skipped"
            self._log(logging.WARNING, message, self._stream.source, damaged)
        if held_back and self._damage.occurred("held back"):
            message = "%s: %d pictures were held back: no key frame or recovery point %s"
            when = "since the damage" if damaged else "yet"
            self._log(logging.WARNING, message, self._stream.source, held_back, when)

    def _note_loss(self, waited: float) -> None:
        """Record and log that the reading thread is lost, on its behalf."""
        error = f"the library that reads it has not returned for {waited:.0f} s"
        self._status.lost_connections += self._status.state is StreamState.RUNNING
        self._status.state = StreamState.STUCK
        self._status.last_error = error
        if times := self._failures.occurred("stuck"):
            again = f" ({times} times)" if times > 1 else ""
            self._log(logging.ERROR, "%s: stuck: %s%s", self._stream.source, error, again)

    @property
    def _stalled(self) -> SourceError:
        return SourceError(f"no picture for {self._stream.stall_timeout:g} s", "stalled")

    def _log(self, level: int, message: str, *args: object) -> None:
        log.log(level, message, *args, extra={"stream": self._stream.name})


class Backoff:
    """Delays between retries: doubling, with jitter, up to 5 s.

    The jitter (up to a quarter less) keeps cameras behind one switch from reconnecting together.
    """

    def __init__(self) -> None:
        self._wait = _FIRST_WAIT

    def after(self, took: float) -> float:
        """Return the seconds to wait after a try that failed after ``took`` seconds.

        That time counts as waited: after a silent server's timeout no equal pause is needed.
        """
        wait = max(self._wait - took, _FIRST_WAIT)
        self._wait = min(self._wait * 2, _MAX_WAIT)
        return wait * random.uniform(0.75, 1.0)  # noqa: S311 (not used for secrets)
