"""The packets of the last seconds, kept until it is known whether they are wanted."""

from collections import deque

from centernetd.flow import Packet

LARGEST = 64 * 2**20  # bytes: 25 s at 20 Mbit/s


class PreRoll:
    """A bounded ring of groups of pictures, each beginning with its key frame.

    Groups leave whole, the oldest first, so that what is left can be decoded. One that is too large
    by itself leaves too, and what follows is refused up to the next key frame.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        """Keep at most ``largest`` bytes."""
        self._largest = largest
        self._groups: deque[list[Packet]] = deque()
        self._size = 0

    def add(self, packet: Packet) -> int:
        """Keep a packet; returns the number of the last one that is not kept any more, or 0."""
        if packet.is_keyframe:
            self._groups.append([])
        if not self._groups:
            return packet.number
        self._groups[-1].append(packet)
        self._size += len(packet.data)
        gone = 0
        while self._size > self._largest:
            gone = self._drop()
        return gone

    def trim(self, time: float) -> int:
        """Drop the groups that ended before ``time`` seconds; returns as `add` does."""
        gone = 0
        while len(self._groups) > 1 and self._groups[1][0].time <= time:
            gone = self._drop()
        return gone

    def release(self) -> list[Packet]:
        """Return all that is kept, and forget it."""
        packets = [packet for group in self._groups for packet in group]
        self._groups.clear()
        self._size = 0
        return packets

    def _drop(self) -> int:
        group = self._groups.popleft()
        self._size -= sum(len(packet.data) for packet in group)
        return group[-1].number
