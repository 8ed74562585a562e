"""From decoded frames, in host or GPU memory, to upright BGR, identical for all decoders."""

import threading
from fractions import Fraction
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from av.filter import Graph
from av.sidedata import sidedata
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from centernetd.cuda import (
    Device,
    Plane,
    Surface,
    SurfaceFormat,
    SurfaceSource,
    copy_rows_out,
)
from centernetd.flow import UPRIGHT, HostImage, Image, Orientation

# A GPU interleaves the chroma planes. FFmpeg converts that to BGR by other code, whose colours
# differ by up to 39 levels at edges; separating the planes first is lossless and cheap.
# BGR input would not be copied but stay in the decoder's memory, which may be stored bottom-up
# and from which the next picture may be predicted.
_VIA = {
    "nv12": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p016le": "yuv420p12le",
    "p210le": "yuv422p10le",
    "bgr24": "rgb24",
}
# Matrix numbers of ITU-T H.273, 8.3. FFmpeg converts from these and rejects the others.
_BT709, _BT601, _BT2020, _BT2020_CONSTANT = 1, 6, 9, 10
_CONVERTIBLE = frozenset({_BT709, 4, 5, _BT601, 7, _BT2020})


# Formats of pictures that may stay on the GPU, with samples of 8 and of 16 bits.
_NARROW, _WIDE = frozenset({"nv12"}), frozenset({"p010le", "p016le"})
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


class ToImage:
    """Makes the pictures of one source: upright, in host memory or where the GPU decoded them."""

    def __init__(self, device: int, *, surfaces: bool) -> None:
        """Use GPU ``device``; with ``surfaces``, pictures stay on it if their format allows."""
        self._device = device
        self._surfaces = surfaces
        self._to_bgr = ToBgr()
        self._download: Download | None = None
        self._seen: tuple[object, ...] | None = None  # what `_decoded` was made for
        self._decoded: _Decoded | None = None

    def __call__(
        self,
        frame: VideoFrame,
        orientation: Orientation,
        gpu_format: str | None,
        corner: tuple[int, int] = (0, 0),
    ) -> Image:
        """Return the picture of ``frame``, to be displayed as ``orientation``.

        ``gpu_format`` is FFmpeg's name of its format on the GPU, None for a frame in host memory.
        There, the picture begins at ``corner``: that many rows and columns are to be cropped.

        Raises
        ------
        EngineError
            When the GPU fails.
        """
        if gpu_format is None:
            return HostImage(upright(self._to_bgr(frame), orientation))
        coded = frame.height, frame.width, frame.colorspace, frame.color_range
        seen, decoded = (orientation, gpu_format, corner, *coded), self._decoded
        if decoded is None or seen != self._seen:  # seldom: it is not free to make
            self._download = self._download or Download(self._device)
            decoded = _Decoded(self._download, frame, orientation, gpu_format, corner)
            self._seen, self._decoded = seen, decoded
        # Chroma lines of interlaced pictures belong to fields, which the kernel knows nothing of.
        if self._surfaces and decoded.may_stay and not frame.interlaced_frame:
            return Surface(frame, decoded)
        with decoded.fetching:
            return HostImage(decoded.fetch(frame))


class _Decoded(SurfaceSource):
    """Pictures that a GPU decoded, of one format, orientation and cropping.

    Sinks fetch the pixels of surfaces in their own threads, even while the source goes on with
    others.
    """

    def __init__(
        self,
        download: "Download",
        frame: VideoFrame,
        orientation: Orientation,
        gpu_format: str,
        corner: tuple[int, int],
    ) -> None:
        """Take pictures that are coded like ``frame``."""
        height, width = size = frame.height - corner[0], frame.width - corner[1]
        turned = (width, height) if orientation[1] else size
        wide, full_range = gpu_format in _WIDE, frame.color_range == _FULL_RANGE
        matrix = _matrix_of(frame, height)
        self.form = SurfaceFormat(turned, size, wide, matrix, full_range, orientation)
        self.device = download.device
        self.fetching = download.lock
        self.may_stay = wide or gpu_format in _NARROW
        self._download, self._format, self._corner = download, gpu_format, corner
        self._to_bgr = ToBgr()

    def planes(self, picture: VideoFrame) -> tuple[Plane, Plane]:
        """Return where a picture begins."""
        luma, chroma = picture.planes
        pitch, chroma_pitch = luma.line_size, chroma.line_size
        # Rows and columns are cropped in pairs, which share their chroma.
        top, left = self._corner
        across = left * 2 if self.form.wide else left
        return (
            Plane(luma.buffer_ptr + top * pitch + across, pitch),
            Plane(chroma.buffer_ptr + top // 2 * chroma_pitch + across, chroma_pitch),
        )

    def fetch(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Copy a picture to host memory; see `SurfaceSource`."""
        picture.colorspace = self.form.matrix
        whole = self._to_bgr(self._download(picture, self._format))
        top, left = self._corner
        return upright(whole[top:, left:], self.form.orientation)


class ToBgr:
    """Converts the frames of one source.

    It reuses its contexts: creating one costs more than converting a 720p frame.
    """

    def __init__(self) -> None:
        self._first = VideoReformatter()
        self._converting = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return ``frame`` as uint8 [height, width, 3]; rows keep FFmpeg's padding.

        The caller owns the memory. ``frame`` is tagged with the matrix that was used.
        """
        frame.colorspace = _matrix_of(frame, frame.height)
        via = _VIA.get(frame.format.name)
        if via is not None:
            frame = self._first.reformat(frame, format=via, threads=1)
        converted = self._converting.reformat(frame, format="bgr24", threads=1)
        plane = converted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
        return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def _matrix_of(frame: VideoFrame, height: int) -> int:
    tagged: int = frame.colorspace
    if tagged in _CONVERTIBLE:
        return tagged
    if tagged == _BT2020_CONSTANT:
        return _BT2020
    # Untagged high-definition video is BT.709; FFmpeg would assume BT.601.
    return _BT709 if height >= 720 else _BT601


def orientation_of(frame: VideoFrame) -> Orientation | None:
    """Return how to display ``frame``, or None if it carries no display matrix.

    A matrix other than the eight orientations is mapped to the nearest one.
    """
    # PyAV's frames and their side data form a reference cycle, collected late: pictures would
    # pile up. Reading the side data of a tiny copy avoids that.
    frame.colorspace = _matrix_of(frame, frame.height)
    tiny = frame.reformat(16, 16, "gray", interpolation=Interpolation.POINT, threads=1)
    matrix: Any = tiny.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(memoryview(matrix), np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return 0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0
    return -1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1


class Shown(NamedTuple):
    """How to display a picture: its orientation, and a pixel's width over its height.

    ``aspect`` is that of the turned picture, ``coded_aspect`` that before.
    """

    orientation: Orientation
    aspect: Fraction
    coded_aspect: Fraction


class Display:
    """How to display the frames of one source."""

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        # The pixel aspect of the container takes precedence over that of the video.
        own, aspect = self._context.sample_aspect_ratio, stream.sample_aspect_ratio
        self._container_aspect = None if aspect == own else aspect
        self._shown: Shown | None = None
        self._angle = 0  # at the last read of the orientation

    def __call__(self, frame: VideoFrame) -> Shown:
        """Return how to display ``frame``, the last decoded.

        The aspect changes with key frames only. A camera sends the orientation once for all frames
        that follow, and reading it takes a copy, on a GPU a download. There it is only read when
        the angle changes, which PyAV reports without a copy.
        """
        shown, angle, is_key = self._shown, frame.rotation, frame.key_frame
        if shown is not None and not is_key and (angle == self._angle or not angle):
            return shown
        known = None if shown is None else shown.orientation
        if known is None or angle != self._angle or frame.format.name != "cuda":
            self._angle = angle
            present = UPRIGHT if known is None or is_key else known
            known = orientation_of(frame) or present
        aspect = shown.coded_aspect if shown is not None and not is_key else self._aspect
        turned = known[0] == 0
        self._shown = shown = Shown(known, 1 / aspect if turned else aspect, aspect)
        return shown

    @property
    def _aspect(self) -> Fraction:
        return self._container_aspect or self._context.sample_aspect_ratio or Fraction(1)


def upright(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """Return ``image`` displayed as ``orientation``, reusing its memory if the shape allows."""
    a, b, c, d = orientation
    turned = cv2.transpose(image) if b else image
    across, down = a or c, b or d
    if (across, down) != (1, 1):
        # In place: allocating new memory each time would cost ten times as much as the flip.
        cv2.flip(turned, 1 if down == 1 else 0 if across == 1 else -1, turned)
    return np.asarray(turned, np.uint8)


class Download:
    """Copies the pictures of one source to host memory.

    PyAV can do that too, but holds the GIL meanwhile, which stops all other threads.
    """

    def __init__(self, device: int) -> None:
        """Copy from GPU ``device``.

        Raises
        ------
        EngineError
            When the GPU, its driver or cuda-python is missing.
        """
        self.device = Device(device)
        self.lock = threading.Lock()
        """To be held from a call until its result is used."""
        self._fetched: VideoFrame | None = None

    def __call__(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        """Return ``frame`` in host memory, overwriting the frame returned before.

        ``pixel_format`` is FFmpeg's name of its format on the GPU.

        Raises
        ------
        CudaError
            When the GPU fails.
        """
        fetched = self._place(frame, pixel_format)
        self.device.use()
        for here, there in zip(fetched.planes, frame.planes, strict=True):
            copy_rows_out(
                here.buffer_ptr, here.line_size, there.buffer_ptr, there.line_size, here.height
            )
        fetched.colorspace, fetched.color_range = frame.colorspace, frame.color_range
        return fetched

    def _place(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        """Return a frame of the size and scan of ``frame``, reusing the last one if it matches."""
        wanted = (frame.width, frame.height, pixel_format, frame.interlaced_frame)
        last = self._fetched
        if last is None or wanted != (
            last.width,
            last.height,
            last.format.name,
            last.interlaced_frame,
        ):
            last = VideoFrame(frame.width, frame.height, pixel_format)
            if frame.interlaced_frame:
                last = _of_two_fields(last)
            self._fetched = last
        return last


def _of_two_fields(frame: VideoFrame) -> VideoFrame:
    """Return ``frame`` marked as interlaced, which selects how its chroma is converted.

    PyAV can't set that flag, but a filter can, and it does not copy the pixels.
    """
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.push(frame)
    return cast("VideoFrame", graph.pull())


def _unknown(kind: type[sidedata.Type], value: object) -> sidedata.Type:
    """Create a member for side data unknown to PyAV, such as EXIF in a JPEG.

    Otherwise none of the picture's side data would be readable.
    """
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member  # type: ignore[no-any-return]


sidedata.Type._missing_ = classmethod(_unknown)  # type: ignore[assignment, method-assign]
