"""V4L2 cameras, through OpenCV."""

import time
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from daemon.capture.source import Picture, SourceInfo
from daemon.config.secret import SourceUri
from daemon.errors import SourceError

_TIME_BASE = Fraction(1, 90_000)


class CameraSource:
    """A camera under /dev/video*. Its pictures carry no pts: the moment of capture is the time."""

    damaged = 0

    def __init__(self, uri: SourceUri) -> None:
        """Open ``uri`` (``v4l2:0`` or ``v4l2:/dev/...``).

        A read ends after the 10 s that OpenCV waits for a camera: its V4L2 part takes no other
        limit, and doesn't open at all where it is given one.

        Raises
        ------
        SourceError
            When there is no such camera or it can't be opened.
        """
        name = uri.reveal().removeprefix("v4l2:")
        device = f"/dev/video{name}" if name.isdigit() else name
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"can't be opened: there is no working camera at {device}", "open_failed"
            )
        # One buffer: an older picture is never worth more than the newest.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.info = SourceInfo(codec=self._fourcc(), decoder="v4l2", time_base=_TIME_BASE)

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures for ever.

        Raises
        ------
        SourceError
            When the camera gives no picture any more.
        """
        while True:
            if not self._capture.grab():
                raise SourceError("the camera gives no picture any more")
            started = time.monotonic()
            decoded, image = self._capture.retrieve()
            if not decoded:
                raise SourceError("the camera gives a picture that can't be decoded")
            yield Picture(np.asarray(image, np.uint8), None, _TIME_BASE, time.monotonic() - started)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()

    def _fourcc(self) -> str:
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        return code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower()
