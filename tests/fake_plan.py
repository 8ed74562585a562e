"""The plans of TensorRT's double: JSON with the content of a real plan."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from math import prod
from typing import Any

import numpy as np

MAGIC = b"a plan of the double\n"


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(Enum):
    DEVICE = 0
    HOST = 1


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5


_NPTYPES: dict[DataType, type[np.generic]] = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.UINT8: np.uint8,
    DataType.INT32: np.int32,
}


def nptype(trt_type: DataType) -> type[np.generic]:
    return _NPTYPES[trt_type]


def make_plan(
    flavour: str,
    device: str,
    program: str,
    tensors: Mapping[str, tuple[str, str, Sequence[int]]],
    profile: tuple[int, int, int],
    device_memory: int = 1 << 20,
) -> bytes:
    """Return a plan for the double of ``flavour``.

    ``tensors`` gives each name's mode, type and shape, as the enums above call them.
    """
    content = {
        "flavour": flavour,
        "device": device,
        "program": program,
        "tensors": tensors,
        "profile": profile,
        "device_memory": device_memory,
    }
    return MAGIC + json.dumps(content).encode()


class FakePlan:
    """The content of a plan, and the rows of memory that its tensors need."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.program: str = content["program"]
        self.device_memory: int = content["device_memory"]
        self.profile: Sequence[int] = content["profile"]
        self.tensors = {
            name: (TensorIOMode[mode], DataType[dtype], tuple(shape))
            for name, (mode, dtype, shape) in content["tensors"].items()
        }

    def bytes_of(self, name: str, batch: int) -> int:
        _, dtype, (_, *row) = self.tensors[name]
        return int(batch * prod(row) * np.dtype(nptype(dtype)).itemsize)
