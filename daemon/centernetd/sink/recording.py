"""Deciding which of a stream's packets are kept, in which file, and tracking their outcome."""

from collections import Counter, deque
from dataclasses import replace
from typing import Literal

from centernetd.flow import Packet
from centernetd.sink.segments import Segments
from centernetd.sink.stage import Outcome, SinkContext

MAX_PREROLL = 64 * 2**20  # bytes: 25 s at 20 Mbit/s

PacketOutcome = Literal["written", "unwanted", "failed"]


class Recording:
    """Takes packets and, if ``record.when`` is detection, the verdicts on them.

    Packets wait in a ring while a later detection may still require them. A detection starts
    writing with the packets in its pre-roll, until the first key frame after the post-roll.

    In an open group of pictures, pictures that follow a key frame but are shown before it also
    depend on packets before it. If that key frame begins a file, the previous file ends with
    it and these pictures.
    """

    def __init__(self, context: SinkContext) -> None:
        self._config = context.stream.record
        self._segments = Segments(context)
        self._accounts = Accounts()
        self._ring = PreRoll()
        self._wanted = self._config.when == "always"
        self._until = -1.0  # seconds of the stream's time
        self._last = 0
        self._key: Packet | None = None  # pending: begins the next file, once pictures follow it

    def due(self, wall_time: float) -> bool:
        """Return whether a new file is due at a Unix time; then a key frame should come next."""
        return self._wanted and self._segments.due(wall_time)

    @property
    def may_begin(self) -> bool:
        """Whether a new file may begin now; see `Segments`."""
        return self._segments.may_begin

    def judge(self, time: float, number: int, *, found: bool) -> None:
        """Take the result at ``time`` (seconds) for the frame of packet ``number``.

        Raises
        ------
        SinkError
            When the pre-roll can't be written; every frame not settled is lost.
        """
        self._accounts.owe(number)
        if self._config.when == "always":
            return
        if found:
            self._until = max(self._until, time + self._config.after)
        if not self._wanted:
            self._reject(self._ring.trim(time - self._config.before))
        if found and not self._wanted:
            self._wanted = True
            for packet in self._ring.release():
                self._write(packet)

    def add(self, packet: Packet) -> None:
        """Take the next packet of the stream; raises as `judge` does."""
        if packet.number != self._last + 1:
            self._finish()
            self._accounts.decide(packet.number - 1, "failed")
        self._last = packet.number
        decoded_at = float(packet.dts * packet.time_base)  # nothing that follows is shown before
        over = self._config.when != "always" and decoded_at > self._until
        if self._wanted and over and packet.is_keyframe:
            self._finish()
            self._wanted = False
        if self._wanted:
            self._write(packet)
        else:
            self._reject(self._ring.add(packet))

    def settle(self) -> Outcome:
        """Return the frames settled since the last call."""
        return self._accounts.settle()

    def close(self) -> None:
        """Complete the file; raises as `judge` does."""
        self._finish()
        self._ring.release()
        self._reject(self._last)

    def abandon(self) -> None:
        """Close the file after a failure, and drop all waiting frames as lost."""
        self._segments.abandon()
        self._key = None
        self._ring.release()
        self._accounts.decide(self._last, "failed")
        self._accounts.forget()

    def _write(self, packet: Packet) -> None:
        if self._key is not None:
            if packet.pts < self._key.pts and not packet.is_keyframe:
                self._keep_key()
                self._store(packet)
                return
            key, self._key = self._key, None
            self._complete()
            self._store(replace(key, number=packet.number - 1))  # settles those after it too
        if self._segments.ends_before(packet):
            if self._segments.may_lead(packet):
                self._key = packet
                return
            self._finish()
        self._store(packet)

    def _store(self, packet: Packet) -> None:
        if self._segments.takes(packet):
            self._accounts.decide(self._segments.write(packet), "written")
        else:
            self._accounts.decide(packet.number, "failed")

    def _keep_key(self) -> None:
        """Write the pending key frame to the present file, unless that was done."""
        if self._key is not None and self._segments.last < self._key.number:
            self._store(self._key)

    def _finish(self) -> None:
        self._keep_key()
        self._key = None
        self._complete()

    def _complete(self) -> None:
        self._accounts.decide(self._segments.finish(), "written")

    def _reject(self, number: int) -> None:
        self._accounts.decide(number, "unwanted")


class PreRoll:
    """A bounded ring of groups of pictures, each beginning with its key frame.

    Whole groups are dropped, oldest first, so that the rest can be decoded. A group that is too
    large by itself is dropped too, and packets up to the next key frame are rejected.
    """

    def __init__(self, largest: int = MAX_PREROLL) -> None:
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
        dropped = 0
        while self._size > self._largest:
            dropped = self._drop()
        return dropped

    def trim(self, time: float) -> int:
        """Drop the groups that ended before ``time`` seconds; return as `add` does."""
        dropped = 0
        while len(self._groups) > 1 and self._groups[1][0].time <= time:
            dropped = self._drop()
        return dropped

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


class Accounts:
    """Frames waiting for the outcome of their packets; both arrive in packet-number order."""

    def __init__(self) -> None:
        self._owed: deque[int] = deque()
        # Runs of packets with the same outcome, each with the number of its last packet.
        self._outcomes: deque[tuple[int, PacketOutcome]] = deque()

    def owe(self, number: int) -> None:
        """Record a frame that shares the outcome of packet ``number``."""
        self._owed.append(number)

    def decide(self, number: int, outcome: PacketOutcome) -> None:
        """Record the outcome of every packet up to ``number`` that is still undecided."""
        if number > (self._outcomes[-1][0] if self._outcomes else 0):
            if self._outcomes and self._outcomes[-1][1] == outcome:
                self._outcomes.pop()
            self._outcomes.append((number, outcome))

    def settle(self) -> Outcome:
        """Remove the frames whose outcome is known and return their numbers."""
        counts: Counter[str] = Counter()
        while self._owed and self._outcomes and self._owed[0] <= self._outcomes[-1][0]:
            number = self._owed.popleft()
            while self._outcomes[0][0] < number:
                self._outcomes.popleft()
            counts[self._outcomes[0][1]] += 1
        return Outcome(**counts)

    def forget(self) -> None:
        """Discard the waiting frames, which have been counted as lost."""
        self._owed.clear()
