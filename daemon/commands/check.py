"""What a configuration asks for, and whether this box can do it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from daemon.commands.capacity import Capacity, measure
from daemon.commands.disk import Disk, disk_of
from daemon.commands.look import Look, look_at
from daemon.config import Config, StreamConfig
from daemon.errors import CenternetdError
from daemon.inference.detector import Detector
from daemon.inference.engines import choose_backend
from daemon.inference.wanted import resolve
from daemon.loading import ModelChoice, load_detector, sizes_for


@dataclass(frozen=True)
class StreamSummary:
    """One stream as the configuration has it; None for an output that is never written."""

    name: str
    source: str
    policy: str
    record: str | None
    draw: str
    events: str | None


@dataclass(frozen=True)
class ModelProbe:
    """The model as it was loaded, how many labels it has, and what runs it and why."""

    layout: str
    input_size: tuple[int, int]
    labels: int
    backend: str
    reason: str


@dataclass(frozen=True)
class Probe:
    """What was found out by trying; ``problems`` are sentences that name their stream or file."""

    looks: Sequence[Look]
    model: ModelProbe | None
    disk: Disk
    capacity: Capacity | None
    problems: Sequence[str]


def summarize(config: Config) -> list[StreamSummary]:
    """Return each stream as the configuration has it, without passwords."""
    return [_summary(stream) for stream in config.streams.values()]


def _summary(stream: StreamConfig) -> StreamSummary:
    record, events = stream.record, stream.events
    return StreamSummary(
        name=stream.name,
        source=str(stream.source),
        policy=stream.policy,
        record=None if record.when == "never" else _named(record.path, stream.name),
        draw=record.draw,
        events=None if events.when == "never" else _named(events.path, stream.name),
    )


def _named(template: str, stream: str) -> str:
    return template.replace("{stream}", stream)


def probe(config: Config) -> Probe:
    """Try everything that ``config`` names but its outputs: nothing is written there.

    A model that isn't prepared yet is, and kept in the cache. Nothing is raised for what fails:
    it is among the problems.
    """
    looks = look_at(config.streams.values())
    problems = [f"{look.stream}: {look.problem}" for look in looks if look.problem]
    disk = disk_of(config.storage_root)
    if not disk.writable:
        problems.append(f"storage.root {disk.folder} can't be written to")
    model, capacity = None, None
    try:
        choice = choose_backend(config.engine.backend)
        with ThreadPoolExecutor(1) as pool:
            detector = load_detector(
                ModelChoice.of(config), choice, sizes_for(choice.backend, 1), pool
            )
            try:
                model = _describe(detector, choice.reason)
                _check_labels(config, detector)
                capacity = measure(config.streams, looks, detector, disk.free)
            finally:
                detector.engine.close()
    except CenternetdError as error:
        problems.append(str(error))
    return Probe(looks, model, disk, capacity, problems)


def _describe(detector: Detector, reason: str) -> ModelProbe:
    manifest = detector.manifest
    return ModelProbe(
        layout=manifest.layout,
        input_size=manifest.input_size,
        labels=len(manifest.labels),
        backend=detector.engine.info.backend,
        reason=reason,
    )


def _check_labels(config: Config, detector: Detector) -> None:
    """Raise ConfigError for a label that some stream wants and the model hasn't."""
    for stream in config.streams.values():
        detect = stream.detect
        resolve(stream.name, detector.manifest.labels, detect.confidence, detect.labels)
