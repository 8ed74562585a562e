"""From what a decoder gives to BGR, the same whichever decoder gave it."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

# A GPU interleaves the chroma planes. FFmpeg converts that to BGR by other code, whose colours
# differ by up to 39 levels at edges; parting the planes first loses nothing and costs little.
_PLANAR = {
    "nv12": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p016le": "yuv420p12le",
    "p210le": "yuv422p10le",
}
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


class ToBgr:
    """Converts the frames of one source.

    It keeps its contexts: setting one up costs more than converting a 720p frame.
    """

    def __init__(self) -> None:
        self._parting = VideoReformatter()
        self._converting = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return ``frame`` as uint8 [height, width, 3]; rows keep FFmpeg's padding."""
        planar = _PLANAR.get(frame.format.name)
        if planar is not None:
            frame = self._parting.reformat(frame, format=planar, threads=1)
        # High-definition video that says nothing is BT.709; swscale would take BT.601 for it.
        untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= 720
        source = Colorspace.ITU709 if untagged_hd else None
        converted = self._converting.reformat(
            frame, format="bgr24", src_colorspace=source, threads=1
        )
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
        return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)
