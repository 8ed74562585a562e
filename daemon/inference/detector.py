"""A prepared model in an engine, with the geometry on both sides of it."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from daemon.flow import Detections
from daemon.inference.engines import Engine, Slot
from daemon.inference.letterbox import GEOMETRIES, Geometry, fill_row
from daemon.inference.postprocess import postprocess
from daemon.inference.wanted import Wanted
from daemon.model.manifest import Manifest

log = logging.getLogger(__name__)


_SHARES = 4  # threads that letterbox one batch, the caller among them


class Detector:
    """Puts pictures into an engine's slots and reads detections out of them."""

    def __init__(self, engine: Engine, manifest: Manifest, pool: Executor) -> None:
        """Take ``engine``, loaded with the model that ``manifest`` describes.

        ``pool`` takes its share of letterboxing a batch.
        """
        self.engine = engine
        self.manifest = manifest
        self._pool = pool
        self._geometry = GEOMETRIES[manifest.resize]

    def fill(self, slot: Slot, images: Sequence[NDArray[np.uint8]]) -> list[Geometry]:
        """Letterbox ``images`` into the first rows of ``slot``; returns each one's geometry."""
        target = self.manifest.input_size
        geometries = [self._geometry(image.shape[:2], target) for image in images]
        jobs = list(zip(images, slot.rows, geometries, strict=False))
        own, *others = [jobs[start::_SHARES] for start in range(min(_SHARES, len(jobs)))]
        running = [self._pool.submit(_fill_rows, share) for share in others]
        _fill_rows(own)
        for share in running:
            share.result()
        return geometries

    def read(
        self,
        slot: Slot,
        images: Sequence[NDArray[np.uint8]],
        geometries: Sequence[Geometry],
        wanted: Sequence[Wanted],
    ) -> Iterator[Detections]:
        """Wait for ``slot`` and yield the detections of each of its ``images``.

        Raises
        ------
        EngineError
            When the engine fails.
        """
        tensors = self.engine.wait(slot)
        return self._decode(
            tensors["detections"], tensors.get("keypoints"), images, geometries, wanted
        )

    def _decode(
        self,
        rows: NDArray[np.float32],
        keypoints: NDArray[np.float32] | None,
        images: Sequence[NDArray[np.uint8]],
        geometries: Sequence[Geometry],
        wanted: Sequence[Wanted],
    ) -> Iterator[Detections]:
        for row, (image, geometry, wants) in enumerate(
            zip(images, geometries, wanted, strict=True)
        ):
            detections, broken = postprocess(
                rows[row],
                None if keypoints is None else keypoints[row],
                geometry,
                image.shape[:2],
                wants,
                self.manifest.nms_iou,
            )
            if broken:
                log.warning("the model gave %d unusable detections, thrown away", broken)
            yield detections


def _fill_rows(share: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], Geometry]]) -> None:
    for image, row, geometry in share:
        fill_row(image, row, geometry)
