"""Whether this machine has a GPU that CUDA programs can use."""

from pathlib import Path

import pytest

from centernetd.cuda import Device
from centernetd.errors import EngineError


def _why_none() -> str:
    try:
        Device(0)
    except EngineError as error:
        return str(error)
    return ""


def entries(folder: str) -> int:
    """Count what is in a folder of /proc."""
    return sum(1 for _ in Path(folder).iterdir())


REASON = _why_none()

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # PyTorch's are not ours
    pytest.mark.skipif(REASON != "", reason=REASON),
]
