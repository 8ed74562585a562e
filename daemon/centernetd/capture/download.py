"""Copying pictures decoded on a GPU to host memory."""

from fractions import Fraction
from typing import cast

from av.filter import Graph
from av.video.frame import VideoFrame

from centernetd.cuda import Device, copy_rows_out


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
        self._device = Device(device)
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
        self._device.use()
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
