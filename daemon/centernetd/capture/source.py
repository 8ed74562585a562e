"""What a source is, whatever it reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Coding


@dataclass(frozen=True, slots=True, eq=False)
class SourcePacket:
    """A packet as the source sent it, in its own time: see `flow.Packet`."""

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    time_base: Fraction
    is_keyframe: bool
    coding: Coding
    hidden: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture with the source's own time.

    ``image`` is uint8 [height, width, 3], BGR, upright. ``pts`` counts ``time_base`` seconds;
    it is None where the source has no time of its own worth keeping. ``decode_seconds`` is
    what decoding and converting took, without the waiting. ``packets`` are those that were
    read since the picture before, where they were asked for. ``is_key`` tells that it was
    coded by itself. ``aspect`` is the width of a pixel over its height.
    """

    image: NDArray[np.uint8]
    pts: int | None
    time_base: Fraction
    decode_seconds: float
    packets: Sequence[SourcePacket] = ()
    is_key: bool = True
    aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class SourceInfo:
    """What is known of an open source.

    ``total_frames`` is its own estimate, if it has one. ``in_bursts`` tells that its pictures
    come many at a time, long before their own; ``complete`` that it is a playlist to which
    nothing is added any more.
    """

    codec: str
    decoder: str
    time_base: Fraction
    total_frames: int | None = None
    in_bursts: bool = False
    complete: bool = False
    has_sound: bool = False


class Source(Protocol):
    """An open source: iterate it for its pictures, then close it.

    ``damaged`` counts what was passed over because it is broken, ``held_back`` what of that was
    broken only by what came before. ``info`` may change with any picture.
    """

    @property
    def info(self) -> SourceInfo:
        """What is known of it."""

    @property
    def damaged(self) -> int:
        """Packets and pictures passed over: not decodable, or decoded from damaged data."""

    @property
    def held_back(self) -> int:
        """Pictures among these that aren't damaged, but that no whole one preceded."""

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures until the end.

        Raises
        ------
        SourceError
            When the source can't be read on. What was read before stays good.
        """

    def close(self) -> None:
        """Release it; may be called twice."""
