"""Deciding which frames are safely written, from the outcome of their packets."""

from collections import deque
from enum import Enum
from typing import NamedTuple


class Settled(NamedTuple):
    """Numbers of frames by final outcome."""

    written: int = 0
    unwanted: int = 0
    failed: int = 0


class Fate(Enum):
    """The outcome of a packet."""

    WRITTEN = "written"
    UNWANTED = "unwanted"
    FAILED = "failed"


class Accounts:
    """Frames waiting for the outcome of their packets; both arrive in packet-number order."""

    def __init__(self) -> None:
        self._owed: deque[int] = deque()
        self._fates: deque[tuple[int, Fate]] = deque()  # last packet number and its outcome

    def owe(self, number: int) -> None:
        """Record a frame that shares the outcome of packet ``number``."""
        self._owed.append(number)

    def decide(self, number: int, fate: Fate) -> None:
        """Record the outcome of every packet up to ``number`` that is still undecided."""
        if number > (self._fates[-1][0] if self._fates else 0):
            if self._fates and self._fates[-1][1] is fate:
                self._fates.pop()
            self._fates.append((number, fate))

    def settle(self) -> Settled:
        """Remove the frames whose outcome is known and return their numbers."""
        counts = dict.fromkeys(Fate, 0)
        while self._owed and self._fates and self._owed[0] <= self._fates[-1][0]:
            number = self._owed.popleft()
            while self._fates[0][0] < number:
                self._fates.popleft()
            counts[self._fates[0][1]] += 1
        return Settled(*counts.values())

    def forget(self) -> None:
        """Discard the waiting frames, which have been counted as lost."""
        self._owed.clear()
