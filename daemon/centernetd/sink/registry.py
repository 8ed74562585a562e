"""The sinks that a stream may have: a new one is a file in this folder and an entry in `SINKS`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from centernetd.config import StreamConfig
from centernetd.flow import Lane, StageName
from centernetd.sink.events import EventLog
from centernetd.sink.recorder import PacketRecorder, Recorder
from centernetd.sink.stage import PacketStage, SinkContext, SinkStage


class Registration(NamedTuple):
    """Which streams have a sink, and how its stage is made."""

    enabled: Callable[[StreamConfig], bool]
    make: Callable[[Lane, SinkContext], SinkStage]


def _recorder(lane: Lane, context: SinkContext) -> SinkStage:
    if lane.packets is not None:
        return PacketStage(lane, StageName.RECORD, PacketRecorder(context), lane.packets)
    return SinkStage(lane, StageName.RECORD, Recorder(context))


def _event_log(lane: Lane, context: SinkContext) -> SinkStage:
    return SinkStage(lane, StageName.EVENTS, EventLog(context))


SINKS: Mapping[StageName, Registration] = {
    StageName.RECORD: Registration(lambda stream: stream.record.when != "never", _recorder),
    StageName.EVENTS: Registration(lambda stream: stream.events.when != "never", _event_log),
}
"""Receipts count a stream's first sink."""
