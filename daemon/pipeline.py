"""The stages that a configuration asks for, built and connected but not yet running."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from daemon.capture.decoding import Decoding
from daemon.capture.open import open_source
from daemon.capture.stage import CaptureStage, Opener
from daemon.config import Config, StreamConfig
from daemon.flow import Backpressure, Lane, Meters, StageName
from daemon.inference.detector import Detector
from daemon.inference.stage import Batching, InferenceStage
from daemon.inference.wanted import resolve
from daemon.loading import Sizes
from daemon.sink.copy import PacketRecorder
from daemon.sink.events import EventLog
from daemon.sink.record import Recorder
from daemon.sink.stage import PacketStage, SinkStage
from daemon.sink.storage import Storage

log = logging.getLogger(__name__)

_LIVE_INBOX = 2  # frames of a live stream that may wait for inference: what waits grows old
_LIVE_DEPTH = 8  # frames of a live stream that may wait for a sink


@dataclass(frozen=True)
class Pipeline:
    """Every stage, each with a ``run`` (inference: two) that a thread is to be given.

    ``captures`` goes by stream; ``sinks`` by names such as ``record:gate``.
    """

    captures: Mapping[str, CaptureStage]
    inference: InferenceStage
    sinks: Mapping[str, SinkStage]


def make_lane(stream: StreamConfig, sizes: Sizes, ready: threading.Condition) -> Lane:
    """Return the lane of ``stream``, announcing its frames on ``ready``."""
    sinks = {StageName.RECORD: stream.record.when, StageName.EVENTS: stream.events.when}
    live = stream.policy == "live"
    return Lane(
        stream.name,
        Backpressure.DROP_OLDEST if live else Backpressure.BLOCK,
        depth=_LIVE_DEPTH if live else sizes.lossless_depth,
        inbox=_LIVE_INBOX,
        ready=ready,
        sinks=[sink for sink, when in sinks.items() if when != "never"],
        max_frame_age=stream.max_frame_age if live else None,
        copies=stream.copies,
    )


@dataclass(frozen=True)
class Surroundings:
    """What the stages are connected to; `build` says how."""

    lanes: Sequence[Lane]
    ready: threading.Condition
    storage: Storage
    meters: Meters
    beat: Callable[[], None]
    stop: threading.Event


def build(config: Config, detector: Detector, sizes: Sizes, around: Surroundings) -> Pipeline:
    """Make the stages of every stream and the inference that they share.

    Raises
    ------
    ConfigError
        When a stream asks for a label that the model hasn't.
    """
    labels = detector.manifest.labels
    streams = [(config.streams[lane.name], lane) for lane in around.lanes]
    wanted = {
        stream.name: resolve(stream.name, labels, stream.detect.confidence, stream.detect.labels)
        for stream, _ in streams
    }
    for lane in around.lanes:
        lane.status.detections.update(dict.fromkeys(wanted[lane.name].counted_as, 0))
    sinks: dict[str, SinkStage] = {}
    for stream, lane in streams:
        sinks |= make_sinks(stream, lane, around.storage, labels, around.meters)
    return Pipeline(
        captures={
            stream.name: CaptureStage(stream, lane, around.meters, around.stop, _opener(stream))
            for stream, lane in streams
        },
        inference=InferenceStage(
            detector,
            around.lanes,
            around.ready,
            wanted,
            Batching(sizes.max_batch, config.batching.max_delay),
            around.meters,
            around.beat,
            sizes.slots,
        ),
        sinks=sinks,
    )


def _opener(stream: StreamConfig) -> Opener:
    decoding = Decoding(stream.decode, stream.device, stream.name)
    return partial(open_source, decoding=decoding, packets=stream.copies)


def make_sinks(
    stream: StreamConfig, lane: Lane, storage: Storage, labels: Sequence[str], meters: Meters
) -> Mapping[str, SinkStage]:
    """Return the sinks that ``lane`` has outlets for."""
    stages: dict[str, SinkStage] = {}
    if StageName.RECORD in lane.outlets:
        stages[f"record:{stream.name}"] = _make_recorder(stream, lane, storage, labels, meters)
    if StageName.EVENTS in lane.outlets:
        log = EventLog(stream.name, stream.events, storage, labels)
        stages[f"events:{stream.name}"] = SinkStage(lane, StageName.EVENTS, log)
    return stages


def _make_recorder(
    stream: StreamConfig, lane: Lane, storage: Storage, labels: Sequence[str], meters: Meters
) -> SinkStage:
    name, record, status, from_file = stream.name, stream.record, lane.status, stream.source.is_file
    if lane.packets is not None:
        copier = PacketRecorder(name, record, storage, status, from_file=from_file)
        return PacketStage(lane, StageName.RECORD, copier, lane.packets)
    recorder = Recorder(name, record, storage, labels, status, meters, from_file=from_file)
    return SinkStage(lane, StageName.RECORD, recorder)
