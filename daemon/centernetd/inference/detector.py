"""A prepared model in an engine, with letterboxing before and postprocessing after it."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor

import cv2

from centernetd.flow import Detections, HostImage, Image
from centernetd.inference.engines import Engine, Slot
from centernetd.inference.filter import StreamFilter
from centernetd.inference.letterbox import GEOMETRIES
from centernetd.inference.postprocess import View, postprocess
from centernetd.model.manifest import Manifest

log = logging.getLogger(__name__)

_Row = tuple[int, Image, View]

SHARES = min(8, max(4, len(os.sched_getaffinity(0)) // 2))
"""Threads that letterbox one batch, including the caller; one manages about 740 frames/s."""


class Detector:
    """Letterboxes pictures into an engine's slots and reads detections from them."""

    def __init__(self, engine: Engine, manifest: Manifest, pool: Executor) -> None:
        """Use ``engine``, loaded with the model described by ``manifest``.

        ``pool`` runs a share of the letterboxing of each batch.
        """
        self.engine = engine
        self.manifest = manifest
        self._pool = pool
        self._geometry = GEOMETRIES[manifest.resize]
        cv2.setNumThreads(1)  # process-wide: OpenCV's threads would compete with ours

    def fill(
        self, slot: Slot, images: Sequence[Image], filters: Sequence[StreamFilter]
    ) -> list[View]:
        """Letterbox ``images`` into the first rows of ``slot``; return the view of each."""
        target = self.manifest.input_size
        views = [
            View(image.size, self._geometry(image.size, target), stream_filter)
            for image, stream_filter in zip(images, filters, strict=True)
        ]
        costly: list[_Row] = []
        rest: list[_Row] = []
        for row in zip(range(len(images)), images, views, strict=True):
            (costly if type(row[1]) is HostImage else rest).append(row)
        running = [
            self._pool.submit(_put, slot, costly[start::SHARES])
            for start in range(1, min(SHARES, len(costly)))
        ]
        _put(slot, costly[::SHARES])
        _put(slot, rest)
        for share in running:
            share.result()
        return views

    def read(self, slot: Slot, views: Sequence[View]) -> list[Detections]:
        """Wait for ``slot`` and return the detections of each of its frames.

        Raises
        ------
        EngineError
            When the engine fails.
        """
        tensors = slot.wait()
        found, broken = postprocess(
            tensors["detections"], tensors.get("keypoints"), views, self.manifest.nms_iou
        )
        if broken:
            log.warning("dropped %d unusable detections of the model", broken)
        return found


def _put(slot: Slot, share: Sequence[_Row]) -> None:
    for row, image, view in share:
        slot.put(row, image, view.geometry)
