"""The recorder of source packets, without decoding again or encoding."""

from collections.abc import Callable

from centernetd.config import RecordConfig
from centernetd.flow import EVERYTHING, Filter, Packet, Result, StreamStatus
from centernetd.sink.accounts import Settled
from centernetd.sink.recording import Recording
from centernetd.sink.storage import Storage


class PacketRecorder:
    """Stores the packets of one stream as received; a `stage.PacketSink`.

    A frame counts as written when every packet read before it is written. So the recording also
    contains what inference skipped, while the ledger only counts frames that were inferred.
    """

    def __init__(
        self,
        stream: str,
        config: RecordConfig,
        storage: Storage,
        status: StreamStatus,
        *,
        shows: Filter = EVERYTHING,
        from_file: bool,
    ) -> None:
        self._shows = shows
        self._recording = Recording(stream, config, storage, status, from_file=from_file)
        status.encoder = "copy"

    def wants(self, result: Result) -> bool:
        """Return True: the packets of every frame are considered."""
        return True

    def feed(self, packet: Packet) -> Settled:
        """Take a packet; see `stage.PacketSink`."""
        return self._settled_after(lambda: self._recording.add(packet))

    def write(self, result: Result) -> Settled:
        """Take a frame's detections, which decide what is kept; see `stage.Sink`."""
        frame, found = result.frame, len(self._shows(result.detections)) > 0
        return self._settled_after(
            lambda: self._recording.judge(frame.time, frame.packet, found=found)
        )

    def close(self) -> Settled:
        """Complete the file; see `stage.Sink`."""
        return self._settled_after(self._recording.close)

    def _settled_after(self, step: Callable[[], None]) -> Settled:
        try:
            step()
        except Exception:
            self._recording.abandon()
            raise
        return self._recording.settle()
