"""Which frames are safe, told from what has become of their packets."""

from collections import deque
from enum import Enum
from typing import NamedTuple


class Settled(NamedTuple):
    """How many frames have found their end, and which."""

    written: int = 0
    unwanted: int = 0
    failed: int = 0


class Fate(Enum):
    """What became of a packet."""

    WRITTEN = "written"
    UNWANTED = "unwanted"
    FAILED = "failed"


class Accounts:
    """Frames that wait for the fate of their packets; both come in order, by packet number."""

    def __init__(self) -> None:
        self._owed: deque[int] = deque()
        self._fates: deque[tuple[int, Fate]] = deque()  # up to which number, and which

    def owe(self, number: int) -> None:
        """Note a frame that shares the fate of packet ``number``."""
        self._owed.append(number)

    def decide(self, number: int, fate: Fate) -> None:
        """Note the fate of every packet up to ``number`` that has none yet."""
        if number > (self._fates[-1][0] if self._fates else 0):
            if self._fates and self._fates[-1][1] is fate:
                self._fates.pop()
            self._fates.append((number, fate))

    def settle(self) -> Settled:
        """Return the frames whose fate is known now, and forget them."""
        counts = dict.fromkeys(Fate, 0)
        while self._owed and self._fates and self._owed[0] <= self._fates[-1][0]:
            number = self._owed.popleft()
            while self._fates[0][0] < number:
                self._fates.popleft()
            counts[self._fates[0][1]] += 1
        return Settled(*counts.values())

    def forget(self) -> None:
        """Forget the frames that wait: they have been counted as lost."""
        self._owed.clear()
