"""Telling a picture that stands still from a scene in which nothing moves."""

import zlib
from collections import deque

import numpy as np
from numpy.typing import NDArray

AFTER = 30.0
"""Seconds without any change after which a picture counts as frozen."""
# Between two looks; no divisor of a second, or a loop of one would always be hit at one picture.
_INTERVAL = 0.7
_KEYLESS = 60.0  # seconds without a key frame after which none is expected
_KNOWN = 4  # pictures that may take turns: as many came of one under a constant bit rate
_ROWS = 128  # about so many are looked at, whole, so that a clock in the picture is seen


class FrozenPicture:
    """Notices that a camera's encoder repeats one picture.

    Only pictures that are coded by themselves are looked at. In these a sensor's noise shows,
    however still the scene and low the bit rate: of 15 none was like another. Of one picture
    over and over, under a constant bit rate, the encoder makes at most four that take turns,
    one for each quality; what it codes between them never comes to rest, and differs by more
    than much noise does. (x264, 60 kbit/s to 8 Mbit/s, noise of 0.5 to 4 levels.) So frozen is
    what shows nothing but bits that were seen before. A look at a 1080p picture takes about
    half a millisecond. Where no key frame has come for a minute (an encoder may refresh its
    pictures bit by bit instead), any picture is looked at; one that comes to rest is noticed.
    """

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._key_at: float | None = None
        self._known: deque[int] = deque(maxlen=_KNOWN)
        self._since = 0.0
        self._frozen = False

    def look(self, image: NDArray[np.uint8], now: float, *, is_key: bool) -> bool:
        """Return whether the picture is frozen at the monotonic time ``now``."""
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
