"""The GPU as the hardware of TensorRT's double: CUDA graphs of a PyTorch network."""

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from cuda.bindings import driver, runtime

from centernetd.inference.engines.gpu import GpuEngine
from centernetd.inference.engines.trt import open_tensorrt
from tests import fake_plan, fake_tensorrt
from tests.gpu.network import TOP_K, Prepared

SIZE = (512, 512)
FLAVOUR = fake_tensorrt.FLAVOURS[2]

_PTX = b"""
.version 7.8
.target sm_80
.address_size 64
.visible .entry crash()
{
    .reg .u64 %a;
    .reg .u32 %v;
    mov.u64 %a, 16;
    mov.u32 %v, 1;
    st.global.u32 [%a], %v;
    ret;
}
"""


class _Memory:
    """Device memory that is somebody else's, as PyTorch takes it."""

    def __init__(self, address: int, shape: tuple[int, ...], typestr: str) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "typestr": typestr,
            "version": 3,
        }


class TorchHardware:
    """Replays graphs of ``network``, captured once for each batch size and set of addresses.

    Launched one by one, the network's kernels would be the bottleneck. A graph can't be launched
    into a capture: there the kernels are.
    """

    def __init__(self, network: Prepared) -> None:
        self.name = torch.cuda.get_device_name()
        self.captured = 0
        self._network = network
        self._pool = torch.cuda.graph_pool_handle()
        self._captured_in = torch.cuda.MemPool()  # of graphs that others capture
        self._runs: dict[tuple[int, ...], _Run] = {}

    def device_bytes_from(self, address: int) -> int:
        status, base, size = driver.cuMemGetAddressRange(address)
        return 0 if status else int(base) + size - address

    def reserve(self, nbytes: int) -> object | None:
        try:
            memory: object = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            return None
        return memory

    def is_capturing(self, cuda_stream: int) -> bool:
        status, state = runtime.cudaStreamIsCapturing(cuda_stream)
        assert not status
        return bool(state == runtime.cudaStreamCaptureStatus.cudaStreamCaptureStatusActive)

    def execute(
        self,
        program: str,
        batch: int,
        addresses: Mapping[str, int],
        cuda_stream: int,
        check: Callable[[], None],
    ) -> bool:
        run = self._run(batch, addresses)
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.ExternalStream(cuda_stream)):
            if self.is_capturing(cuda_stream):
                with torch.cuda.use_mem_pool(self._captured_in):
                    run.detections.copy_(self._network(run.frames))
            else:
                run.graph.replay()
        return True

    def graph(self, batch: int, addresses: Mapping[str, int]) -> torch.cuda.CUDAGraph:
        """Return the graph that runs the network from and to the given device memory."""
        return self._run(batch, addresses).graph

    def _run(self, batch: int, addresses: Mapping[str, int]) -> "_Run":
        key = (batch, addresses["frames"], addresses["detections"])
        if key not in self._runs:
            self._runs[key] = self._capture(batch, addresses)
        return self._runs[key]

    def _capture(self, batch: int, addresses: Mapping[str, int]) -> "_Run":
        rows = _Memory(addresses["frames"], (batch, *SIZE, 3), "|u1")
        found = _Memory(addresses["detections"], (batch, TOP_K, 6), "<f4")
        frames = torch.as_tensor(rows, device="cuda")
        detections = torch.as_tensor(found, device="cuda")
        side = torch.cuda.Stream()
        with torch.inference_mode():
            with torch.cuda.stream(side):
                self._network(frames)  # picks its kernels, which can't be done in a capture
            side.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=side, capture_error_mode="thread_local"
            ):
                detections.copy_(self._network(frames))
        self.captured += 1
        return _Run(graph, frames, detections)


class _Run(NamedTuple):
    """The graph of one batch size, from and to device memory of somebody else's."""

    graph: torch.cuda.CUDAGraph
    frames: torch.Tensor
    detections: torch.Tensor


def plan(hardware: TorchHardware, largest: int) -> bytes:
    """Return the double's plan of the network."""
    tensors = {
        "frames": ("INPUT", "UINT8", (-1, *SIZE, 3)),
        "detections": ("OUTPUT", "FLOAT", (-1, TOP_K, 6)),
    }
    profile = (1, largest, largest)
    return fake_plan.make_plan(FLAVOUR, hardware.name, "centernet", tensors, profile)


def open_double(folder: Path, hardware: TorchHardware, largest: int) -> GpuEngine:
    """Return the TensorRT engine over the double."""
    verified = fake_tensorrt.plan_file(folder / "centernet.plan", plan(hardware, largest))
    return open_tensorrt(verified, fake_tensorrt.bind(FLAVOUR, hardware), 0, largest)


def crash(cuda_stream: int) -> None:
    """Enqueue a kernel that writes where there is no memory: error 700, which stays."""
    source = ctypes.create_string_buffer(_PTX)
    status, module = driver.cuModuleLoadData(ctypes.addressof(source))
    assert not status, status
    status, kernel = driver.cuModuleGetFunction(module, b"crash")
    assert not status, status
    (status,) = driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, cuda_stream, 0, 0)
    assert not status, status
