"""The recorder: annotated video, in one file or cut into segments."""

import logging
import time
from collections.abc import Sequence

from daemon.config import RecordConfig
from daemon.errors import SinkError
from daemon.flow import Frame, Meters, Result, StreamStatus
from daemon.sink.annotate import draw_boxes
from daemon.sink.blur import blur
from daemon.sink.encoder import EncoderError, choose_encoder
from daemon.sink.fragments import FragmentedMp4
from daemon.sink.stage import FrameLostError
from daemon.sink.storage import Storage

log = logging.getLogger(__name__)


class Recorder:
    """Draws into the frames of one stream, encodes and stores them; a `stage.Sink`.

    A new file begins when the wall clock passes a multiple of ``config.segment`` and when the
    pictures change their size. The frames' images are drawn on in place.
    """

    def __init__(
        self,
        stream: str,
        config: RecordConfig,
        storage: Storage,
        labels: Sequence[str],
        status: StreamStatus,
        meters: Meters,
    ) -> None:
        self._stream = stream
        self._config = config
        self._storage = storage
        self._labels = labels
        self._status = status
        self._meters = meters
        self._file: FragmentedMp4 | None = None
        self._shape: tuple[int, ...] = ()
        self._segment = 0

    def wants(self, result: Result) -> bool:
        """Every frame is recorded."""
        return True

    def write(self, result: Result) -> int:
        """Record a frame; see `stage.Sink`."""
        started = time.perf_counter()
        self._annotate(result)
        annotated = time.perf_counter()
        try:
            count = self._record(result.frame)
        except SinkError as error:
            self._abandon(error)
            raise
        self._meters.stage_duration("annotate", annotated - started)
        self._meters.stage_duration("encode", time.perf_counter() - annotated)
        return count

    def close(self) -> int:
        """Complete the file; see `stage.Sink`."""
        try:
            return self._finish()
        except SinkError as error:
            self._abandon(error)
            raise

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

    def _record(self, frame: Frame) -> int:
        count = 0
        segment = int(frame.wall_time // self._config.segment) if self._config.segment else 0
        if (segment, frame.image.shape) != (self._segment, self._shape):
            count = self._finish()
        if self._file is None:
            self._file = self._open(frame)
            self._segment = segment
        before = self._file.size
        try:
            return count + self._file.write(frame.image, frame.pts)
        finally:
            self._status.bytes_written += self._file.size - before

    def _open(self, frame: Frame) -> FragmentedMp4:
        height, width = frame.image.shape[:2]
        if frame.image.shape != self._shape:
            self._status.encoder = choose_encoder(self._config.codec, width, height)
            self._shape = frame.image.shape
            message = "recording %dx%d, encoded by %s"
            about = {"stream": self._stream}
            log.info(message, width, height, self._status.encoder, extra=about)
        path = self._storage.place(self._config.path, self._stream, frame.wall_time)
        file = FragmentedMp4(path, self._status.encoder, width, height, frame.time_base)
        self._status.output = str(file.path)
        self._status.bytes_written += file.size
        return file

    def _finish(self) -> int:
        if self._file is None:
            return 0
        before = self._file.size
        count = self._file.close()
        self._status.bytes_written += self._file.size - before
        self._complete(self._file)
        return count

    def _abandon(self, error: SinkError) -> None:
        if isinstance(error, EncoderError):
            self._shape = ()  # so that the encoder is chosen anew
        if self._file is not None and self._file.abandon():
            self._complete(self._file)
        self._file = None

    def _complete(self, file: FragmentedMp4) -> None:
        self._status.segments += 1
        self._status.output = str(file.path)
        self._file = None
