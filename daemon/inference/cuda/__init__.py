"""The CUDA runtime through cuda-python, which is imported here and nowhere else.

Everything is owned by one Python object, checked at the call and closed once. Nothing here
needs a GPU, a driver or cuda-python before it is used.
"""

from daemon.inference.cuda.calls import CudaError
from daemon.inference.cuda.device import Device
from daemon.inference.cuda.memory import DeviceBuffer, PinnedBuffer, copy_async
from daemon.inference.cuda.order import Event, Stream
from daemon.inference.cuda.owned import live

__all__ = [
    "CudaError",
    "Device",
    "DeviceBuffer",
    "Event",
    "PinnedBuffer",
    "Stream",
    "copy_async",
    "live",
]
