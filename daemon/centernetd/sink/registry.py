"""The sinks that a stream may have: a new one is a file in this folder and an entry in `SINKS`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from centernetd.config import StreamConfig
from centernetd.flow import StageName
from centernetd.sink.events import EventLog
from centernetd.sink.privacy import PrivateSink
from centernetd.sink.recorder import PacketRecorder, Recorder
from centernetd.sink.stage import BatchSink, PacketSink, Sink, SinkContext

RECORD, EVENTS = StageName("record"), StageName("events")


class Registration(NamedTuple):
    """Which streams have a sink, for which of them it needs pixels, and how to make it."""

    enabled: Callable[[StreamConfig], bool]
    needs_pixels: Callable[[StreamConfig], bool]
    make: Callable[[SinkContext], Sink | BatchSink | PacketSink]


def _recorder(context: SinkContext) -> Sink | PacketSink:
    if context.stream.copies:
        return PacketRecorder(context)
    return PrivateSink(context, Recorder(context))


SINKS: Mapping[StageName, Registration] = {
    RECORD: Registration(
        enabled=lambda stream: stream.record.when != "never",
        needs_pixels=lambda stream: not stream.copies,
        make=_recorder,
    ),
    EVENTS: Registration(
        enabled=lambda stream: stream.logs,
        needs_pixels=lambda _: False,
        make=EventLog,
    ),
}
"""In this order: a stream's receipt counts the frames of its first sink."""
