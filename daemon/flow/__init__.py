"""What moves through the daemon, and what it moves through."""

from daemon.flow.bell import Bell
from daemon.flow.channel import Channel, ChannelClosedError
from daemon.flow.frame import EVERYTHING, Detections, Filter, Frame, Result
from daemon.flow.lane import Backpressure, Budget, Lane
from daemon.flow.ledger import Ledger, Reason, StageName
from daemon.flow.meters import Meters
from daemon.flow.packet import UPRIGHT, Coding, Orientation, Packet
from daemon.flow.status import StorageStatus, StreamState, StreamStatus
from daemon.flow.worker import Worker

__all__ = [
    "EVERYTHING",
    "UPRIGHT",
    "Backpressure",
    "Bell",
    "Budget",
    "Channel",
    "ChannelClosedError",
    "Coding",
    "Detections",
    "Filter",
    "Frame",
    "Lane",
    "Ledger",
    "Meters",
    "Orientation",
    "Packet",
    "Reason",
    "Result",
    "StageName",
    "StorageStatus",
    "StreamState",
    "StreamStatus",
    "Worker",
]
