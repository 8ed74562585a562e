"""Telling a picture that stands still from a scene in which nothing moves."""

import zlib

import numpy as np
from numpy.typing import NDArray

AFTER = 30.0
"""Seconds without any change after which a picture counts as frozen."""
_INTERVAL = 1.0  # seconds between two looks
_IN_A_ROW = 2  # pictures a look takes in: one alone could always hit the same of a short loop
_ROWS = 128  # about so many are looked at, whole, so that a clock in the picture is seen


class FrozenPicture:
    """Notices that a camera's encoder repeats one picture.

    A sensor's noise changes some pixels every second, however still the scene; so only pictures
    that are the same to the last bit are taken for frozen. A look at a 1080p picture takes about
    half a millisecond.
    """

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._to_look_at = 0
        self._checksum: int | None = None
        self._since = 0.0
        self._frozen = False

    def look(self, image: NDArray[np.uint8], now: float) -> bool:
        """Return whether the picture is frozen at the monotonic time ``now``."""
        if now - self._looked_at >= _INTERVAL:
            self._looked_at, self._to_look_at = now, _IN_A_ROW
        if self._to_look_at:
            self._to_look_at -= 1
            step = max(1, image.shape[0] // _ROWS)
            checksum = zlib.crc32(np.ascontiguousarray(image[::step]).data)
            if checksum != self._checksum:
                self._checksum, self._since = checksum, now
            self._frozen = now - self._since >= AFTER
        return self._frozen
