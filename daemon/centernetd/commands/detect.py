"""Detection in still images, in batches."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from centernetd.commands.images import Image, read_image
from centernetd.config import cache_dir
from centernetd.errors import SourceError
from centernetd.flow import Detections
from centernetd.inference.detector import Detector
from centernetd.inference.engines import Slot, choose_backend
from centernetd.inference.postprocess import View
from centernetd.inference.wanted import resolve
from centernetd.run.loading import ModelChoice, load_detector, sizes_for

_BATCH = 8  # images; throughput matters more than latency here


@dataclass(frozen=True, eq=False)
class Still:
    """An image file and its detections; ``error`` is the reason if there is no ``image``."""

    path: Path
    image: Image | None
    detections: Detections
    error: str = ""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Files on their way through the engine; ``views`` are for the readable ones."""

    files: Sequence[tuple[Path, Image | str]]
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
    choice = choose_backend(backend)
    sizes = sizes_for(choice.backend, _BATCH)
    named = ModelChoice(
        model, Path.cwd(), cache_dir(), cache_dir() / "plans", input_size=input_size
    )
    with ThreadPoolExecutor(thread_name_prefix="letterbox") as pool:
        detector = load_detector(named, choice, sizes, pool)
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
        self._wanted = resolve("images", manifest.labels, least, ())
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
        images = [found for _, found in files if not isinstance(found, str)]
        views: Sequence[View] = ()
        if images:
            views = self._detector.fill(slot, images, [self._wanted] * len(images))
            slot.enqueue(len(images))
        return _Batch(files, views, slot)

    def _finish(self, batch: _Batch) -> Iterator[Still]:
        found = iter(self._detector.read(batch.slot, batch.views) if batch.views else ())
        for path, image in batch.files:
            if isinstance(image, str):
                yield Still(path, None, _nothing(), image)
            else:
                yield Still(path, image, next(found))


def _image_or_error(path: Path) -> Image | str:
    try:
        return read_image(path)
    except SourceError as error:
        return str(error)


def _nothing() -> Detections:
    zeros = np.zeros(0, np.float32)
    return Detections(np.zeros((0, 4), np.float32), zeros, np.zeros(0, np.int64))
