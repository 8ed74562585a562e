"""Distinguishing a frozen picture from a scene in which nothing moves."""

import zlib
from collections import deque

import numpy as np
from numpy.typing import NDArray

AFTER = 30.0
"""Seconds without any change after which a picture is considered frozen."""
# Seconds between checks; not a divisor of 1 s, or a loop of 1 s would always be hit at one picture.
_INTERVAL = 0.7
_KEYLESS = 60.0  # seconds without a key frame after which none is expected
_KNOWN = 4  # pictures that may alternate: as many came of one under a constant bit rate
_ROWS = 128  # approximate number of whole rows checked, so that a clock in the picture is seen


class FrozenPicture:
    """Detects that a camera's encoder repeats one picture.

    Only intra-coded pictures are checked. They show the sensor's noise even in a still scene
    at a low bit rate: of 15, no two were equal. From one repeated picture under a constant
    bit rate, an encoder makes at most four that alternate, one per quality; what it codes
    between them never settles, and differs by more than strong noise does. (x264, 60 kbit/s
    to 8 Mbit/s, noise of 0.5 to 4 levels.) So a source is frozen while every checked picture
    was seen before. Checking a 1080p picture takes about half a millisecond. After a minute
    without a key frame (an encoder may refresh its pictures gradually instead), any picture is
    checked; one that settles is detected.
    """

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._key_at: float | None = None
        self._known: deque[int] = deque(maxlen=_KNOWN)
        self._since = 0.0
        self._frozen = False

    def look(self, image: NDArray[np.uint8], now: float, *, is_key: bool) -> bool:
        """Check ``image`` at the monotonic time ``now``; return whether the picture is frozen."""
        if is_key or self._key_at is None:
            self._key_at = now
        judged = is_key or now - self._key_at >= _KEYLESS
        if judged and now - self._looked_at >= _INTERVAL:
            self._looked_at = now
            step = max(1, image.shape[0] // _ROWS)
            checksum = zlib.crc32(np.ascontiguousarray(image[::step]).data)
            if checksum not in self._known:
                self._known.append(checksum)
                self._since = now
            self._frozen = now - self._since >= AFTER
        return self._frozen
