"""Turning the pictures of a stream into frames on its timeline."""

import logging
import threading
import time
import zlib
from collections import deque
from weakref import ref

import numpy as np

from centernetd.capture.packets import PacketTimeline
from centernetd.capture.source import Picture, SourceInfo
from centernetd.capture.timeline import Timeline
from centernetd.config import StreamConfig
from centernetd.errors import SourceError
from centernetd.flow import Frame, Image, Lane, Meters

log = logging.getLogger(__name__)

_DISAGREES = 10.0  # seconds of lag at which timestamps are doubted
_IDLE = 0.1  # minimum share of time spent waiting for a source that sets the pace
_MEMORY = 10.0  # seconds over which that share is averaged
_LATEST = 0.5  # seconds a frame may be late before the pace is reset
_BRIEF = 0.1  # seconds for which a stop may wait
_CHECKED = 0.1  # seconds between looks at what changes slowly
_ROUNDING = 1e-3  # pts are rounded to their time base
FROZEN_AFTER = 30.0
"""Seconds without any change after which a picture is considered frozen."""
# Seconds between checks; not a divisor of 1 s, or a loop of 1 s would always be hit at one picture.
_INTERVAL = 0.7
_KEYLESS = 60.0  # seconds without a key frame after which none is expected
_KNOWN = 4  # pictures that may alternate: as many came of one under a constant bit rate
_ROWS = 128  # approximate number of whole rows checked, so that a clock in the picture is seen


class Intake:
    """Stamps each picture with its stream's time and offers it to the lane.

    It outlives connections and the threads that read them. Only one thread at a time may call it.
    """

    def __init__(
        self, stream: StreamConfig, lane: Lane, meters: Meters, stop: threading.Event
    ) -> None:
        """Feed ``lane`` from ``stream``; ``stop`` interrupts waiting for a frame's time."""
        self.count = 0
        """Number of pictures taken."""
        self._stream = stream
        self._live_source = not stream.from_file
        self._lane = lane
        self._status = lane.status
        self._meters = meters
        max_fps = stream.detect.max_fps
        self._thinner = None if max_fps is None else Thinner(max_fps)
        self._pacer = Pacer(stop)
        self._paced = False
        self._frozen = FrozenPicture()
        self._by_arrival = stream.timestamps == "arrival"
        self._timeline = Timeline(by_arrival=self._by_arrival)
        self._idle = Idle()
        self._check_at = 0.0  # monotonic time of the next look at what changes slowly
        self._packets = PacketTimeline()
        self._sound_noted = False

    def connected(self, info: SourceInfo) -> None:
        """Prepare for the pictures of a newly opened source."""
        self._check_at = 0.0
        self._status.codec, self._status.decoder = info.codec, info.decoder
        self._status.total_frames = info.total_frames
        if info.has_sound and not self._sound_noted and self._stream.record.when != "never":
            self._sound_noted = True
            log.info("its sound is not recorded", extra={"stream": self._stream.name})
        as_live = not self._live_source and self._stream.policy == "live"
        self._paced = info.in_bursts or as_live
        if self._live_source:
            self._timeline.reconnected()
        else:  # a file is opened once
            self._timeline = Timeline(info.time_base)

    def take(self, picture: Picture) -> None:
        """Offer ``picture`` to the lane, waiting until it is due if the source sends ahead of time.

        Raises
        ------
        SourceError
            When pictures are so late that the source should be reopened.
        """
        timeline, decoded_at = self._timeline, time.monotonic()
        is_live = self._live_source
        if is_live:
            self._idle.end(decoded_at, picture.decode_seconds)
        pts = timeline.stamp(picture.pts, picture.time_base, decoded_at)
        at = timeline.seconds(pts)
        if self._paced:
            self._pacer.wait(at)
        self._meters.stage_duration("decode", picture.decode_seconds)
        wall_time = time.time()
        if picture.packets:
            for packet in self._packets.place(picture, pts, timeline.time_base, wall_time):
                self._lane.pass_packet(packet)
        captured_at = time.monotonic() if self._paced else decoded_at
        image = picture.image
        frame = Frame(
            self.count,
            image,
            pts,
            timeline.time_base,
            captured_at,
            wall_time,
            self._packets.count,
            picture.aspect,
        )
        self.count += 1
        if image.on_gpu:
            held = self._status.surfaces
            held.add(ref(image, held.discard))
        self._status.last_frame_at = captured_at
        checks = is_live and (picture.is_key or decoded_at >= self._check_at)
        if checks and not image.on_gpu:  # before the offer: sinks draw on it
            self._check_frozen(picture, captured_at)
        if self._thinner is None or self._thinner.wants(at):
            self._lane.offer(frame)
        else:
            self._lane.skip()
        if checks:
            self._check(picture, decoded_at, captured_at)
        if is_live:
            self._idle.begin(time.monotonic())

    def _check(self, picture: Picture, decoded_at: float, captured_at: float) -> None:
        """Check what changes slowly, after a picture was offered."""
        if picture.image.on_gpu:  # not before: copying from the GPU takes its time
            self._check_frozen(picture, captured_at)
        if decoded_at >= self._check_at:
            self._check_at = decoded_at + _CHECKED
            self._check_lag(decoded_at)

    def _check_lag(self, now: float) -> None:
        """Decide how to treat pictures that arrive later than their timestamps."""
        timeline, most = self._timeline, self._stream.stall_timeout
        idle = self._idle.share(now)
        # Without waiting for the source, its rate can't be measured: the lag is our own.
        if timeline.lag > min(most, _DISAGREES) and idle > _IDLE:
            timeline.distrust()
        self._note_timing()
        self._status.source_lag = lag = timeline.lag
        # A lossless stream lags because it waits for us, which reopening would not fix.
        if self._stream.policy == "live" and lag > most:
            raise SourceError(f"its pictures arrive more than {most:g} s late", "lagging")

    def _note_timing(self) -> None:
        by_arrival = self._timeline.by_arrival
        if by_arrival and not self._by_arrival:
            message = "its timestamps don't keep pace with its pictures: timed by arrival instead"
            log.warning(message, extra={"stream": self._stream.name})
        self._by_arrival = by_arrival

    def _check_frozen(self, picture: Picture, now: float) -> None:
        """Record and log whether the picture of a live source is frozen."""
        frozen = self._frozen.check(picture.image, now, is_key=picture.is_key)
        if frozen == self._status.frozen:
            return
        self._status.frozen = frozen
        about = {"stream": self._stream.name}
        if frozen:
            message = "the picture has not changed for %.0f s: does the camera's encoder hang?"
            log.warning(message, FROZEN_AFTER, extra=about)
        else:
            log.info("the picture changes again", extra=about)


class Thinner:
    """Passes at most ``max_fps`` frames per second of stream time, evenly spaced."""

    def __init__(self, max_fps: float) -> None:
        self._interval = 1 / max_fps
        self._due: float | None = None

    def wants(self, at: float) -> bool:
        """Return whether to pass the frame at ``at`` seconds of its stream."""
        if self._due is None or at - self._due > self._interval:
            self._due = at  # the first frame, or the first after a gap
        if at < self._due - _ROUNDING:
            return False
        self._due += self._interval  # from when it was due, to keep the mean rate
        return True


class Pacer:
    """Delays frames that arrive early until they are due, as a camera would send them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._offset: float | None = None

    def wait(self, at: float) -> None:
        """Return when the frame at ``at`` seconds of its stream is due, or ``stop`` is set.

        After a delay all later frames are delayed too, so that the pace stays even.
        """
        now = time.monotonic()
        if self._offset is None or now - at > self._offset + _LATEST:
            self._offset = now - at
        wait = self._offset + at - now
        if wait > _BRIEF:
            self._stop.wait(wait)
        elif wait > 0:  # between two frames: an event's wait would hold Python's lock for longer
            time.sleep(wait)


class Idle:
    """Measures the share of the last seconds that was spent waiting for pictures."""

    def __init__(self) -> None:
        self._share = 0.0
        self._measured_at = self._began_at = time.monotonic()
        self._waited = 0.0  # seconds since the share was measured

    def begin(self, now: float) -> None:
        """Record the start of the wait for the next picture."""
        self._began_at = now

    def end(self, now: float, took: float) -> None:
        """Record a picture that arrived at the monotonic ``now`` and took ``took`` s to decode."""
        waited = now - self._began_at - took
        if waited > 0:
            self._waited += waited

    def share(self, now: float) -> float:
        """Return the share up to the picture that arrived at ``now``."""
        passed = now - self._measured_at
        if passed > 0:
            self._share += (self._waited / passed - self._share) * min(1.0, passed / _MEMORY)
            self._measured_at, self._waited = now, 0.0
        return self._share


class FrozenPicture:
    """Detects that a camera's encoder repeats one picture.

    Only intra-coded pictures are checked. They show the sensor's noise even in a still scene
    at a low bit rate: of 15, no two were equal. From one repeated picture under a constant
    bit rate, an encoder makes at most four that alternate, one per quality; what it codes
    between them never settles, and differs by more than strong noise does. (x264, 60 kbit/s
    to 8 Mbit/s, noise of 0.5 to 4 levels.) So a source is frozen while every checked picture
    was seen before. After a minute without a key frame (an encoder may refresh its pictures
    gradually instead), any picture is checked; one that settles is detected.
    """

    def __init__(self) -> None:
        self._checked_at = float("-inf")
        self._key_at: float | None = None
        self._known: deque[int] = deque(maxlen=_KNOWN)
        self._since = 0.0
        self._frozen = False

    def check(self, image: Image, now: float, *, is_key: bool) -> bool:
        """Check ``image`` at the monotonic time ``now``; return whether the picture is frozen."""
        if is_key or self._key_at is None:
            self._key_at = now
        checked = is_key or now - self._key_at >= _KEYLESS
        if checked and now - self._checked_at >= _INTERVAL:
            self._checked_at = now
            lines = image.lines(max(1, image.size[0] // _ROWS))
            checksum = zlib.crc32(np.ascontiguousarray(lines).data)
            if checksum not in self._known:
                self._known.append(checksum)
                self._since = now
            self._frozen = now - self._since >= FROZEN_AFTER
        return self._frozen
