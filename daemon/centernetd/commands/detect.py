"""Detection in still images, in batches; and reading and writing image files."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centernetd.commands.find import find_files
from centernetd.config import cache_dir, regular
from centernetd.errors import SinkError, SourceError
from centernetd.flow import Detections, HostImage
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot, choose_backend
from centernetd.inference.filter import make_filter
from centernetd.inference.postprocess import View
from centernetd.prepare import store
from centernetd.run.loading import ConfiguredModel, load_detector, sizes_for
from centernetd.sink.file import unused

Pixels = NDArray[np.uint8]

_BATCH = 8  # images; throughput matters more than latency here
# Only applied to folders; a file named explicitly may have any suffix. Includes formats that can't
# be decoded here, since silently skipped files would go unnoticed.
_IMAGES = (
    "avif bmp dib gif heic heif jfif jp2 jpe jpeg jpg jxl pam pbm pgm png pnm ppm tif tiff webp"
)
_IMAGE_SUFFIXES = frozenset(f".{kind}" for kind in _IMAGES.split())
_MAX_FILE_SIZE = 2**30  # bytes
_MAX_SIDE = 32766  # OpenCV 4's warpAffine has 16-bit pixel coordinates
_WRITTEN_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def find_images(names: Sequence[str]) -> list[Path]:
    """Return the image files that ``names`` match, as `find_files` does."""
    return find_files(names, _IMAGE_SUFFIXES)


def read_image(path: Path) -> Pixels:
    """Return an image as BGR [height, width, 3], rotated upright according to its EXIF tag.

    Raises
    ------
    SourceError
        The image can't be read; the message doesn't name it.
    """
    if path.is_dir():
        raise SourceError("contains no image")
    try:
        content = regular.read(path, _MAX_FILE_SIZE)
    except OSError as error:
        raise SourceError(f"can't be read: {(error.strerror or '').lower()}") from None
    if not content:
        raise SourceError("the file is empty")
    try:
        with _silence():
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # such as an image over OpenCV's size limit
        image = None
    if image is None:
        raise SourceError("is not an image that can be decoded")
    height, width, _ = image.shape
    if max(height, width) > _MAX_SIDE:
        raise SourceError(
            f"has {width}x{height} pixels: at most {_MAX_SIDE} per side are supported"
        )
    return np.asarray(image, np.uint8)


@contextmanager
def _silence() -> Iterator[None]:
    """Silence OpenCV's logging, which lacks the file name; we report errors ourselves."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def save(image: Pixels, folder: Path, name: str) -> Path:
    """Write ``image`` as JPEG or PNG into ``folder``, never overwriting; return its path.

    A ``name`` with any other suffix gets .png instead.

    Raises
    ------
    SinkError
        The image can't be written.
    """
    path = folder / name
    if path.suffix.lower() not in _WRITTEN_SUFFIXES:
        path = path.with_suffix(".png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(path)
        _, content = cv2.imencode(path.suffix, image)
        path.write_bytes(content.tobytes())
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or "it is too large for this format"
        raise SinkError(f"{path}: can't be written: {reason}") from None
    return path


@dataclass(frozen=True, eq=False)
class Still:
    """An image file and its detections; ``error`` is the reason if there is no ``image``."""

    path: Path
    image: Pixels | None
    detections: Detections
    error: str = ""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Files on their way through the engine; ``views`` are for the readable ones."""

    files: Sequence[tuple[Path, Pixels | str]]
    views: Sequence[View]
    slot: Slot


@contextmanager
def open_detector(
    model: str, input_size: tuple[int, int] | None, backend: str, confidence: float | None
) -> "Iterator[StillDetector]":
    """Load ``model`` (a built-in name or an ONNX file) for the duration of the context.

    If ``input_size`` or ``confidence`` is None, the model's own is used.

    Raises
    ------
    ModelError
        The model is missing or rejected.
    EngineError
        The backend can't run here.
    """
    chosen = choose_backend(backend)
    sizes = sizes_for(chosen, _BATCH)
    request = store.Request(model, Path.cwd(), cache_dir(), input_size)
    named = ConfiguredModel(request, cache_dir() / "plans")
    with ThreadPoolExecutor(thread_name_prefix="letterbox") as pool:
        detector = load_detector(named, chosen, sizes, pool)
        try:
            yield StillDetector(detector, sizes.max_batch, sizes.slots, confidence)
        finally:
            detector.engine.close()


class StillDetector:
    """Runs image files of any size through ``detector``, a few batches concurrently."""

    def __init__(
        self, detector: Detector, max_batch: int, slots: int, confidence: float | None
    ) -> None:
        manifest = detector.manifest
        self.labels = manifest.labels
        least = manifest.confidence if confidence is None else confidence
        self._filter = make_filter(manifest.labels, least, ())
        self._detector = detector
        self._max_batch = max_batch
        self._slots = detector.engine.make_slots(slots)

    def run(self, paths: Sequence[Path]) -> Iterator[Still]:
        """Yield each file's result in order, including unreadable files.

        Raises
        ------
        EngineError
            The engine fails.
        """
        running: deque[_Batch] = deque()
        slots = cycle(self._slots)
        for start in range(0, len(paths), self._max_batch):
            if len(running) == len(self._slots):
                yield from self._finish(running.popleft())
            running.append(self._start(paths[start : start + self._max_batch], next(slots)))
        while running:
            yield from self._finish(running.popleft())

    def _start(self, paths: Sequence[Path], slot: Slot) -> _Batch:
        files = [(path, _image_or_error(path)) for path in paths]
        images = [HostImage(found) for _, found in files if not isinstance(found, str)]
        views: Sequence[View] = ()
        if images:
            views = self._detector.fill(slot, images, [self._filter] * len(images))
            slot.enqueue(len(images))
        return _Batch(files, views, slot)

    def _finish(self, batch: _Batch) -> Iterator[Still]:
        found = iter(self._detector.read(batch.slot, batch.views) if batch.views else ())
        for path, image in batch.files:
            if isinstance(image, str):
                yield Still(path, None, _nothing(), image)
            else:
                yield Still(path, image, next(found))


def _image_or_error(path: Path) -> Pixels | str:
    try:
        return read_image(path)
    except SourceError as error:
        return str(error)


def _nothing() -> Detections:
    zeros = np.zeros(0, np.float32)
    return Detections(np.zeros((0, 4), np.float32), zeros, np.zeros(0, np.int64))
