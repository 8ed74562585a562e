"""What a scripted camera sends after PLAY; `tests.rtsp` lists the paths."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.rtp import CLOCK, Packets, Video, sound

_START = 0xFFFF_0000  # of its timestamps: cameras start anywhere, and here they soon wrap
_JUMP = 3600 * CLOCK  # an hour
_SEED = 4


@dataclass(frozen=True)
class Sent:
    """A picture's packets, to be sent ``due`` seconds after the last PLAY."""

    due: float
    data: bytes


@dataclass(frozen=True)
class Reel:
    """What can be sent: the video, another one, and the path's number."""

    video: Video
    other: Video
    number: int

    def shown(
        self,
        *,
        rate: float | None = None,
        timestamp: Callable[[int], int] = lambda index: 0,
        pick: Callable[[int], Video] | None = None,
    ) -> Iterator[tuple[float, list[bytes]]]:
        """Yield when each picture is due and its packets, for ever.

        ``rate`` is how many come a second, where that isn't the video's own; ``timestamp``
        is added to the RTP time of the picture of that number, and ``pick`` chooses its video.
        """
        packets = Packets()
        for index in itertools.count():
            video = pick(index) if pick else self.video
            picture = video.pictures[index % len(video.pictures)]
            time = _START + index * CLOCK // video.rate + timestamp(index)
            yield index / (rate or video.rate), packets.of(picture, time, video.codec)


def _play(reel: Reel) -> Iterator[Sent]:
    return (Sent(due, b"".join(packets)) for due, packets in reel.shown())


def _cut(reel: Reel) -> Iterator[Sent]:
    return itertools.islice(_play(reel), reel.number)


def _sound(reel: Reel) -> Iterator[Sent]:
    """Send sound along with this many pictures, and then nothing else."""
    for index, (heard, (due, packets)) in enumerate(
        zip(sound(1 / reel.video.rate), reel.shown(), strict=False)
    ):
        shown = packets if index < reel.number else []
        yield Sent(due, b"".join([*shown, heard]))


def _slow(reel: Reel) -> Iterator[Sent]:
    return (Sent(due, b"".join(packets)) for due, packets in reel.shown(rate=reel.number))


def _late(reel: Reel) -> Iterator[Sent]:
    for due, packets in reel.shown():
        yield Sent(due + random.uniform(0, reel.number / 1000), b"".join(packets))


def _lose(reel: Reel) -> Iterator[Sent]:
    chance = random.Random(_SEED)
    for due, packets in reel.shown():
        kept = [packet for packet in packets if chance.random() * 100 >= reel.number]
        yield Sent(due, b"".join(kept))


def _garble(reel: Reel) -> Iterator[Sent]:
    """Fill every packet after the first pictures with noise, its headers left as they are."""
    chance = random.Random(_SEED)
    for index, (due, packets) in enumerate(reel.shown()):
        if index >= reel.number:
            packets = [packet[:16] + chance.randbytes(len(packet) - 16) for packet in packets]
        yield Sent(due, b"".join(packets))


def _resize(reel: Reel) -> Iterator[Sent]:
    """Take the other video after this many pictures, and this one again after as many."""
    turns = (reel.video, reel.other)
    shown = reel.shown(pick=lambda index: turns[index // reel.number % 2])
    return (Sent(due, b"".join(packets)) for due, packets in shown)


def _frozen(reel: Reel) -> Iterator[Sent]:
    """Continue with the other video, which is frozen, after this many pictures."""
    shown = reel.shown(pick=lambda index: reel.video if index < reel.number else reel.other)
    return (Sent(due, b"".join(packets)) for due, packets in shown)


def _jump(reel: Reel) -> Iterator[Sent]:
    """Set the camera's clock an hour ahead after this many pictures, and back after as many."""
    shown = reel.shown(timestamp=lambda index: _JUMP * (index // reel.number % 2))
    return (Sent(due, b"".join(packets)) for due, packets in shown)


def _still(reel: Reel) -> Iterator[Sent]:
    """Give every picture the same time."""
    shown = reel.shown(timestamp=lambda index: -(index * CLOCK // reel.video.rate))
    return (Sent(due, b"".join(packets)) for due, packets in shown)


def _keyless(reel: Reel) -> Iterator[Sent]:
    return _play(Reel(reel.video.without_keys, reel.other, 0))


def _endless(reel: Reel) -> Iterator[Sent]:
    """After this many pictures begin one that never ends, and send it as fast as it is taken."""
    yield from _cut(reel)
    due, packets = reel.number / reel.video.rate, Packets().endless(_START)
    while True:
        yield Sent(due, b"".join(itertools.islice(packets, 50)))


SCRIPTS: Mapping[str, Callable[[Reel], Iterator[Sent]]] = {
    "play": _play,
    "close": _cut,
    "mute": _cut,
    "sound": _sound,
    "slow": _slow,
    "flood": _slow,
    "late": _late,
    "lose": _lose,
    "garble": _garble,
    "resize": _resize,
    "frozen": _frozen,
    "recode": _cut,
    "jump": _jump,
    "keyless": _keyless,
    "still": _still,
    "endless": _endless,
}
