"""Turning the pictures of a stream into frames on its timeline."""

import logging
import threading
import time

from centernetd.capture.copying import Copying
from centernetd.capture.frozen import AFTER, FrozenPicture
from centernetd.capture.pacing import Idle, Pacer, Thinner
from centernetd.capture.source import Picture, SourceInfo
from centernetd.capture.timeline import Timeline
from centernetd.config import StreamConfig
from centernetd.errors import SourceError
from centernetd.flow import Frame, Lane, Meters

log = logging.getLogger(__name__)

_DISAGREES = 10.0  # seconds of lag at which timestamps are doubted
_IDLE = 0.1  # minimum share of time spent waiting for a source that sets the pace


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
        self._thinner = Thinner(stream.detect.max_fps)
        self._pacer = Pacer(stop)
        self._paced = False
        self._frozen = FrozenPicture()
        self._by_arrival = stream.timestamps == "arrival"
        self._timeline = Timeline(by_arrival=self._by_arrival)
        self._idle = Idle()
        self._copying = Copying()
        self._sound_noted = False

    def connected(self, info: SourceInfo) -> None:
        """Prepare for the pictures of a newly opened source."""
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
        self._idle.came(decoded_at, picture.decode_seconds)
        pts = timeline.stamp(picture.pts, picture.time_base, decoded_at)
        at = float(pts * timeline.time_base)
        if self._paced:
            self._pacer.wait(at)
        self._meters.stage_duration("decode", picture.decode_seconds)
        wall_time = time.time()
        for packet in self._copying.packets(picture, pts, timeline.time_base, wall_time):
            self._lane.copy(packet)
        frame = Frame(
            frame_id=self.count,
            image=picture.image,
            pts=pts,
            time_base=timeline.time_base,
            captured_at=time.monotonic() if self._paced else decoded_at,
            wall_time=wall_time,
            packet=self._copying.passed,
            aspect=picture.aspect,
        )
        self.count += 1
        self._status.last_frame_at = frame.captured_at
        if self._live_source:  # checked before the offer: sinks draw on the image
            self._look_at(picture, frame.captured_at)
        if self._thinner.wants(at):
            self._lane.offer(frame)
        else:
            self._lane.skip()
        if self._live_source:
            self._judge_time()
        self._idle.left(time.monotonic())

    def _judge_time(self) -> None:
        """Decide how to treat pictures that arrive later than their timestamps."""
        timeline, most = self._timeline, self._stream.stall_timeout
        # Without waiting for the source, its rate can't be measured: the lag is our own.
        if timeline.lag > min(most, _DISAGREES) and self._idle.share > _IDLE:
            timeline.distrust()
        self._note_timing()
        self._status.source_lag = lag = timeline.lag
        # A lossless stream lags because it waits for us, which reopening would not fix.
        if self._stream.policy == "live" and lag > most:
            raise SourceError(f"its pictures come more than {most:g} s late", "lagging")

    def _note_timing(self) -> None:
        by_arrival = self._timeline.by_arrival
        if by_arrival and not self._by_arrival:
            message = "its timestamps don't keep pace with its pictures: timed by arrival instead"
            log.warning(message, extra={"stream": self._stream.name})
        self._by_arrival = by_arrival

    def _look_at(self, picture: Picture, now: float) -> None:
        """Record and log whether the picture of a live source is frozen."""
        frozen = self._frozen.look(picture.image, now, is_key=picture.is_key)
        if frozen == self._status.frozen:
            return
        self._status.frozen = frozen
        about = {"stream": self._stream.name}
        if frozen:
            message = "the picture has not changed for %.0f s: does the camera's encoder hang?"
            log.warning(message, AFTER, extra=about)
        else:
            log.info("the picture changes again", extra=about)
