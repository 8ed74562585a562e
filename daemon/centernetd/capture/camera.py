"""V4L2 cameras, through OpenCV."""

import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from centernetd.capture.source import Picture, Source, SourceInfo
from centernetd.config.camera import FORMATS, CameraAddress
from centernetd.config.secret import SourceUri
from centernetd.errors import SourceError
from centernetd.flow import HostImage

_TIME_BASE = Fraction(1, 90_000)
# Seconds OpenCV waits for a picture (default 10), read from the environment at the first wait.
# Its V4L2 backend offers no other limit: given one, it does not open.
_POLL = 1
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_POLL))


class CameraSource(Source):
    """A camera under /dev. Its pictures have no pts; they are timed by their capture."""

    damaged = held_back = 0

    def __init__(self, uri: SourceUri, timeout: float) -> None:
        """Open ``uri``, as in `CameraAddress`; wait at most ``timeout`` seconds for a picture.

        Raises
        ------
        SourceError
            When the camera does not exist, can't be opened or rejects the settings requested.
        """
        address = CameraAddress.parse(uri.reveal())
        self._device = Path(address.device)
        self._timeout = timeout
        self._check_present()
        self._capture = cv2.VideoCapture(address.device, cv2.CAP_V4L2)
        try:
            self._set_up(address)
        except SourceError:
            self.close()
            raise
        self._info = SourceInfo(codec=self._fourcc().lower(), decoder="v4l2", time_base=_TIME_BASE)

    @property
    def info(self) -> SourceInfo:
        """Properties of the camera."""
        return self._info

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures forever; skip those that can't be decoded.

        Raises
        ------
        SourceError
            When the camera stops delivering pictures or disappears.
        """
        pictured_at = time.monotonic()
        while True:
            self._grab(pictured_at)
            started = time.monotonic()
            decoded, image = self._capture.retrieve()
            if not decoded:  # bytes of a JPEG lost by a cable or hub; reopening would not help
                self.damaged += 1
                continue
            took = time.monotonic() - started
            yield Picture(HostImage(np.asarray(image, np.uint8)), None, _TIME_BASE, took)
            pictured_at = time.monotonic()

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()

    def _set_up(self, address: CameraAddress) -> None:
        """Request format, size and rate, in the order in which V4L2 negotiates them."""
        if not self._capture.isOpened():
            raise SourceError(
                f"can't be opened: {address.device} is in use, not readable by "
                "this user, or not a camera",
                "open_failed",
            )
        # One buffer is ours while the camera fills the other. With a single one it would drop every
        # other picture; with more, pictures would only be older.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        if address.format:
            fourcc = cv2.VideoWriter.fourcc(*FORMATS[address.format])
            self._capture.set(cv2.CAP_PROP_FOURCC, fourcc)
        if address.size:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, address.size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, address.size[1])
        if address.fps:
            self._capture.set(cv2.CAP_PROP_FPS, address.fps)
        self._check_settings(address)

    def _check_settings(self, address: CameraAddress) -> None:
        """Raise SourceError unless format and size are as requested: V4L2 picks the nearest."""
        kind = self._fourcc()
        size = (self._get(cv2.CAP_PROP_FRAME_WIDTH), self._get(cv2.CAP_PROP_FRAME_HEIGHT))
        accepted = address.size in (None, size)
        if not accepted or (address.format and kind != FORMATS[address.format]):
            raise SourceError(
                f"the camera delivers {kind.lower()} of {size[0]}x{size[1]} instead of what was "
                f"requested; v4l2-ctl -d {address.device} --list-formats-ext lists its formats",
                "open_failed",
            )

    def _grab(self, since: float) -> None:
        """Wait for a picture; OpenCV returns without one after its own timeout.

        ``since`` is when the last decodable picture arrived.
        """
        while True:
            started = time.monotonic()
            # Another wait would exceed the timeout. A short timeout still allows one.
            if started - since > max(self._timeout - _POLL, self._timeout / 2):
                raise SourceError(f"no picture for {self._timeout:g} s", "stalled")
            if self._capture.grab():
                return
            self._check_present()
            if time.monotonic() - started < _POLL / 2:
                raise SourceError("the camera has stopped delivering pictures")

    def _check_present(self) -> None:
        if not self._device.exists():
            raise SourceError(f"there is no camera at {self._device}", "not_found")

    def _fourcc(self) -> str:
        code = self._get(cv2.CAP_PROP_FOURCC)
        return code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")

    def _get(self, prop: int) -> int:
        return int(self._capture.get(prop))
