"""The configuration: the only package that knows YAML and pydantic."""

from centernetd.config.adhoc import from_sources
from centernetd.config.config import Config, StreamConfig
from centernetd.config.loader import load
from centernetd.config.peek import inline_secrets, listen_of, shareable, storage_root_of
from centernetd.config.resolve import cache_dir, state_dir
from centernetd.config.secret import Redactor, SourceUri, redact, shown
from centernetd.config.sections import (
    BatchingConfig,
    BlurConfig,
    DetectConfig,
    EngineConfig,
    EventsConfig,
    LineConfig,
    LoggingConfig,
    MetricsConfig,
    ModelConfig,
    Policy,
    PrivacyConfig,
    RecordConfig,
    StorageConfig,
    TrackConfig,
    ZoneConfig,
)
from centernetd.config.template import expand
from centernetd.config.values import Address

__all__ = [
    "Address",
    "BatchingConfig",
    "BlurConfig",
    "Config",
    "DetectConfig",
    "EngineConfig",
    "EventsConfig",
    "LineConfig",
    "LoggingConfig",
    "MetricsConfig",
    "ModelConfig",
    "Policy",
    "PrivacyConfig",
    "RecordConfig",
    "Redactor",
    "SourceUri",
    "StorageConfig",
    "StreamConfig",
    "TrackConfig",
    "ZoneConfig",
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
