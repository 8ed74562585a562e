"""Keeping pictures back that were decoded from damaged data."""

from av.video.frame import PictureType, VideoFrame

# Decoders that give out nothing before a key frame, or the point at which an encoder that sends
# none, but refreshes its pictures bit by bit, announces that they are whole.
_CAREFUL = frozenset({"h264", "hevc"})
# That of H.265 waits for ever where this isn't announced, as x265 and others don't.
_TOO_CAREFUL = "hevc"
_REFRESHED = 2  # recovery points: from one to the next an encoder refreshes the whole picture


def is_key(frame: VideoFrame) -> bool:
    """Return whether ``frame`` was coded by itself."""
    return bool(frame.key_frame or frame.pict_type == PictureType.I)


class DamageGate:
    """Lets pictures through from a whole one on, until the next damage.

    What was lost of one picture shows in all that are predicted from it, and a decoder only
    marks the first. Whole are a key frame, which needs none before it; a picture after two
    recovery points, between which an encoder without key frames refreshes all of it; and one
    that follows ``patience`` seconds without damage: errors fade, and key frames may be rare.
    """

    def __init__(self, codec: str, patience: float, now: float) -> None:
        """Begin at the monotonic time ``now`` with what a new decoder gives."""
        self.held_back = 0
        """Pictures that no key frame or recovery point preceded, though they aren't marked."""
        self._codec = codec
        self._open = codec in _CAREFUL
        self._patience = patience
        self._damaged_at = now
        self._recovery_points = 0
        self._decoder_gives = False

    def shut(self, now: float) -> None:
        """Wait for a whole picture, as there was damage at the monotonic time ``now``."""
        self._open = False
        self._damaged_at = now
        self._recovery_points = 0

    def reach_recovery_point(self) -> None:
        """Note that an encoder begins a refresh, or sends a key frame."""
        self._recovery_points += 1

    def overrules_decoder(self, now: float) -> bool:
        """Return whether to ask the decoder for what it holds back; it marks all of that."""
        waited = now - self._damaged_at >= self._patience
        return waited and self._codec == _TOO_CAREFUL and not self._decoder_gives

    def admits(self, frame: VideoFrame, now: float) -> bool:
        """Return whether ``frame`` is whole and so is everything that it was predicted from."""
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
