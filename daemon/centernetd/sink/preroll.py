"""The packets of the last seconds, kept until it is known whether to record them."""

from collections import deque

from centernetd.flow import Packet

LARGEST = 64 * 2**20  # bytes: 25 s at 20 Mbit/s


class PreRoll:
    """A bounded ring of groups of pictures, each beginning with its key frame.

    Whole groups are dropped, oldest first, so that the rest can be decoded. A group that is too
    large by itself is dropped too, and packets up to the next key frame are rejected.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        """Keep at most ``largest`` bytes."""
        self._largest = largest
        self._groups: deque[list[Packet]] = deque()
        self._size = 0

    def add(self, packet: Packet) -> int:
        """Keep a packet; return the number of the last packet dropped by that, or 0."""
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
        """Drop the groups that ended before ``time`` seconds; return as `add` does."""
        gone = 0
        while len(self._groups) > 1 and self._groups[1][0].time <= time:
            gone = self._drop()
        return gone

    def release(self) -> list[Packet]:
        """Remove all packets and return them."""
        packets = [packet for group in self._groups for packet in group]
        self._groups.clear()
        self._size = 0
        return packets

    def _drop(self) -> int:
        group = self._groups.popleft()
        self._size -= sum(len(packet.data) for packet in group)
        return group[-1].number
