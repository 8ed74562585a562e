"""Engines: interchangeable backends that run a prepared model."""

from centernetd.inference.engines.backend import Backend, choose_backend, open_onnx, open_plan
from centernetd.inference.engines.engine import Engine, EngineInfo, Slot, Tensors

__all__ = [
    "Backend",
    "Engine",
    "EngineInfo",
    "Slot",
    "Tensors",
    "choose_backend",
    "open_onnx",
    "open_plan",
]
