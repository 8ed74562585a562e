"""The configuration: the only package that knows YAML and pydantic."""

from daemon.config.address import Address
from daemon.config.adhoc import from_sources
from daemon.config.config import Config
from daemon.config.folders import cache_dir, state_dir
from daemon.config.loader import load
from daemon.config.peek import inline_secrets, listen_of, shareable, storage_root_of
from daemon.config.secret import Redactor, SourceUri, redact, shown
from daemon.config.sections import (
    BatchingConfig,
    EngineConfig,
    LoggingConfig,
    MetricsConfig,
    ModelConfig,
    PageConfig,
    StorageConfig,
)
from daemon.config.stream import (
    BlurConfig,
    DetectConfig,
    EventsConfig,
    Policy,
    RecordConfig,
    StreamConfig,
)
from daemon.config.template import expand

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
    "PageConfig",
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
