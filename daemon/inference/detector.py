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


class Detector:
    """Puts pictures into an engine's slots and reads detections out of them."""

    def __init__(self, engine: Engine, manifest: Manifest, pool: Executor) -> None:
        """Take ``engine``, loaded with the model that ``manifest`` describes.

        ``pool`` spreads the letterboxing of a batch over its threads.
        """
        self.engine = engine
        self.manifest = manifest
        self._pool = pool
        self._geometry = GEOMETRIES[manifest.resize]

    def fill(self, slot: Slot, images: Sequence[NDArray[np.uint8]]) -> list[Geometry]:
        """Letterbox ``images`` into the first rows of ``slot``; returns each one's geometry."""
        target = self.manifest.input_size
        geometries = [self._geometry(image.shape[:2], target) for image in images]
        # Handing one picture to another thread would cost more than it saves.
        spread = self._pool.map if len(images) > 1 else map
        for _ in spread(fill_row, images, slot.rows, geometries):
            pass
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
