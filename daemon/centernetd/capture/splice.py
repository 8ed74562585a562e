"""Joining a file's timestamps where they restart or jump, as in concatenated recordings."""

from collections import deque
from fractions import Fraction

_BACK = 2.0  # seconds
_HOLE = 10.0  # seconds without pictures that are accepted in any case
_GAPS = 100  # number of gaps remembered
_UNLIKE = 10  # times the largest gap remembered


class Splice:
    """Finds cuts, and moves what follows a cut directly behind what precedes it.

    It is called for each packet, in decoding order, so that pictures and copied packets move
    alike. A cut is a step back by more than 2 s or ten times the largest of the last hundred
    gaps, or a step forward by more than 10 s and ten times that gap.
    """

    def __init__(self, time_base: Fraction) -> None:
        """Start with times in units of ``time_base`` seconds."""
        self.cuts = 0
        self._most_back, self._longest_hole = round(_BACK / time_base), round(_HOLE / time_base)
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._last: int | None = None  # dts as in the file
        self._end = 0  # of the shown pictures, after shifting
        self._shift = 0

    def shift(self, dts: int | None, pts: int | None) -> int:
        """Return the offset to add to the times of a packet with this ``dts`` and ``pts``."""
        decoded = pts if dts is None else dts
        if decoded is None:
            return self._shift
        shown = decoded if pts is None else pts
        if self._last is None:
            self._end = shown
        elif self._is_cut(decoded - self._last):
            self.cuts += 1
            step = self._gaps[-1] if self._gaps else 1
            moved = self._last + self._shift
            self._shift = step + max(self._end - shown, moved - decoded)
        elif decoded > self._last:
            self._gaps.append(decoded - self._last)
        self._last, self._end = decoded, max(self._end, shown + self._shift)
        return self._shift

    def _is_cut(self, gap: int) -> bool:
        if not self._gaps:
            return -gap > self._most_back
        unlike = _UNLIKE * max(self._gaps)
        return -gap > min(self._most_back, unlike) or gap > max(self._longest_hole, unlike)
