"""GPU devices: presence, selection and properties."""

from pathlib import Path

from centernetd.cuda.calls import call, runtime
from centernetd.errors import EngineError

# These exist if the kernel driver of a discrete card or of a Jetson is loaded.
NVIDIA_NODES = (Path("/dev/nvidiactl"), Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"))


def has_nvidia_device() -> bool:
    """Return whether an NVIDIA driver has created a device node."""
    return any(node.exists() for node in NVIDIA_NODES)


class Device:
    """GPU ``index``, as numbered in this process."""

    def __init__(self, index: int) -> None:
        """Find the GPU.

        Raises
        ------
        EngineError
            When the GPU, its driver or cuda-python is missing.
        """
        count = call("cudaGetDeviceCount")
        if index >= count:
            raise EngineError(
                f"engine.devices: there is no GPU {index}; this process sees {count}, "
                "counted from 0"
            )
        self.index = index
        self.use()
        # FFmpeg's decoders can share our context only if threads waiting for the GPU sleep.
        call("cudaSetDeviceFlags", runtime().cudaDeviceScheduleBlockingSync)

    def use(self) -> None:
        """Make this the device of the calling thread; cheap enough to call every time."""
        call("cudaSetDevice", self.index)

    @property
    def name(self) -> str:
        """NVIDIA's name of the GPU."""
        name = call("cudaGetDeviceProperties", self.index).name
        return (name.decode(errors="replace") if isinstance(name, bytes) else name).rstrip("\0")

    @property
    def compute_capability(self) -> tuple[int, int]:
        """The version of the GPU's instruction set: (9, 0) for Hopper."""
        attributes = runtime().cudaDeviceAttr
        major = call(
            "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, self.index
        )
        minor = call(
            "cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, self.index
        )
        return int(major), int(minor)

    def memory(self) -> tuple[int, int]:
        """Return the bytes (free, total) of this GPU's memory."""
        self.use()
        free, total = call("cudaMemGetInfo")
        return free, total
