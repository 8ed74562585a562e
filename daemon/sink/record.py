"""The recorder: annotated video, in one file or cut into segments."""

import logging
import time
from collections.abc import Sequence

from daemon.config import RecordConfig
from daemon.errors import SinkError
from daemon.flow import Frame, Meters, Packet, Result, StreamStatus
from daemon.sink.accounts import Settled
from daemon.sink.annotate import draw_boxes
from daemon.sink.blur import blur
from daemon.sink.encoder import Encoder, EncoderError, choose_encoder
from daemon.sink.recording import Recording
from daemon.sink.stage import FrameLostError
from daemon.sink.storage import Storage

log = logging.getLogger(__name__)


class Recorder:
    """Draws into the frames of one stream, encodes and stores them; a `stage.Sink`.

    The frames' images are drawn on in place. Every frame is encoded once, also where it is only
    kept if something is detected soon after it.
    """

    def __init__(
        self,
        stream: str,
        config: RecordConfig,
        storage: Storage,
        labels: Sequence[str],
        status: StreamStatus,
        meters: Meters,
        *,
        from_file: bool = False,
    ) -> None:
        self._stream = stream
        self._config = config
        self._recording = Recording(stream, config, storage, status, from_file=from_file)
        self._labels = labels
        self._status = status
        self._meters = meters
        self._encoder: Encoder | None = None
        self._shape: tuple[int, ...] = ()
        self._frames = 0  # encoded so far, which numbers the packets

    def wants(self, result: Result) -> bool:
        """Every frame is encoded."""
        return True

    def write(self, result: Result) -> Settled:
        """Record a frame; see `stage.Sink`."""
        started = time.perf_counter()
        self._annotate(result)
        annotated = time.perf_counter()
        frame = result.frame
        try:
            packets = self._encode(frame)
            found = len(result.detections) > 0
            self._recording.judge(frame.time, self._frames, found=found)
            for packet in packets:
                self._recording.add(packet)
        except SinkError as error:
            self._abandon(error)
            raise
        self._meters.stage_duration("annotate", annotated - started)
        self._meters.stage_duration("encode", time.perf_counter() - annotated)
        return self._recording.settle()

    def close(self) -> Settled:
        """Complete the file; see `stage.Sink`."""
        try:
            for packet in self._flush():
                self._recording.add(packet)
            self._recording.close()
        except SinkError as error:
            self._abandon(error)
            raise
        return self._recording.settle()

    def _annotate(self, result: Result) -> None:
        """Draw, or raise FrameLostError: a frame that could not be blurred is never stored."""
        image, detections = result.frame.image, result.detections
        try:
            if self._config.draw == "boxes":
                draw_boxes(image, detections, self._labels)
            elif self._config.draw == "blur":
                blur(image, detections)
        except Exception as error:
            what = f"frame {result.frame.frame_id} could not be drawn on ({self._config.draw})"
            raise FrameLostError(f"{what}: {error}") from error

    def _encode(self, frame: Frame) -> list[Packet]:
        packets = self._flush() if frame.image.shape != self._shape else []
        if self._encoder is None:
            self._encoder = self._open(frame)
        self._frames += 1
        key = self._recording.due(frame.wall_time)
        return packets + self._encoder.encode(frame.image, frame.pts, frame.wall_time, key=key)

    def _open(self, frame: Frame) -> Encoder:
        height, width = frame.image.shape[:2]
        if frame.image.shape != self._shape:
            self._status.encoder = choose_encoder(self._config.codec, width, height)
            self._shape = frame.image.shape
            message = "recording %dx%d, encoded by %s"
            about = {"stream": self._stream}
            log.info(message, width, height, self._status.encoder, extra=about)
        return Encoder(self._status.encoder, width, height, frame.time_base, number=self._frames)

    def _flush(self) -> list[Packet]:
        """Close the encoder; returns what it still held."""
        encoder, self._encoder = self._encoder, None
        return encoder.flush() if encoder is not None else []

    def _abandon(self, error: SinkError) -> None:
        if isinstance(error, EncoderError):
            self._shape = ()  # so that the encoder is chosen anew
        self._encoder = None
        self._recording.abandon()
