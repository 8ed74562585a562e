"""The configuration as used by the program, frozen and resolved, and how two of them differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from centernetd.config.secret import SourceUri
from centernetd.config.sections import (
    BatchingConfig,
    Decode,
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
    Section,
    StorageConfig,
    StreamDefaults,
    Timestamps,
    TrackConfig,
    Transport,
    ZoneConfig,
)
from centernetd.config.values import format_duration
from centernetd.errors import ConfigError

CAUTIOUS = 0.25  # a higher blur threshold produces a warning

_NOT_COMPARED = {"streams", "models", "sha256", "outdated"}
_DEFAULT = StreamDefaults()


@dataclass(frozen=True)
class StreamConfig:
    """A fully resolved stream: ``policy`` is no longer auto, and paths are final.

    Durations are seconds. A file's ``source`` is absolute; ``record.segment`` is None for one
    unsegmented file. ``never_ends`` means that `policy: live` was set explicitly: a complete
    playlist then does not end the stream. ``models`` names at least one, and each frame runs
    through each; what ``blur_only`` finds is only covered. ``device`` is the index of the GPU that
    decodes it, if any. ``timezone`` is that of a clock in the picture, None the system's.
    """

    name: str
    source: SourceUri
    models: tuple[str, ...] = ("default",)
    blur_only: str | None = None
    policy: Policy = "live"
    max_frame_age: float = _DEFAULT.max_frame_age
    stall_timeout: float = _DEFAULT.stall_timeout
    transport: Transport = _DEFAULT.transport
    timestamps: Timestamps = _DEFAULT.timestamps
    follow_hosts: tuple[str, ...] = ()
    never_ends: bool = False
    decode: Decode = _DEFAULT.decode
    device: int = 0
    timezone: str | None = None
    detect: DetectConfig = field(default_factory=DetectConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    zones: Mapping[str, ZoneConfig] = field(default_factory=dict)
    lines: Mapping[str, LineConfig] = field(default_factory=dict)
    record: RecordConfig = field(default_factory=RecordConfig)
    events: EventsConfig = field(default_factory=EventsConfig)

    @property
    def from_file(self) -> bool:
        """Whether the source is read once, to its end: a path, or a lossless http(s) URL."""
        return self.source.is_file or (self.source.is_web and self.policy == "lossless")

    @property
    def copies(self) -> bool:
        """Whether the source's own packets are recorded."""
        return self.record.when != "never" and self.record.video == "source"

    @property
    def tracks(self) -> bool:
        """Whether objects are followed: for zones, for lines, or for events about tracks."""
        return bool(self.zones or self.lines) or self.events.tracks == "always"

    @property
    def logs_tracks(self) -> bool:
        """Whether events have lines about tracks."""
        return self.tracks and self.events.tracks != "never"

    @property
    def logs(self) -> bool:
        """Whether events are written."""
        return self.events.frames != "never" or self.logs_tracks


@dataclass(frozen=True)
class Config:
    """The complete configuration of the daemon.

    ``base_dir`` is the folder of the file, to which its input paths were relative; here they are
    absolute. ``node`` names this machine in events. ``sha256`` covers the file and everything in
    ``streams.d``. ``outdated`` has a sentence for each key that a later version will refuse.
    """

    streams: Mapping[str, StreamConfig]
    base_dir: Path
    state_dir: Path
    cache_dir: Path
    node: str = ""
    models: Mapping[str, ModelConfig] = field(
        default_factory=lambda: MappingProxyType({"default": ModelConfig()})
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    sha256: str = ""
    outdated: tuple[str, ...] = ()

    @property
    def storage_root(self) -> Path:
        """The absolute path of the folder under which everything is written."""
        return self.state_dir / self.storage.root

    @property
    def used_models(self) -> Mapping[str, ModelConfig]:
        """Those of ``models`` that a stream names, in their order there."""
        named = {name for stream in self.streams.values() for name in stream.models}
        return {name: model for name, model in self.models.items() if name in named}

    def secrets(self) -> frozenset[str]:
        """Return every string that must never be printed, raw and percent-encoded."""
        return frozenset().union(*(stream.source.secrets() for stream in self.streams.values()))

    def notices(self) -> tuple[str, ...]:
        """Return a sentence for each outdated key, and for each that hardly does what is wanted."""
        return self.outdated + tuple(chain.from_iterable(map(_notices, self.streams.values())))


def _notices(stream: StreamConfig) -> Iterator[str]:
    blur, max_fps, max_gap = stream.privacy.blur, stream.detect.max_fps, stream.track.max_gap
    if blur and blur.confidence > CAUTIOUS:
        yield (
            f"streams.{stream.name}.privacy.blur.confidence is {blur.confidence:g}; above "
            f"{CAUTIOUS:g}, more of what should be covered stays open"
        )
    if stream.tracks and max_fps is not None and max_gap < 1 / max_fps:
        yield (
            f"streams.{stream.name}.track.max_gap is {format_duration(max_gap)}, less than the "
            f"time between two frames at a detect.max_fps of {max_fps:g}, so nobody is followed "
            "from one frame to the next"
        )


@dataclass(frozen=True)
class Difference:
    """The names of the streams that were added, removed or changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        changes = {"added": self.added, "changed": self.changed, "removed": self.removed}
        parts = [f"{what} {', '.join(names)}" for what, names in changes.items() if names]
        return "; ".join(parts) or "nothing has changed"


def difference(old: Config, new: Config) -> Difference:
    """Compare the streams of two configurations, with the defaults merged in.

    A stream is also changed if one of its models is.

    Raises
    ------
    ConfigError
        If they differ in anything else, which can't be changed in a running daemon.
    """
    if keys := list(_other_keys(old, new)):
        raise ConfigError(
            f"restart needed: {', '.join(keys)} can't change while the daemon runs, only streams, "
            "defaults and models can"
        )
    before, after = _with_models(old), _with_models(new)
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
    )


def _with_models(config: Config) -> Mapping[str, tuple[StreamConfig, Sequence[ModelConfig]]]:
    return {
        name: (stream, [config.models[model] for model in stream.models])
        for name, stream in config.streams.items()
    }


def _other_keys(old: Config, new: Config) -> Iterator[str]:
    for name in (each.name for each in fields(Config)):
        if name not in _NOT_COMPARED:
            yield from _differing(name, getattr(old, name), getattr(new, name))


def _differing(name: str, old: object, new: object) -> Iterator[str]:
    """Yield the dotted keys below ``name`` in which two values differ."""
    if old == new:
        return
    below, above = _parts(old), _parts(new)
    if below is None or above is None or below.keys() != above.keys():
        yield name
        return
    for key, value in below.items():
        yield from _differing(f"{name}.{key}", value, above[key])


def _parts(value: object) -> Mapping[str, object] | None:
    if isinstance(value, Section):
        return dict(value)
    return value if isinstance(value, Mapping) else None
