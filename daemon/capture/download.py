"""Pictures that a GPU decoded, fetched into memory."""

from av.video.frame import VideoFrame

from daemon.cuda import Device, copy_rows_out


class Download:
    """Fetches the pictures of one source.

    PyAV can do that too, but holds Python's lock meanwhile, so that all other threads stand still.
    """

    def __init__(self, device: int) -> None:
        """Fetch from the GPU number ``device``.

        Raises
        ------
        EngineError
            When there is no such GPU, no driver or no cuda-python.
        """
        self._device = Device(device)
        self._fetched: VideoFrame | None = None

    def __call__(self, frame: VideoFrame, pixel_format: str) -> VideoFrame:
        """Return ``frame``, in memory; what was returned before is overwritten.

        ``pixel_format`` is what it has on the GPU, as FFmpeg names it.

        Raises
        ------
        CudaError
            When the GPU fails.
        """
        fetched = self._place(frame.width, frame.height, pixel_format)
        self._device.use()
        for here, there in zip(fetched.planes, frame.planes, strict=True):
            copy_rows_out(
                here.buffer_ptr, here.line_size, there.buffer_ptr, there.line_size, here.height
            )
        fetched.colorspace, fetched.color_range = frame.colorspace, frame.color_range
        return fetched

    def _place(self, width: int, height: int, pixel_format: str) -> VideoFrame:
        """Return a picture of this size and format, the last one if it fits."""
        last = self._fetched
        if last is None or (last.width, last.height, last.format.name) != (
            width,
            height,
            pixel_format,
        ):
            last = self._fetched = VideoFrame(width, height, pixel_format)
        return last
