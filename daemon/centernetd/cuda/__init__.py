"""The CUDA runtime through cuda-python, which is only imported here.

Every resource is owned by one Python object, checked at the call and closed once. Importing
this package needs no GPU, driver or cuda-python.
"""

from centernetd.cuda.calls import OUT_OF_MEMORY, CudaError
from centernetd.cuda.device import Device, has_nvidia_device
from centernetd.cuda.graph import Graph
from centernetd.cuda.letterbox import JOB, Letterbox, describe, leave
from centernetd.cuda.memory import DeviceBuffer, PinnedBuffer, copy_async, copy_rows_out
from centernetd.cuda.owned import live
from centernetd.cuda.stream import CudaStream, Event
from centernetd.cuda.surface import Plane, Surface, SurfaceFormat, SurfaceSource

__all__ = [
    "JOB",
    "OUT_OF_MEMORY",
    "CudaError",
    "CudaStream",
    "Device",
    "DeviceBuffer",
    "Event",
    "Graph",
    "Letterbox",
    "PinnedBuffer",
    "Plane",
    "Surface",
    "SurfaceFormat",
    "SurfaceSource",
    "copy_async",
    "copy_rows_out",
    "describe",
    "has_nvidia_device",
    "leave",
    "live",
]
