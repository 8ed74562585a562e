"""One stream's path from capture to its sinks: queues, back-pressure and drops."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from math import inf

from centernetd.flow.arrivals import Arrivals
from centernetd.flow.channel import Channel, ChannelClosedError
from centernetd.flow.frame import Frame, Packet, Result, TrackEvent
from centernetd.flow.image import Image
from centernetd.flow.inbox import Inbox
from centernetd.flow.ledger import CAPTURE, INFERENCE, Ledger, Reason, StageName
from centernetd.flow.status import StreamStatus

_MAX_PACKETS = 1024  # packets that may wait for the recorder: half a minute of video
MAX_WAITING_BYTES = 256 << 20
"""Bytes of a live stream's pictures that may wait per sink: eight at 4K."""
_MIN_WAITING = 2  # pictures of any size that may wait
_MAX_REPORTED = 10_000  # events about tracks that may wait without a frame
_BURST_SHARE = 8  # a waiting capture is woken when an eighth of the lane is free


class Backpressure(str, Enum):
    """What happens to a new frame when the next stage is not ready for it."""

    BLOCK = "block"  # capture waits: every frame of a file is processed
    DROP_OLDEST = "drop_oldest"  # the oldest waiting frame is dropped: a camera can't wait


class Budget:
    """The bytes of pictures that all blocking lanes may hold, divided equally among them.

    Those of pictures in GPU memory are limited to what ``on_gpu`` returns, which may change.
    """

    def __init__(self, total: int, on_gpu: Callable[[], int]) -> None:
        self._total, self._on_gpu = total, on_gpu
        self._lanes: list[Lane] = []

    def join(self, lane: "Lane") -> None:
        """Give ``lane`` a share until it closes."""
        self._lanes = [other for other in self._lanes if not other.closed] + [lane]

    def share(self, image: Image) -> int:
        """Return the bytes of pictures like ``image`` that each lane may hold now.

        An empty lane accepts one picture of any size.
        """
        total = self._on_gpu() if image.on_gpu else self._total
        return total // max(1, sum(not lane.closed for lane in self._lanes))


class Lane:
    """Carries the frames of one stream, in order, and counts them in its ledger.

    Capture offers frames, inference takes them and delivers detections, and each sink reads
    its own outlet. Each model of the stream has an inbox, which it announces in its ``arrivals``.
    Only `offer` ever waits for room. On a blocking lane it admits a frame when fewer than
    ``depth`` are between capture and the slowest sink, and their pictures fit its share of the
    ``budget``. So inference never waits for a sink, and no stream for another. On a
    dropping lane, ``inbox`` frames may wait for inference (few, because waiting frames age) and
    ``depth`` for each sink, fewer if pictures are very large. With ``copies``, source packets
    bypass inference, in ``packets``, to the sink that records them, and so records frames that
    inference skips too. The sinks in ``without_pixels`` get no pixels, so that pictures are freed
    as soon as possible.

    ``announce`` is called when results were put into outlets or packets were passed, and when
    outlets close, for sinks that no thread waits for: with True if they are to be read immediately,
    since capture may wait for room or a channel is half full. It must not wait for anything.

    What happens to tracks comes with results, or is reported while there are none.
    """

    def __init__(
        self,
        name: str,
        backpressure: Backpressure,
        *,
        depth: int,
        inbox: int,
        arrivals: Mapping[str, Arrivals],
        sinks: Sequence[StageName],
        without_pixels: Collection[StageName] = (),
        max_frame_age: float | None = None,
        copies: bool = False,
        budget: Budget | None = None,
        announce: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.backpressure = backpressure
        self._blocks = backpressure is Backpressure.BLOCK
        self.depth = depth
        self.max_frame_age = inf if self._blocks or max_frame_age is None else max_frame_age
        """Seconds for which a frame is of use."""
        self._pixelless = without_pixels
        self._draws = any(sink not in without_pixels for sink in sinks)
        self._announce = announce
        self.status = StreamStatus()
        self.inboxes = {model: Inbox(self, model, each) for model, each in arrivals.items()}
        """What waits for each model, by name."""
        for each in self.inboxes.values():
            each.others = [other for other in self.inboxes.values() if other is not each]
        self._inbox: deque[Frame] = deque()  # frames that no model has taken
        self.capacity = depth if self._blocks else inbox
        """How many frames may wait for a model."""
        self.closed = False
        """Whether the lane admits no more frames."""
        self.abandoned = self.hurried = False
        self.lock = threading.RLock()
        """Held for whatever changes where the frames are."""
        self.ledger = Ledger(sinks, self.lock)
        self._room = threading.Condition(self.lock)
        self._outlets = {
            sink: Channel[Result](depth, threading.Condition(self.lock), self._notify_of_room)
            for sink in sinks
        }
        self._packets = (
            Channel[Packet](_MAX_PACKETS, threading.Condition(self.lock), self._notify_of_room)
            if copies
            else None
        )
        self._most_packets = depth if self._blocks else _MAX_PACKETS
        # What has no pixels may wait for as long as the packets that it belongs to.
        self._most_light = self._most_packets if copies else depth
        self.epilogue: Callable[[], Sequence[TrackEvent]] = tuple
        """Returns what happens to the stream's tracks at its end."""
        self._reported: deque[TrackEvent] = deque(maxlen=_MAX_REPORTED)
        self._budget = budget if self._blocks else None
        if self._budget is not None:
            self._budget.join(self)

    @property
    def outlets(self) -> Mapping[StageName, Channel[Result]]:
        """The channel each sink reads."""
        return self._outlets

    @property
    def packets(self) -> Channel[Packet] | None:
        """The source's packets, for the sink that copies them; None without one."""
        return self._packets

    def pass_packet(self, packet: Packet) -> None:
        """Pass a packet to its sink, which detects a dropped one by its number."""
        if self._packets is not None:
            with suppress(ChannelClosedError):
                self._packets.put(packet)
                self._announce(2 * len(self._packets) >= self._most_packets)

    def offer(self, frame: Frame) -> bool:
        """Admit ``frame``, after waiting for room if the lane blocks; return False once closed."""
        with self.lock:
            if self._blocks:
                self._room.wait_for(lambda: self.closed or self._has_room(frame.image))
            if self.closed:
                return False
            self.ledger.capture()
            evicts = len(self._inbox) == self.capacity
            if evicts:
                self._inbox.popleft()
                self.ledger.drop(CAPTURE, Reason.OVERFLOW)
            self._inbox.append(frame)
            full = len(self._inbox) == self.capacity
        if not evicts:  # else the frames before it were announced, and it only replaces one
            self.announce_frame(urgent=full)
        return True

    def skip(self) -> None:
        """Count a decoded frame that the configuration excludes from inference."""
        with self.lock:
            self.ledger.capture()
            self.drop(CAPTURE, Reason.UNWANTED)

    def deadline(self, frame: Frame) -> float:
        """Return the monotonic time after which ``frame`` is of no use, or infinity."""
        return frame.captured_at + self.max_frame_age

    def take(self) -> Frame | None:
        """Remove and return the oldest frame that no model has taken; None without one.

        Called with the lock held.
        """
        if not self._inbox:
            return None
        self.ledger.take_up()
        return self._inbox.popleft()

    def deliver(self, *results: Result) -> None:
        """Pass frames and their detections, in order, to every sink."""
        with self.lock:
            if self.abandoned:
                return  # they have been written off
            self.ledger.infer(len(results))
            light = self._without_pixels(results) if self._pixelless else ()
            urgent = self._blocks
            for sink, outlet in self._outlets.items():
                if sink in self._pixelless:
                    most = self._most_light
                    evicted = outlet.put_all(light, most)
                else:
                    most = self.depth
                    evicted = outlet.put_all(results, self._outlet_limit(results))
                if evicted:
                    self.ledger.drop(sink, Reason.OVERFLOW, evicted)
                urgent |= 2 * len(outlet) >= most
            self._notify_of_room()  # without sinks, this frees room
            self._announce(urgent)
            self._finish_if_drained()

    def report(self, events: Sequence[TrackEvent]) -> None:
        """Pass on what happened to tracks while no frame came."""
        if events:
            self._reported.extend(events)
            self._announce(False)

    def take_reported(self) -> list[TrackEvent]:
        """Remove and return what `report` has passed on."""
        return [self._reported.popleft() for _ in range(len(self._reported))]

    @property
    def reported(self) -> bool:
        """Whether `take_reported` has something to return."""
        return bool(self._reported)

    def drop(self, stage: StageName, reason: Reason) -> None:
        """Count a frame lost before the sinks."""
        with self.lock:
            self.ledger.drop(stage, reason)
            self._notify_of_room()
            self._finish_if_drained()

    def close(self) -> None:
        """Admit no more frames; the outlets close when the last frame has been delivered."""
        with self.lock:
            self.closed = True
            self._room.notify_all()
            if self._packets is not None:
                self._packets.close()
            self._finish_if_drained()
        self.announce_frame(urgent=True)  # so that who waits for a frame sees the end

    def discard(self) -> None:
        """Close, and drop the frames not taken by inference, for which no time is left."""
        self.close()
        with self.lock:
            while self._inbox:
                self._inbox.popleft()
                self.drop(CAPTURE, Reason.SHUTDOWN)
            for inbox in self.inboxes.values():
                inbox.discard()

    def abandon(self) -> None:
        """Close permanently after inference has ended: its frames are lost, sinks may finish."""
        self.discard()
        with self.lock:
            self.abandoned = True
            self.ledger.write_off(CAPTURE, INFERENCE)
            self._finish_if_drained()

    def cut_short(self) -> None:
        """Drop what waits for the sinks of an abandoned lane, so that they can finish their files.

        A sink that holds back frames itself must check ``hurried`` and drop them too.
        """
        self.hurried = True
        while self._packets is not None and self._packets.take() is not None:
            pass
        for sink, outlet in self._outlets.items():
            while outlet.take() is not None:
                self.ledger.drop(sink, Reason.SHUTDOWN)

    @property
    def waiting(self) -> int:
        """Number of frames that no model has taken."""
        return len(self._inbox)

    @property
    def oldest(self) -> Frame | None:
        """The oldest of these, if any."""
        return self._inbox[0] if self._inbox else None

    def announce_frame(self, *, urgent: bool) -> None:
        """Announce a frame to every model."""
        for inbox in self.inboxes.values():
            inbox.arrivals.announce(inbox, urgent=urgent)

    def _without_pixels(self, results: Sequence[Result]) -> Sequence[Result]:
        """Return results for sinks that need no pixels, so that pictures are freed."""
        if not self._draws:
            for result in results:
                result.frame.drop_pixels()
            return results
        return [
            Result(result.frame.without_pixels(), result.detections, result.events, result.scene)
            for result in results
        ]

    def _outlet_limit(self, results: Sequence[Result]) -> int:
        """Return how many pictures of the size of these may wait for a sink."""
        if self._blocks:  # `offer` has already limited them
            return self.depth
        size = max((result.frame.image.nbytes for result in results), default=0)
        return min(self.depth, max(_MIN_WAITING, MAX_WAITING_BYTES // max(1, size)))

    def _has_room(self, image: Image) -> bool:
        frames = self._frames()
        needed = (frames + 1) * image.nbytes
        affordable = not frames or not self._budget or needed <= self._budget.share(image)
        return affordable and self._held() < self.depth

    def _notify_of_room(self) -> None:
        # Not for every single frame: waking a thread costs more than passing on a frame.
        if self._blocks and self._held() <= self.depth - max(1, self.depth // _BURST_SHARE):
            self._room.notify_all()

    def _frames(self) -> int:
        return self.ledger.waiting + max(map(len, self._outlets.values()), default=0)

    def _held(self) -> int:
        return max(self._frames(), 0 if self._packets is None else len(self._packets))

    def _finish_if_drained(self) -> None:
        if self.closed and self.ledger.waiting == 0:
            self._reported.extend(self.epilogue())
            for outlet in self._outlets.values():
                outlet.close()
            self._announce(True)
