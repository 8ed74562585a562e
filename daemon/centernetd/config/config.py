"""The configuration as used by the program: frozen and fully resolved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from centernetd.config.sections import (
    BatchingConfig,
    EngineConfig,
    LoggingConfig,
    MetricsConfig,
    ModelConfig,
    StorageConfig,
)
from centernetd.config.stream import CAUTIOUS, StreamConfig


@dataclass(frozen=True)
class Config:
    """The complete configuration of the daemon.

    ``base_dir`` is the folder of the file, to which its input paths were relative; here they are
    absolute. ``sha256`` covers the file and everything in ``streams.d``.
    """

    streams: Mapping[str, StreamConfig]
    base_dir: Path
    state_dir: Path
    cache_dir: Path
    models: Mapping[str, ModelConfig] = field(
        default_factory=lambda: MappingProxyType({"default": ModelConfig()})
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    sha256: str = ""

    @property
    def storage_root(self) -> Path:
        """The absolute path of the folder under which everything is written."""
        return self.state_dir / self.storage.root

    def secrets(self) -> frozenset[str]:
        """Return every string that must never be printed, raw and percent-encoded."""
        return frozenset().union(*(stream.source.secrets() for stream in self.streams.values()))

    def notices(self) -> tuple[str, ...]:
        """Return a sentence for each blur that may miss much."""
        return tuple(
            f"streams.{name}.blur.confidence is {stream.blur.confidence:g}: above {CAUTIOUS:g}, "
            "more of what should be covered stays open"
            for name, stream in self.streams.items()
            if stream.blur and stream.blur.confidence > CAUTIOUS
        )
