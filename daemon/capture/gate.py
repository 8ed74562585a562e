"""Keeping pictures back that were decoded from damaged data."""

from av.video.frame import PictureType, VideoFrame


def is_key(frame: VideoFrame) -> bool:
    """Return whether ``frame`` was coded by itself."""
    return bool(frame.key_frame or frame.pict_type == PictureType.I)


class KeyFrameGate:
    """Lets pictures through from a key frame on, until the next damage.

    What was lost of one picture shows in all that are predicted from it, and a decoder only
    marks the first. A key frame needs none before it.
    """

    def __init__(self) -> None:
        self._open = False

    def shut(self) -> None:
        """Wait for the next key frame."""
        self._open = False

    def admits(self, frame: VideoFrame) -> bool:
        """Return whether ``frame`` is whole and so is everything that it was predicted from."""
        if frame.is_corrupt:
            self._open = False
        elif is_key(frame):
            self._open = True
        return self._open
