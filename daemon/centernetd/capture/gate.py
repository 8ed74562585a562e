"""Holding back pictures that were decoded from damaged data."""

from av.video.frame import PictureType, VideoFrame

# Decoders that return nothing before a key frame or an announced recovery point, at which an
# encoder without key frames has refreshed the whole picture.
_CAREFUL = frozenset({"h264", "hevc"})
# The H.265 decoder waits forever if none is announced, as by x265 and others.
_TOO_CAREFUL = "hevc"
_REFRESHED = 2  # recovery points: between two of them, an encoder refreshes the whole picture


def is_key(frame: VideoFrame) -> bool:
    """Return whether ``frame`` was coded without reference to others."""
    return bool(frame.key_frame or frame.pict_type == PictureType.I)


class DamageGate:
    """Admits pictures from an intact one on, until the next damage.

    Damage to one picture spreads to all predicted from it, and a decoder only marks the first.
    These are intact: a key frame, which depends on no other; a picture after two recovery
    points, between which an encoder without key frames refreshes all of it; and one after
    ``patience`` seconds without damage, as errors fade and key frames may be rare.
    """

    def __init__(self, codec: str, patience: float, now: float) -> None:
        """Begin at the monotonic time ``now`` with the output of a new decoder."""
        self.held_back = 0
        """Pictures not marked as corrupt, but without a key frame or recovery point before them."""
        self._codec = codec
        self._open = codec in _CAREFUL
        self._patience = patience
        self._damaged_at = now
        self._recovery_points = 0
        self._decoder_gives = False

    def shut(self, now: float) -> None:
        """Hold pictures back until the next intact one; damage was at the monotonic ``now``."""
        self._open = False
        self._damaged_at = now
        self._recovery_points = 0

    def reach_recovery_point(self) -> None:
        """Record that an encoder starts a refresh or sends a key frame."""
        self._recovery_points += 1

    def overrules_decoder(self, now: float) -> bool:
        """Return whether to request what the decoder holds back; it marks all of it as corrupt."""
        waited = now - self._damaged_at >= self._patience
        return waited and self._codec == _TOO_CAREFUL and not self._decoder_gives

    def admits(self, frame: VideoFrame, now: float) -> bool:
        """Return whether ``frame`` and everything it was predicted from is intact."""
        if frame.is_corrupt and not self.overrules_decoder(now):
            self.shut(now)
            return False
        self._decoder_gives |= not frame.is_corrupt
        self._open |= (
            is_key(frame)
            or self._recovery_points >= _REFRESHED
            or now - self._damaged_at >= self._patience
        )
        self.held_back += not self._open
        return self._open
