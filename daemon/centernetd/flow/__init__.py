"""The types that carry frames from capture to the sinks, and the counters along the way."""

from centernetd.flow.arrivals import Arrivals
from centernetd.flow.channel import Channel, ChannelClosedError
from centernetd.flow.frame import (
    EVERYTHING,
    UPRIGHT,
    Box,
    Coding,
    DetectionClass,
    Detections,
    Filter,
    Frame,
    LineCount,
    Orientation,
    Packet,
    Result,
    Scene,
    Thresholds,
    TrackEvent,
    ZoneCount,
)
from centernetd.flow.ids import Uuid7, uuid7
from centernetd.flow.image import HostImage, Image, NoPixels
from centernetd.flow.inbox import Inbox, Ticket
from centernetd.flow.incident import Incident
from centernetd.flow.lane import Backpressure, Budget, Lane
from centernetd.flow.ledger import CAPTURE, INFERENCE, Ledger, Reason, StageName
from centernetd.flow.status import Meters, StorageStatus, StreamState, StreamStatus
from centernetd.flow.worker import Runner, WakeUp, Worker

__all__ = [
    "CAPTURE",
    "EVERYTHING",
    "INFERENCE",
    "UPRIGHT",
    "Arrivals",
    "Backpressure",
    "Box",
    "Budget",
    "Channel",
    "ChannelClosedError",
    "Coding",
    "DetectionClass",
    "Detections",
    "Filter",
    "Frame",
    "HostImage",
    "Image",
    "Inbox",
    "Incident",
    "Lane",
    "Ledger",
    "LineCount",
    "Meters",
    "NoPixels",
    "Orientation",
    "Packet",
    "Reason",
    "Result",
    "Runner",
    "Scene",
    "StageName",
    "StorageStatus",
    "StreamState",
    "StreamStatus",
    "Thresholds",
    "Ticket",
    "TrackEvent",
    "Uuid7",
    "WakeUp",
    "Worker",
    "ZoneCount",
    "uuid7",
]
