"""A strict double of TensorRT's runtime, in each of the flavours that differ.

It has the real names only (a test holds them against the packages' own), refuses what the real
one refuses by the same False or None, and raises `AssertionError` for what the real one leaves
undefined: use by a second thread, the default stream. What runs is up to the `Hardware`.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from centernetd.plan import Binding, Fingerprint, PlanFile, Profile
from tests.fake_plan import MAGIC, DataType, FakePlan, TensorIOMode, TensorLocation, nptype
from tests.manifests import plain

API = json.loads((Path(__file__).parent / "data" / "tensorrt_api.json").read_text())
FLAVOURS = [f"{flavour['module']} {flavour['version']}" for flavour in API["flavours"]]


class Hardware(Protocol):
    """What the double runs on."""

    name: str

    def device_bytes_from(self, address: int) -> int:
        """Bytes from ``address`` to the end of its device memory; 0 if it isn't any."""

    def reserve(self, nbytes: int) -> object | None:
        """Take device memory for a context; None if there is too little."""

    def execute(
        self,
        program: str,
        batch: int,
        addresses: Mapping[str, int],
        cuda_stream: int,
        check: Callable[[], None],
    ) -> bool:
        """Enqueue a run of ``program``; False if the GPU refuses. ``check`` is called with it."""

    def is_capturing(self, cuda_stream: int) -> bool:
        """Whether what is enqueued in ``cuda_stream`` becomes a graph instead."""


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaGraphStrategy(Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


_STATIC = ExecutionContextAllocationStrategy.STATIC


class ILogger:
    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


def make_tensorrt(flavour: str, hardware: Hardware) -> ModuleType:  # noqa: C901 - its classes
    """Return the module ``tensorrt`` or ``tensorrt_rtx`` of ``flavour``, one of `FLAVOURS`."""
    name, version = flavour.split()
    place = FLAVOURS.index(flavour)
    loggers: list[ILogger] = []

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            if not isinstance(logger, ILogger) or not getattr(logger, "_made", False):
                raise TypeError("a logger whose __init__ has not called its base's")
            loggers.append(logger)
            assert logger is loggers[0], "TensorRT would go on with the logger it got first"
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
            try:
                content = json.loads(bytes(serialized_engine).removeprefix(MAGIC))
                assert content["flavour"] == flavour, f"built by {content['flavour']}"
                assert content["device"] == hardware.name, f"built for {content['device']}"
            except (ValueError, AssertionError) as error:
                self.logger.log(Severity.ERROR, f"[runtime] Version tag does not match: {error}")
                return None
            return ICudaEngine(FakePlan(content), self.logger)

    class ICudaEngine:
        def __init__(self, plan: FakePlan, logger: ILogger) -> None:
            self._plan = plan
            self._logger = logger
            self.num_io_tensors = len(plan.tensors)
            self.device_memory_size_v2 = plan.device_memory

        def get_tensor_name(self, index: int) -> str:
            names: list[str] = list(self._plan.tensors)
            return names[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return self._plan.tensors[name][0]

        def get_tensor_dtype(self, name: str) -> DataType:
            return self._plan.tensors[name][1]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._plan.tensors[name][2]

        def get_tensor_location(self, name: str) -> TensorLocation:
            return TensorLocation.DEVICE

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            assert profile_index == 0
            _, *row = self._plan.tensors[name][2]
            return [(batch, *row) for batch in self._plan.profile]

        def create_runtime_config(self) -> "IRuntimeConfig":
            return IRuntimeConfig()

        def create_execution_context(
            self,
            how: "IRuntimeConfig | ExecutionContextAllocationStrategy" = _STATIC,
        ) -> "IExecutionContext | None":
            if how is ExecutionContextAllocationStrategy.USER_MANAGED:
                return IExecutionContext(self._plan, self._logger, None)
            memory = hardware.reserve(self._plan.device_memory)
            if memory is None:
                self._logger.log(Severity.ERROR, "[defaultAllocator.cpp] out of memory")
                return None
            if isinstance(how, IRuntimeConfig):
                how._compile(self._plan)
            return IExecutionContext(self._plan, self._logger, memory)

    class IRuntimeCache:
        def __init__(self) -> None:
            self._content = b""

        def serialize(self) -> bytes:
            return self._content

        def deserialize(self, blob: bytes) -> bool:
            if not blob.startswith(flavour.encode()):
                return False
            self._content = blob
            return True

    class IRuntimeConfig:
        def __init__(self) -> None:
            self._cache: IRuntimeCache | None = None
            self.cuda_graph_strategy = CudaGraphStrategy.DISABLED

        def create_runtime_cache(self) -> IRuntimeCache:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            self._cache = cache
            return True

        def _compile(self, plan: FakePlan) -> None:
            if self._cache is not None:
                self._cache._content = f"{flavour}: {plan.program}".encode()

    class IExecutionContext:
        def __init__(self, plan: FakePlan, logger: ILogger, memory: object | None) -> None:
            self._plan = plan
            self._logger = logger
            self._memory = memory
            self._thread = threading.get_ident()
            self._batch = 0
            self._ran = 0  # the last batch, which has brought the context up to date
            self._captured = False
            self._addresses: dict[str, int] = {}

        def set_device_memory(self, memory: int, size: int) -> None:
            assert hardware.device_bytes_from(memory) >= size >= self._plan.device_memory
            self._memory = memory

        def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
            self._check_thread()
            smallest, _, largest = self._plan.profile
            mode, _, (_, *row) = self._plan.tensors.get(name, (TensorIOMode.NONE, None, (0,)))
            if mode is not TensorIOMode.INPUT or list(shape[1:]) != row:
                return self._refuse(f"{name} is no input of shape {shape}")
            if not smallest <= shape[0] <= largest:
                return self._refuse(f"{name}: {shape} is outside the profile {self._plan.profile}")
            assert shape[0] == self._batch or not self._captured, "its graphs would be invalid"
            self._batch = shape[0]
            return True

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._check_thread()
            if name not in self._plan.tensors:
                return self._refuse(f"there is no tensor {name}")
            if not hardware.device_bytes_from(memory):
                return self._refuse(f"{name}: {memory:#x} is not on the device")
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            self._check_thread()
            assert stream_handle, "the default stream would add synchronisation"
            if not self._batch:
                return self._refuse("the input has no shape")
            if self._memory is None:
                return self._refuse("the context has no device memory")
            if hardware.is_capturing(stream_handle):
                if self._ran != self._batch:
                    return self._refuse("the first run of a shape can't be captured")
                self._captured = True
            for name in self._plan.tensors:
                if name not in self._addresses:
                    return self._refuse(f"{name} has no address")
                needed = self._plan.bytes_of(name, self._batch)
                if hardware.device_bytes_from(self._addresses[name]) < needed:
                    return self._refuse(f"{name} has less than {needed} bytes")
            self._ran = self._batch
            if hardware.execute(
                self._plan.program, self._batch, self._addresses, stream_handle, self._check_memory
            ):
                return True
            return self._refuse("[executionContext.cpp] the GPU refuses")

        def _check_memory(self) -> None:
            assert not isinstance(self._memory, int) or hardware.device_bytes_from(self._memory)

        def _check_thread(self) -> None:
            assert threading.get_ident() == self._thread, "an execution context in two threads"

        def _refuse(self, why: str) -> bool:
            self._logger.log(Severity.ERROR, why)
            return False

    module = ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    own = [Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig, IRuntimeCache]
    enums = (ExecutionContextAllocationStrategy, CudaGraphStrategy)
    for thing in (*own, *enums, ILogger, TensorIOMode, TensorLocation, DataType):
        if _has(thing.__name__, None, place):
            setattr(module, thing.__name__, thing)
    for thing in own:
        for attribute in [name for name in vars(thing) if not name.startswith("_")]:
            if not _has(thing.__name__, attribute, place):
                delattr(thing, attribute)
    module.nptype = nptype  # type: ignore[attr-defined]
    return module


def bind(flavour: str, hardware: Hardware) -> Binding:
    """Return the double as the one that is loaded."""
    return Binding(make_tensorrt(flavour, hardware), *flavour.split())


def plan_file(path: Path, content: bytes, precision: str = "float16") -> PlanFile:
    """Return a plan as if it had been verified; only what engines look at is true of it."""
    manifest = plain(input_size=(64, 64), top_k=10, precision=precision)
    fingerprint = Fingerprint("0" * 64, precision, Profile(1, 1, 1), "", "", None)
    return PlanFile(path, manifest, fingerprint, content)


def _has(thing: str, attribute: str | None, place: int) -> bool:
    """Whether the flavour at ``place`` has a class, or an attribute of it."""
    held = API["classes"][thing]
    found = held.values() if attribute is None else [held.get(attribute, "")]
    return any(flags[place : place + 1] == "1" for flags in found)
