"""Where results go: annotated recordings and event logs."""

from daemon.sink.events import EventLog
from daemon.sink.record import Recorder
from daemon.sink.stage import FrameLostError, Sink, SinkStage
from daemon.sink.storage import Storage

__all__ = ["EventLog", "FrameLostError", "Recorder", "Sink", "SinkStage", "Storage"]
