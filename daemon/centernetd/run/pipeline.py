"""The stages of a stream, built and connected but not running yet."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from centernetd.capture.stage import CaptureStage
from centernetd.config import StreamConfig
from centernetd.flow import EVERYTHING, Backpressure, Budget, Lane, Meters, StageName
from centernetd.inference.wanted import Wanted, wanted_by
from centernetd.model.manifest import Manifest
from centernetd.run.loading import Sizes
from centernetd.sink.events import EventLog
from centernetd.sink.recorder import PacketRecorder, Recorder
from centernetd.sink.stage import PacketStage, SinkContext, SinkStage
from centernetd.sink.storage import Storage

_LIVE_INBOX = 2  # frames per live stream that may wait for inference; waiting frames age
LIVE_DEPTH = 8  # frames per live stream that may wait for a sink
LOSSLESS_BYTES = 2_000_000_000
"""Memory for the frames of all lossless streams: 320 of 1080p, or five batches of 64."""


@dataclass(frozen=True, eq=False)
class StreamStages:
    """One stream: its lane, and its stages, whose ``run`` methods need a thread each.

    ``wanted`` selects the detections that inference keeps. Setting ``stop`` ends the capture.
    """

    stream: StreamConfig
    lane: Lane
    wanted: Wanted
    capture: CaptureStage
    sinks: Mapping[StageName, SinkStage]
    stop: threading.Event


@dataclass(frozen=True)
class Surroundings:
    """The shared dependencies of every stream's stages."""

    model: Manifest
    storage: Storage
    meters: Meters


def make_lane(
    stream: StreamConfig, sizes: Sizes, ready: threading.Condition, budget: Budget
) -> Lane:
    """Return the lane of ``stream``; it notifies ``ready`` of new frames."""
    sinks = {StageName.RECORD: stream.record.when, StageName.EVENTS: stream.events.when}
    live = stream.policy == "live"
    return Lane(
        stream.name,
        Backpressure.DROP_OLDEST if live else Backpressure.BLOCK,
        depth=LIVE_DEPTH if live else sizes.lossless_depth,
        inbox=_LIVE_INBOX,
        ready=ready,
        sinks=[sink for sink, when in sinks.items() if when != "never"],
        max_frame_age=stream.max_frame_age if live else None,
        copies=stream.copies,
        budget=budget,
    )


def make_stages(stream: StreamConfig, lane: Lane, around: Surroundings) -> StreamStages:
    """Make the stages of ``stream`` around its ``lane``.

    Raises
    ------
    ConfigError
        If it names a label that the model does not have.
    """
    wanted, stop = wanted_by(stream, around.model), threading.Event()
    lane.status.detections.update(dict.fromkeys(wanted.counted_as, 0))
    return StreamStages(
        stream=stream,
        lane=lane,
        wanted=wanted,
        capture=CaptureStage(stream, lane, around.meters, stop),
        sinks=make_sinks(stream, lane, around, wanted),
        stop=stop,
    )


def make_sinks(
    stream: StreamConfig, lane: Lane, around: Surroundings, wanted: Wanted
) -> Mapping[StageName, SinkStage]:
    """Return a sink for each outlet of ``lane``."""
    context = SinkContext(
        stream,
        around.storage,
        around.model.labels,
        shows=wanted,
        covers=wanted.blur or EVERYTHING,
        status=lane.status,
        meters=around.meters,
        hurried=lambda: lane.hurried,
    )
    stages: dict[StageName, SinkStage] = {}
    if StageName.RECORD in lane.outlets:
        stages[StageName.RECORD] = _make_recorder(lane, context)
    if StageName.EVENTS in lane.outlets:
        stages[StageName.EVENTS] = SinkStage(lane, StageName.EVENTS, EventLog(context))
    return stages


def _make_recorder(lane: Lane, context: SinkContext) -> SinkStage:
    if lane.packets is not None:
        return PacketStage(lane, StageName.RECORD, PacketRecorder(context), lane.packets)
    return SinkStage(lane, StageName.RECORD, Recorder(context))
