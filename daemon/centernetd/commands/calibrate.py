"""Int8 models: calibrated on some frames of a video and evaluated on others."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centernetd.capture.open import open_stream
from centernetd.capture.source import Source
from centernetd.config import SourceUri, StreamConfig, shown
from centernetd.errors import SourceError
from centernetd.flow import Detections
from centernetd.inference.engines.ort_cpu import OrtCpuEngine
from centernetd.inference.filter import make_filter
from centernetd.inference.letterbox import GEOMETRIES, Geometry, fill_row
from centernetd.inference.postprocess import View, postprocess
from centernetd.model.manifest import FLOAT32, Manifest
from centernetd.model.progress import Progress
from centernetd.prepare.int8 import Frames
from centernetd.prepare.prepare import PrepareOptions

IOU = 0.5  # two boxes of one class that overlap by this much are the same object
Pixels = NDArray[np.uint8]
Make = Callable[[Path, PrepareOptions, Frames], Manifest]
_USUAL_FRAMES = 64  # minimum, if the video has as many: half calibrate, the others are held out
_MIN_FRAMES = 2
_MIN_FRAMES_IF_CUT_OFF = 16  # of a video that breaks off
_MAX_READ = 9000  # frames: five minutes at 30 fps, since live sources never end
_TIMEOUT = 10.0  # seconds, for opening a source and for each frame


@dataclass(frozen=True)
class Agreement:
    """``matched`` of the ``expected`` detections were found again, plus ``extra`` others.

    ``drift`` and ``most_drift`` are the mean and maximum difference between the scores of matched
    detections.
    """

    expected: int
    matched: int
    extra: int
    drift: float
    most_drift: float

    def __str__(self) -> str:
        if not self.expected:
            return (
                "nothing could be compared: float32 detects nothing in the video, and int8 "
                f"{self.extra}; use a video that shows what the model is to detect"
            )
        return (
            f"{self.matched} of {self.expected} detections "
            f"({self.matched / self.expected:.1%}) found again with IoU >= {IOU}, "
            f"{self.extra} extra; scores differ by {self.drift:.3f} on average, "
            f"{self.most_drift:.3f} at most"
        )


def agreement(frames: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """Compare pairs of expected and found detections of each frame, each sorted best first.

    A detection is matched with the unmatched one of its class that has the highest IoU.
    """
    expected_count = found_count = 0
    drifts: list[float] = []
    for expected, found in frames:
        expected_count, found_count = expected_count + len(expected), found_count + len(found)
        pairs = _matches(expected, found)
        drifts += [abs(float(expected.confidence[a] - found.confidence[b])) for a, b in pairs]
    return Agreement(
        expected_count,
        len(drifts),
        found_count - len(drifts),
        float(np.mean(drifts or [0.0])),
        max(drifts, default=0.0),
    )


def _matches(expected: Detections, found: Detections) -> list[tuple[int, int]]:
    pairs = []
    overlaps = _overlaps(expected, found)
    for index, row in enumerate(overlaps):
        if row.max(initial=0.0) >= IOU:
            best = int(row.argmax())
            overlaps[:, best] = 0
            pairs.append((index, best))
    return pairs


def _overlaps(first: Detections, second: Detections) -> NDArray[np.float64]:
    """Return the IoU of every pair [N, M]; 0 for different classes."""
    one, other = (found.xyxy.astype(np.float64) for found in (first, second))
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    same = first.class_id[:, None] == second.class_id[None]
    return np.where(same, shared / (areas[0][:, None] + areas[1][None] - shared), 0.0)


@dataclass(frozen=True)
class Calibrated:
    """An int8 model, and its quality on ``held_out`` frames not used for calibration.

    ``before`` and ``after`` are the seconds per frame in float32 and int8 on this CPU; ``broken``
    is the reason why the video could not be read to its end.
    """

    manifest: Manifest
    frames: int
    held_out: int
    agreement: Agreement
    before: float
    after: float
    broken: str = ""

    def __str__(self) -> str:
        until = f"; the video could only be read in part: {self.broken}"
        return (
            f"calibrated on {self.frames} frames; on {self.held_out} others {self.agreement}; "
            f"on this CPU {self.before * 1000:.0f} ms per frame in float32 and "
            f"{self.after * 1000:.0f} in int8 ({self.before / self.after:.2f} times as fast)"
            f"{until if self.broken else ''}"
        )


def calibrate(
    make: Make, output: Path, options: PrepareOptions, video: str, progress: Progress
) -> Calibrated:
    """Write the int8 model created by ``make`` to ``output``, calibrated on ``video``.

    ``make`` is called twice; the first call creates a float32 model for comparison.

    Raises
    ------
    ModelError
        The model is rejected.
    SourceError
        The video can't be read, or has too few frames.
    StartupError
        ``output`` can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        exact = Path(folder) / "float32.onnx"
        manifest = make(exact, replace(options, precision=FLOAT32), ())
        rows, broken = _sample(video, manifest, progress)
        used, held_out = rows[::2], rows[1::2]
        quantized = make(output, options, used)
        with closing(_Trial(exact, manifest)) as first, closing(_Trial(output, manifest)) as second:
            pairs = []
            for number, row in enumerate(held_out, 1):  # in turn, so noise hits both
                pairs.append((first.detect(row), second.detect(row)))
                progress("comparing", number, len(held_out))
    compared = agreement(pairs)
    before, after = (float(np.median(trial.seconds)) for trial in (first, second))
    return Calibrated(quantized, len(used), len(held_out), compared, before, after, broken)


def _sample(video: str, manifest: Manifest, progress: Progress) -> tuple[list[Pixels], str]:
    """Return frames spread evenly over a video, as network input.

    If the video breaks off after enough frames, return those along with the reason.
    """
    rows, broken = list[Pixels](), ""
    try:
        source = _open(video)
        total = min(source.info.total_frames or _MAX_READ, _MAX_READ)
        try:
            for number in _spread(source, _Fitted(manifest), rows):
                progress("reading", min(number, total), total)
        finally:
            progress("reading", total, total)  # an estimated total may have been too high
            source.close()
    except (SourceError, ValueError) as error:
        if len(rows) < _MIN_FRAMES_IF_CUT_OFF:
            raise SourceError(f"--calibrate {shown(video)}: {error}") from None
        broken = str(error)
    if len(rows) < _MIN_FRAMES:
        raise SourceError(f"--calibrate {shown(video)}: one picture is not enough")
    return rows, broken


def _open(video: str) -> Source:
    uri = SourceUri(video)
    if uri.is_file and (path := Path(uri.reveal())).exists() and not path.is_file():
        raise SourceError("it is not a regular file")  # a named pipe may block forever
    return open_stream(StreamConfig("calibrate", uri, stall_timeout=_TIMEOUT, decode="cpu"))


def _spread(source: Source, fitted: "_Fitted", kept: list[Pixels]) -> Iterator[int]:
    """Keep `_USUAL_FRAMES` to twice as many frames, evenly spaced; all frames of a shorter video.

    Yields the number of each frame read.
    """
    stride = 1
    for number, picture in enumerate(islice(source, _MAX_READ)):
        if number % stride == 0:
            kept.append(fitted(picture.image.pixels()))
        if len(kept) == 2 * _USUAL_FRAMES:
            del kept[1::2]
            stride *= 2
        yield number


@dataclass(frozen=True)
class _Fitted:
    """Fits frames to the network's input size."""

    manifest: Manifest

    def __call__(self, image: Pixels) -> Pixels:
        row = np.zeros((*self.manifest.input_size, 3), np.uint8)
        geometry = GEOMETRIES[self.manifest.resize]
        fill_row(image, row, geometry(image.shape[:2], self.manifest.input_size))
        return row


class _Trial:
    """A model on the CPU, run on one row at a time; ``seconds`` are the durations."""

    def __init__(self, model: Path, manifest: Manifest) -> None:
        self._engine = OrtCpuEngine(model, manifest.precision, max_batch=1, concurrency=1)
        (self._slot,) = self._engine.make_slots(1)
        stream_filter = make_filter(manifest.labels, manifest.confidence, ())
        self._view = View(manifest.input_size, Geometry(1.0, 1.0, 0.0, 0.0), stream_filter)
        self._nms_iou = manifest.nms_iou
        self.seconds: list[float] = []

    def detect(self, row: Pixels) -> Detections:
        self._slot.rows[0] = row
        self._slot.enqueue(1)
        tensors = self._slot.wait()
        self.seconds.append(self._slot.durations()["execute"])
        rows, keypoints = tensors["detections"], tensors.get("keypoints")
        (found,), _ = postprocess(rows, keypoints, [self._view], self._nms_iou)
        return found

    def close(self) -> None:
        self._engine.close()
