"""Names for events and tracks that sort by time and are unique everywhere."""

import random
import threading

_FORM = "%08x-%04x-7%03x-%04x-%012x"  # with the version; the variant is part of the fourth


class Uuid7:
    """Makes UUIDs of version 7 (RFC 9562), each greater than the one before.

    They begin with a Unix time in milliseconds. One for an earlier time than the last, or for the
    same millisecond, counts on from the last (section 6.2, method 2).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Not from the system each time, which releases Python's lock while holding ours. It is
        # seeded by the system, and no name is a secret.
        self._random = random.Random()  # noqa: S311
        self._last = -1  # 48 bits of time and 74 of randomness, without version and variant

    def __call__(self, wall_time: float) -> str:
        """Return a new UUID for a Unix time in seconds."""
        begin = (max(0, int(wall_time * 1000)) & (1 << 48) - 1) << 74
        with self._lock:
            if begin > self._last:  # one bit less than there is leaves room to count on
                self._last = begin | self._random.getrandbits(73)
            else:
                self._last += 1
            number = self._last
        return _FORM % (
            *(number >> 90, number >> 74 & 0xFFFF, number >> 62 & 0xFFF),
            *(number >> 48 & 0x3FFF | 0x8000, number & 0xFFFF_FFFF_FFFF),
        )


uuid7 = Uuid7()
"""Makes those of this process."""
