"""The capture stage: one source into one lane."""

import logging
import threading
import time
from collections.abc import Callable

from daemon.capture.copying import Copying
from daemon.capture.open import open_source
from daemon.capture.pacing import Pacer, Thinner, backoff
from daemon.capture.source import Picture, Source
from daemon.capture.timeline import Timeline
from daemon.config import StreamConfig
from daemon.config.secret import SourceUri
from daemon.errors import SourceError
from daemon.flow import Frame, Lane, Meters, StreamState

log = logging.getLogger(__name__)

Opener = Callable[[SourceUri, float], Source]


class CaptureStage:
    """Reads one stream into its lane: a file once, anything live for ever.

    A live source that can't be opened, ends, stalls or lags is opened anew after a wait that
    ``stop`` cuts short. A file that can't be read ends its stream and marks it as failed.
    """

    def __init__(
        self,
        stream: StreamConfig,
        lane: Lane,
        meters: Meters,
        stop: threading.Event,
        opener: Opener = open_source,
    ) -> None:
        """Read ``stream`` into ``lane``; ``opener`` is replaced in tests."""
        self._stream = stream
        self._lane = lane
        self._status = lane.status
        self._meters = meters
        self._stop = stop
        self._opener = opener
        self._thinner = Thinner(stream.detect.max_fps)
        paced = stream.source.is_file and stream.policy == "live"
        self._pacer = Pacer(stop) if paced else None
        self._timeline: Timeline | None = None
        self._copying = Copying()
        self._frames = 0

    def run(self) -> None:
        """Read until the source is done or ``stop`` is set, then close the lane."""
        try:
            if self._stream.source.is_file:
                self._read_file()
            else:
                self._read_live()
        finally:
            self._status.state = StreamState.ENDED
            self._lane.close()

    def _read_file(self) -> None:
        try:
            self._read()
        except SourceError as error:
            self._status.last_error = str(error)
            self._status.failed = self._frames == 0
            if self._status.failed:
                self._log(logging.ERROR, "%s: %s", self._stream.source, error)
            else:
                message = "%s: only the first %d frames are readable: %s"
                self._log(logging.WARNING, message, self._stream.source, self._frames, error)

    def _read_live(self) -> None:
        waits = backoff()
        while not self._stop.is_set():
            before = self._frames
            try:
                self._read()
                error = SourceError("the source ended", "ended")
            except SourceError as raised:
                error = raised
            if self._stop.is_set():
                return
            if self._frames > before:
                waits = backoff()
            self._status.state = StreamState.RECONNECTING
            self._status.last_error = str(error)
            self._status.reconnects[error.reason] += 1
            wait = next(waits)
            self._log(
                logging.WARNING, "%s: %s; next try in %.1f s", self._stream.source, error, wait
            )
            self._stop.wait(wait)

    def _read(self) -> None:
        """Open the source and read it to its end; whatever goes wrong is a SourceError."""
        try:
            self._read_to_the_end()
        except SourceError:
            raise
        except Exception as error:
            # What a library or our own code gets wrong ends this reading, and no other stream's.
            log.exception("a fault while reading", extra={"stream": self._stream.name})
            raise SourceError(f"a fault while reading: {type(error).__name__}") from None

    def _read_to_the_end(self) -> None:
        source = self._opener(self._stream.source, self._stream.stall_timeout)
        try:
            self._status.codec, self._status.decoder = source.info.codec, source.info.decoder
            self._status.total_frames = source.info.total_frames
            timeline = self._continue_timeline(source)
            for picture in source:
                if self._stop.is_set():
                    return
                self._pass_on(picture, timeline)
            if self._frames == 0:
                raise SourceError("holds no picture that can be decoded")
        finally:
            source.close()
            if source.damaged_packets:
                message = "%s: %d damaged packets were passed over"
                self._log(logging.WARNING, message, self._stream.source, source.damaged_packets)

    def _continue_timeline(self, source: Source) -> Timeline:
        if self._timeline is None:
            own = source.info.time_base if self._stream.source.is_file else None
            self._timeline = Timeline(own)
        self._timeline.reconnected()
        return self._timeline

    def _pass_on(self, picture: Picture, timeline: Timeline) -> None:
        decoded_at = time.monotonic()
        pts = timeline.stamp(picture.pts, picture.time_base, decoded_at)
        at = float(pts * timeline.time_base)
        if self._pacer is not None:
            self._pacer.wait(at)
        self._meters.stage_duration("decode", picture.decode_seconds)
        wall_time = time.time()
        for packet in self._copying.packets(picture, pts, timeline.time_base, wall_time):
            self._lane.copy(packet)
        frame = Frame(
            frame_id=self._frames,
            image=picture.image,
            pts=pts,
            time_base=timeline.time_base,
            captured_at=decoded_at if self._pacer is None else time.monotonic(),
            wall_time=wall_time,
            packet=self._copying.passed,
        )
        self._frames += 1
        self._note_progress(frame, timeline)
        if self._thinner.wants(at):
            self._lane.offer(frame)
        else:
            self._lane.skip()

    def _note_progress(self, frame: Frame, timeline: Timeline) -> None:
        if self._status.state is not StreamState.RUNNING:
            height, width, _ = frame.image.shape
            self._log(logging.INFO, "running: %s, %dx%d", self._status.codec, width, height)
            self._status.state = StreamState.RUNNING
            self._status.last_error = None
        self._status.last_frame_at = frame.captured_at
        if self._stream.source.is_file:
            return
        self._status.source_lag = timeline.lag
        # A lossless stream lags by waiting for us, which opening it anew would not mend.
        if self._stream.policy == "live" and timeline.lag > self._stream.stall_timeout:
            raise SourceError(f"its pictures come {timeline.lag:.1f} s late", "lagging")

    def _log(self, level: int, message: str, *args: object) -> None:
        log.log(level, message, *args, extra={"stream": self._stream.name})
