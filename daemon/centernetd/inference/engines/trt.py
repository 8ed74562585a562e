"""TensorRT, and TensorRT-RTX, which has the same interface."""

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from centernetd.cuda import OUT_OF_MEMORY, CudaError, CudaStream, Device, DeviceBuffer
from centernetd.errors import CenternetdError, EngineError, ModelError
from centernetd.inference.engines.engine import EngineInfo
from centernetd.inference.engines.gpu import GpuEngine, GpuModel, Tensor, batch_sizes
from centernetd.model import contract, sealed
from centernetd.plan import Binding, PlanFile, shared_logger, trust
from centernetd.plan.binding import FULL, RTX

log = logging.getLogger(__name__)

_DYNAMIC = -1


def installed_flavour() -> str | None:
    """Return the name of the installed TensorRT module, or None, without importing it."""
    return next((name for name in (FULL, RTX) if importlib.util.find_spec(name)), None)


def open_tensorrt(plan: PlanFile, binding: Binding, index: int, max_batch: int) -> GpuEngine:
    """Return an engine that runs the verified ``plan`` on GPU ``index``.

    Raises
    ------
    EngineError
        When the GPU is missing or lacks memory, or TensorRT rejects the plan.
    ModelError
        When the plan is not one of a prepared model, or was built for smaller batches.
    """
    return GpuEngine(
        index,
        max_batch,
        lambda device, cuda_stream: TensorRtModel(plan, binding, device, cuda_stream, max_batch),
    )


class TensorRtModel(GpuModel):
    """A deserialised plan.

    Its execution contexts are created by the first thread to launch, and used by that thread
    only, because a context is not thread-safe. A graph captured from a context is valid as long
    as the context's shape stays the same, so TensorRT has one for each size of batch, all in the
    same scratch memory; TensorRT-RTX has one, with which it captures graphs itself.
    """

    def __init__(
        self,
        plan: PlanFile,
        binding: Binding,
        device: Device,
        cuda_stream: CudaStream,
        max_batch: int,
    ) -> None:
        """Load ``plan``, to run on ``cuda_stream``; raises as `open_tensorrt` does."""
        self._plan = plan.path
        self._device = device
        self._cuda_stream = cuda_stream
        self._strategies = binding.trt.ExecutionContextAllocationStrategy
        self._logger = shared_logger(binding.trt)
        self._runtime = binding.trt.Runtime(self._logger)
        self._engine = self._deserialise(binding, plan.content)
        self.input, *self.outputs = _tensors(binding.trt, self._engine, plan.path)
        self.sizes = batch_sizes(max_batch)
        _check_profile(self._engine, plan.path, max_batch)
        backend = binding.flavour.replace("_", "-")
        self.info = EngineInfo(backend, plan.manifest.precision, device.name)
        self.capturable = binding.flavour == FULL
        self._cache = RuntimeCache(plan.path)
        self._scratch: DeviceBuffer | None = None
        self._contexts: dict[int, Any] = {}

    def launch(self, batch: int, addresses: Mapping[str, int], *, captured: bool = False) -> None:
        """Enqueue one run on ``batch`` rows, the same whether it is ``captured``.

        Raises
        ------
        EngineError
            When TensorRT rejects the run, or the plan has steps that can't be captured.
        """
        key = batch if self.capturable else 0
        if key not in self._contexts:
            self._contexts[key] = self._make_context()
        context = self._contexts[key]
        shape = (batch, *self.input.shape)
        self._require(context.set_input_shape(self.input.name, shape), "set_input_shape")
        for name, address in addresses.items():
            self._require(context.set_tensor_address(name, address), "set_tensor_address")
        self._require(context.execute_async_v3(self._cuda_stream.address), "execute_async_v3")

    def rehearse(self, batch: int, addresses: Mapping[str, int]) -> None:
        """Run it: TensorRT updates its context with the first run of a shape.

        Raises
        ------
        EngineError
            As for `launch`.
        """
        self.launch(batch, addresses)

    def prepare(self, batch: int, cuda_stream: CudaStream) -> None:
        """Do nothing: a plan is ready for all sizes."""

    def close(self) -> None:
        """Free the contexts and the engine, and store the kernels compiled by TensorRT-RTX."""
        if self._contexts:
            self._cache.save()
        self._contexts = {}
        self._engine = self._runtime = None
        if self._scratch is not None:
            self._scratch.close()

    def _deserialise(self, binding: Binding, content: bytes) -> Any:  # noqa: ANN401 - no types
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            major, minor = self._device.compute_capability
            raise EngineError(
                f"{self._plan}: {binding} rejects this plan on "
                f"{self._device.name} (compute capability {major}.{minor}): it was built for "
                f"another version or GPU{self._because()}; build it here with "
                "`centernetd build`"
            )
        return engine

    def _make_context(self) -> Any:  # noqa: ANN401 - TensorRT has no types
        context, size = None, self._engine.device_memory_size_v2
        if not self.capturable:
            context = self._cache.create_context(self._engine)
        elif self._allocate(size):
            context = self._engine.create_execution_context(self._strategies.USER_MANAGED)
        if context is None:
            free, _ = self._device.memory()
            raise EngineError(
                f"GPU memory is short: {self._plan.name} needs "
                f"{size / 1e6:,.1f} MB to run, {free / 1e6:,.1f} MB "
                f"are free{self._because()}; lower batching.max_size"
            )
        if self._scratch is not None:
            context.set_device_memory(self._scratch.address, self._scratch.nbytes)
        return context

    def _allocate(self, size: int) -> bool:
        """Allocate the contexts' scratch memory, once; return False when memory is short."""
        try:
            self._scratch = self._scratch or DeviceBuffer(max(size, 1))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
        return self._scratch is not None

    def _because(self) -> str:
        error = self._logger.last_error()
        return f" ({error})" if error else ""

    def _require(self, succeeded: bool, name: str) -> None:
        if not succeeded:
            raise EngineError(f"TensorRT failed in {name}{self._because()}")


class RuntimeCache:
    """The kernels that TensorRT-RTX compiled for one plan, stored next to it.

    Without the cache, the first run of each shape compiles again, which takes seconds.
    """

    def __init__(self, plan: Path) -> None:
        self._path = plan.with_suffix(".runtime-cache")
        self._cache: Any = None

    def create_context(self, engine: Any) -> Any:  # noqa: ANN401 - TensorRT has no types
        """Return a context of ``engine`` that uses the cache; None if TensorRT-RTX fails.

        It captures and launches CUDA graphs by itself, from release 1.2.
        """
        make_config = getattr(engine, "create_runtime_config", None)
        config: Any = make_config and make_config()
        if not hasattr(config, "create_runtime_cache"):
            return engine.create_execution_context()
        self._cache = config.create_runtime_cache()
        self._load()
        config.set_runtime_cache(self._cache)
        if hasattr(config, "cuda_graph_strategy"):
            strategies = type(config.cuda_graph_strategy)
            config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(config)

    def save(self) -> None:
        """Store the compiled kernels; a failure only costs time at the next start."""
        if self._cache is None:
            return
        try:
            sealed.write(self._path, bytes(self._cache.serialize()), {})
        except CenternetdError as error:
            log.warning("can't store the compiled kernels: %s", error)

    def _load(self) -> None:
        try:
            content, _ = sealed.read(self._path, trust.refuse_foreign_file)
        except CenternetdError as error:
            log.info("not using the kernels compiled before: %s: %s", self._path, error)
            return
        if not self._cache.deserialize(content):
            log.info("%s is from another version and will be replaced", self._path)


def _tensors(trt: ModuleType, engine: Any, plan: Path) -> Sequence[Tensor]:  # noqa: ANN401
    """Return the input followed by the outputs; raise ModelError unless they match the contract."""
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        batch, *shape = engine.get_tensor_shape(name)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        on_device = engine.get_tensor_location(name) == trt.TensorLocation.DEVICE
        if batch != _DYNAMIC or not all(side > 0 for side in shape) or not on_device:
            raise ModelError(
                f"{plan}: its tensor {name} has no batch dimension, or another one that is dynamic"
            )
        found[name] = Tensor(name, tuple(shape), dtype)
    names = (contract.INPUT, contract.DETECTIONS, contract.KEYPOINTS)
    tensors = [found.pop(name) for name in names if name in found]
    expected = [np.uint8, *[np.float32] * (len(tensors) - 1)]
    if found or len(tensors) < 2 or [tensor.dtype for tensor in tensors] != expected:
        raise ModelError(f"{plan}: not the plan of a prepared model: run `centernetd build` on one")
    return tensors


def _check_profile(engine: Any, plan: Path, max_batch: int) -> None:  # noqa: ANN401
    smallest, _, largest = engine.get_tensor_profile_shape(contract.INPUT, 0)
    if smallest[0] > 1 or largest[0] < max_batch:
        raise ModelError(
            f"{plan}: built for batches of {smallest[0]} to {largest[0]}, and 1 to {max_batch} are "
            "requested: set batching.max_size, or build it again"
        )
