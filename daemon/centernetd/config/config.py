"""The configuration as the program uses it: frozen, with nothing left to decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from centernetd.config import future
from centernetd.config.sections import (
    BatchingConfig,
    EngineConfig,
    LoggingConfig,
    MetricsConfig,
    ModelConfig,
    PageConfig,
    StorageConfig,
)
from centernetd.config.stream import CAUTIOUS, StreamConfig


@dataclass(frozen=True)
class Config:
    """Everything the daemon was told.

    ``base_dir`` is the folder of the file, to which its input paths were relative (they are
    absolute here); ``sha256`` is that of the file, or of the file and all of ``streams.d``.
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
    page: PageConfig = field(default_factory=PageConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    sha256: str = ""

    @property
    def storage_root(self) -> Path:
        """The folder under which everything is written, absolute."""
        return self.state_dir / self.storage.root

    def secrets(self) -> frozenset[str]:
        """Return every string that must never be printed, raw and percent-encoded."""
        return frozenset().union(*(stream.source.secrets() for stream in self.streams.values()))

    def notices(self) -> tuple[str, ...]:
        """Return a sentence for each key that has no effect yet, and each that hides too little."""
        hides_little = (
            f"streams.{name}.blur.confidence is {stream.blur.confidence:g}: above {CAUTIOUS:g}, "
            "more of what should be covered stays open"
            for name, stream in self.streams.items()
            if stream.blur and stream.blur.confidence > CAUTIOUS
        )
        return (*future.notices(self), *hides_little)
