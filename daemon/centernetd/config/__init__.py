"""The configuration: the only package that knows YAML and pydantic."""

from centernetd.config.address import Address
from centernetd.config.adhoc import from_sources
from centernetd.config.config import Config
from centernetd.config.folders import cache_dir, state_dir
from centernetd.config.loader import load
from centernetd.config.peek import inline_secrets, listen_of, shareable, storage_root_of
from centernetd.config.secret import Redactor, SourceUri, redact, shown
from centernetd.config.sections import (
    BatchingConfig,
    EngineConfig,
    LoggingConfig,
    MetricsConfig,
    ModelConfig,
    StorageConfig,
)
from centernetd.config.stream import (
    BlurConfig,
    DetectConfig,
    EventsConfig,
    Policy,
    RecordConfig,
    StreamConfig,
)
from centernetd.config.template import expand

__all__ = [
    "Address",
    "BatchingConfig",
    "BlurConfig",
    "Config",
    "DetectConfig",
    "EngineConfig",
    "EventsConfig",
    "LoggingConfig",
    "MetricsConfig",
    "ModelConfig",
    "Policy",
    "RecordConfig",
    "Redactor",
    "SourceUri",
    "StorageConfig",
    "StreamConfig",
    "cache_dir",
    "expand",
    "from_sources",
    "inline_secrets",
    "listen_of",
    "load",
    "redact",
    "shareable",
    "shown",
    "state_dir",
    "storage_root_of",
]
