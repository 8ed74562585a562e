"""The interface of a source and the types it yields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from centernetd.flow import Coding, Image


@dataclass(slots=True, eq=False)  # not frozen, as a Frame
class SourcePacket:
    """A packet as sent by the source, with the source's times; see `flow.Packet`."""

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    time_base: Fraction
    is_keyframe: bool
    coding: Coding
    hidden: bool = False


@dataclass(slots=True, eq=False)  # likewise
class Picture:
    """A decoded picture with the source's own timestamp.

    ``pts`` counts ``time_base`` seconds;
    it is None if the source has no usable timestamps. ``decode_seconds`` is the time spent
    decoding and converting, without waiting. ``packets`` are those read since the previous
    picture, if requested. ``is_key`` is True if it was coded without reference to others.
    ``aspect`` is the width of a pixel over its height.
    """

    image: Image
    pts: int | None
    time_base: Fraction
    decode_seconds: float
    packets: Sequence[SourcePacket] = ()
    is_key: bool = True
    aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class SourceInfo:
    """Properties of an open source.

    ``total_frames`` is the source's own estimate, if any. ``in_bursts`` is True if pictures
    arrive in groups, long before they are due; ``complete`` if it is a playlist that does not
    grow any more.
    """

    codec: str
    decoder: str
    time_base: Fraction
    total_frames: int | None = None
    in_bursts: bool = False
    complete: bool = False
    has_sound: bool = False


class Source(Protocol):
    """An open source: iterate over its pictures, then close it.

    ``damaged`` counts damaged items that were skipped; ``held_back`` counts those of them that
    were damaged only through earlier ones. ``info`` may change with any picture.
    """

    @property
    def info(self) -> SourceInfo:
        """Current properties of the source."""

    @property
    def damaged(self) -> int:
        """Packets and pictures skipped: not decodable, or decoded from damaged data."""

    @property
    def held_back(self) -> int:
        """Pictures among these that are intact themselves, but follow no intact picture."""

    def __iter__(self) -> Iterator[Picture]:
        """Yield pictures until the end.

        Raises
        ------
        SourceError
            When reading the source fails. Pictures yielded before remain valid.
        """

    def close(self) -> None:
        """Release the source; idempotent."""
