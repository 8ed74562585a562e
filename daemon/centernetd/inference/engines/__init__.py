"""Engines: interchangeable backends that run a prepared model."""

from centernetd.inference.engines.choose import Choice, choose_backend, open_onnx, open_plan
from centernetd.inference.engines.engine import Engine, EngineInfo, Slot, Tensors

__all__ = [
    "Choice",
    "Engine",
    "EngineInfo",
    "Slot",
    "Tensors",
    "choose_backend",
    "open_onnx",
    "open_plan",
]
