"""The recorders: of annotated video, and of the source's own packets."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from zoneinfo import ZoneInfo

from centernetd.config import StreamConfig
from centernetd.flow import Frame, Packet, Result
from centernetd.sink.annotate import Annotator
from centernetd.sink.encoder import Encoder, EncoderError, choose_encoder, try_encoder
from centernetd.sink.muxer import require_copyable
from centernetd.sink.recording import Recording
from centernetd.sink.segments import TOO_OFTEN, RateLimit
from centernetd.sink.stage import Outcome, PacketSink, PictureSink, Released, SinkContext

log = logging.getLogger(__name__)


def try_recording(stream: StreamConfig, codec: str, width: int, height: int) -> None:
    """Encode a picture as ``stream`` would, or see whether its packets can be copied.

    The source sends video of ``codec``, as FFmpeg names it, and this size.

    Raises
    ------
    SinkError
        If the stream can't be recorded.
    """
    if stream.copies:
        require_copyable(codec)
    elif stream.record.when != "never":
        with _advising(stream.record.codec):
            chosen = choose_encoder(stream.record.codec, width, height, stream.device)
            try_encoder(chosen, width, height, stream.device)


@contextmanager
def _advising(codec: str) -> Iterator[None]:
    """Add advice to any `EncoderError` raised inside if ``codec`` names a GPU's encoder."""
    try:
        yield
    except EncoderError as error:
        if codec in ("auto", "libx264"):
            raise
        raise EncoderError(f"{error}; set record.codec: auto") from error


class Recorder(PictureSink):
    """Draws into the frames of one stream, in place, encodes and stores them.

    Every frame is encoded once, even if it is only kept in case of a detection soon after.
    """

    def __init__(self, context: SinkContext) -> None:
        stream = context.stream
        self._stream = stream.name
        self._device = stream.device
        self._config = stream.record
        self._shows = context.shows
        timezone = None if stream.timezone is None else ZoneInfo(stream.timezone)
        self._annotator = Annotator(stream.record.draw, context.labels, timezone)
        self._status = context.status
        self._meters = context.meters
        self._recording = Recording(context)
        self._encoder: Encoder | None = None
        self._limit = RateLimit(limited=not stream.from_file)  # for opening encoders
        self._shape: tuple[tuple[int, ...], Fraction] | None = None  # image shape, pixel aspect
        self._frames = 0  # encoded so far, which numbers the packets

    def write(self, picture: Released) -> Outcome:
        """Record a frame; see `stage.PictureSink`."""
        started = time.perf_counter()
        try:
            shown = self._draw(picture)
        except Exception as error:
            message = "a frame is dropped because it could not be drawn on: %s"
            log.error(message, error, extra={"stream": self._stream})  # noqa: TRY400
            return Outcome(failed=1)
        self._meters.stage_duration("annotate", time.perf_counter() - started)
        return self._outcome_of(partial(self._store, shown))

    def close(self) -> Outcome:
        """Complete the file; see `stage.PictureSink`."""
        return self._outcome_of(self._finish)

    def _outcome_of(self, step: Callable[[], None]) -> Outcome:
        try:
            with _advising(self._config.codec):
                step()
        except EncoderError:
            self._shape = None  # so that the encoder is chosen again
            self._abandon()
            raise
        except Exception:
            self._abandon()
            raise
        return self._recording.settle()

    def _draw(self, picture: Released) -> Released:
        shown = replace(picture, detections=self._shows(picture.detections))
        if self._config.draw:
            self._annotator.draw(picture.frame.image.pixels(), shown)
        return shown

    def _store(self, result: Released) -> None:
        started = time.perf_counter()
        packets = self._encode(result.frame)
        found = len(result.detections) > 0
        self._recording.judge(result.frame.time, self._frames, found=found)
        for packet in packets:
            self._recording.add(packet)
        self._meters.stage_duration("encode", time.perf_counter() - started)

    def _finish(self) -> None:
        for packet in self._flush():
            self._recording.add(packet)
        self._recording.close()

    def _encode(self, frame: Frame) -> list[Packet]:
        packets = self._flush() if (frame.image.size, frame.aspect) != self._shape else []
        self._frames += 1  # a frame that is not encoded leaves a gap in the packet numbers
        if self._encoder is None and not (self._limit.allowed and self._recording.may_begin):
            log.warning(TOO_OFTEN, extra={"stream": self._stream})
            return packets
        if self._encoder is None:
            self._encoder = self._open(frame)
        key = self._recording.due(frame.wall_time)
        return packets + self._encoder.encode(
            frame.image.pixels(), frame.pts, frame.wall_time, key=key
        )

    def _open(self, frame: Frame) -> Encoder:
        self._limit.begin()
        height, width = frame.image.size
        shape = frame.image.size, frame.aspect
        if shape != self._shape:
            self._status.encoder = choose_encoder(self._config.codec, width, height, self._device)
        encoder = Encoder(
            self._status.encoder,
            width,
            height,
            frame.time_base,
            number=self._frames - 1,
            aspect=frame.aspect,
            device=self._device,
        )
        if shape != self._shape:
            self._shape = shape
            message = "recording %dx%d, encoded by %s"
            about = {"stream": self._stream}
            log.info(message, width, height, self._status.encoder, extra=about)
        return encoder

    def _flush(self) -> list[Packet]:
        """Close the encoder; return its remaining packets."""
        encoder, self._encoder = self._encoder, None
        return encoder.flush() if encoder is not None else []

    def _abandon(self) -> None:
        self._encoder = None
        self._recording.abandon()


class PacketRecorder(PacketSink):
    """Stores the packets of one stream as received.

    A frame counts as written when every packet read before it is written. So the recording also
    contains what inference skipped, while the ledger only counts frames that were inferred.
    """

    def __init__(self, context: SinkContext) -> None:
        self._shows = context.shows
        self._recording = Recording(context)
        context.status.encoder = "copy"

    def write_packets(self, packets: Iterable[Packet], results: Sequence[Result]) -> Outcome:
        """Write packets; what was found decides which are kept. See `stage.PacketSink`."""
        return self._outcome_of(lambda: self._store(packets, results))

    def close(self) -> Outcome:
        """Complete the file; see `stage.Sink`."""
        return self._outcome_of(self._recording.close)

    def _store(self, packets: Iterable[Packet], results: Sequence[Result]) -> None:
        """Judge each frame directly after its packet, before a later one can end the recording."""
        verdicts = deque(results)
        for packet in packets:
            while verdicts and verdicts[0].frame.packet < packet.number:
                self._judge(verdicts.popleft())
            self._recording.add(packet)
        for result in verdicts:
            self._judge(result)

    def _judge(self, result: Result) -> None:
        frame, found = result.frame, len(self._shows(result.detections)) > 0
        self._recording.judge(frame.time, frame.packet, found=found)

    def _outcome_of(self, step: Callable[[], None]) -> Outcome:
        try:
            step()
        except Exception:
            self._recording.abandon()
            raise
        return self._recording.settle()
