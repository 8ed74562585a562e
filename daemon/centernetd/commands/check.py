"""What a configuration asks for, and whether this machine can do it."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from centernetd.commands.capacity import Capacity, measure, most_memory
from centernetd.commands.probe import Disk, SourceProbe, disk_of, probe_sources
from centernetd.config import Config, StreamConfig
from centernetd.errors import CenternetdError, ConfigError, SourceError, StartupError
from centernetd.inference.engines import Backend, choose_backend
from centernetd.inference.filter import filter_of
from centernetd.model.manifest import Manifest
from centernetd.run.loading import ConfiguredModel, load_detector, sizes_for
from centernetd.service.http import bind
from centernetd.sink.lockfile import LOCK_NAME, published_in


@dataclass(frozen=True)
class StreamSummary:
    """One stream as configured; None for outputs that are never written."""

    name: str
    source: str
    policy: str
    record: str | None
    draw: str
    events: str | None


@dataclass(frozen=True)
class ModelProbe:
    """The model, its number of labels, and which engine runs it and why.

    ``unbuilt`` is the reason why a plan must be built first, or None.
    """

    layout: str
    input_size: tuple[int, int]
    labels: int
    backend: str
    reason: str
    unbuilt: str | None


@dataclass(frozen=True)
class Probe:
    """Results of trying, as in --json; ``memory`` is the bytes that the streams may use."""

    looks: Sequence[SourceProbe]
    model: ModelProbe | None
    disk: Disk
    capacity: Capacity | None
    memory: int


def summarize(config: Config) -> list[StreamSummary]:
    """Return each stream as configured, without passwords."""
    return [_summary(stream) for stream in config.streams.values()]


def _summary(stream: StreamConfig) -> StreamSummary:
    record, events = stream.record, stream.events
    drawn = {"boxes": "blur, boxes", "blur": "blur", "none": "blur"}
    return StreamSummary(
        name=stream.name,
        source=str(stream.source),
        policy=stream.policy,
        record=None if record.when == "never" else _named(record.path, stream.name),
        draw=drawn[record.draw] if stream.blur else record.draw,
        events=None if events.when == "never" else _named(events.path, stream.name),
    )


def _named(template: str, stream: str) -> str:
    return template.replace("{stream}", stream)


def probe_all(config: Config) -> tuple[Probe, Sequence[CenternetdError]]:
    """Try everything that ``config`` names except its outputs, which are not written.

    Returns the results and the problems; each problem names its stream, file or key.

    An unprepared model is prepared and cached. A plan, which can take many minutes, is not built,
    and without one nothing is measured. Failures are not raised but returned as problems.
    """
    looks = probe_sources(config.streams.values())
    problems: list[CenternetdError] = [
        SourceError(f"{each.stream}: {each.problem}") for each in looks if each.problem
    ]
    problems += _taken_port(config)
    disk = disk_of(config.storage_root)
    problems += _unwritable(disk)
    model, capacity, depth = None, None, 0
    try:
        chosen = ConfiguredModel.of(config)
        backend = choose_backend(config.engine.backend)
        sizes = sizes_for(backend, config.batching.max_size)
        depth = sizes.lossless_depth
        if unbuilt := chosen.why_build(backend, sizes):
            described = chosen.prepared(backend).manifest
            model = _describe(described, backend, unbuilt)
            problems += _unknown_labels(config, described)
        else:
            with ThreadPoolExecutor(1) as pool:
                detector = load_detector(chosen, backend, sizes, pool)
                with closing(detector.engine):
                    model = _describe(detector.manifest, backend, None)
                    problems += (unknown := _unknown_labels(config, detector.manifest))
                    if not unknown:
                        capacity = measure(
                            config.streams, looks, detector, config.storage, disk.free
                        )
    except CenternetdError as error:
        problems.append(error)
    memory = most_memory(config.streams, looks, depth)
    return Probe(looks, model, disk, capacity, memory), problems


def _describe(described: Manifest, backend: Backend, unbuilt: str | None) -> ModelProbe:
    return ModelProbe(
        layout=described.layout,
        input_size=described.input_size,
        labels=len(described.labels),
        backend=backend.name,
        reason=backend.reason,
        unbuilt=unbuilt,
    )


def survey(config: Config) -> tuple[Sequence[CenternetdError], Sequence[str]]:
    """Return what would make a start fail, without trying or creating anything.

    Also returns a sentence for each thing that can't be checked this way.
    """
    problems = [*_unreadable_files(config), *_taken_port(config)]
    problems += _unwritable(disk_of(config.storage_root))
    try:
        model, backend = ConfiguredModel.of(config), choose_backend(config.engine.backend)
        model.require_backend(backend)
        described = model.manifest_if_prepared(backend)
    except CenternetdError as error:
        return [*problems, error], ()
    if described is None:
        unsure = f"the model and its labels are not checked: it is not in {config.cache_dir} yet"
        return problems, (f"{unsure}; --probe prepares it",)
    return [*problems, *_unknown_labels(config, described)], ()


def _unreadable_files(config: Config) -> Iterator[CenternetdError]:
    for stream in config.streams.values():
        if stream.source.is_file and (why := _unreadable(Path(stream.source.reveal()))):
            yield SourceError(f"{stream.name}: {stream.source}: {why}")


def _unreadable(path: Path) -> str | None:
    if not path.exists():
        return "there is no such file"
    if path.is_dir():
        return "is a directory"
    return None if os.access(path, os.R_OK) else "permission denied"


def _unwritable(disk: Disk) -> Iterator[CenternetdError]:
    if not disk.writable:
        yield StartupError(f"storage.root {disk.folder} can't be written to")


def _taken_port(config: Config) -> Sequence[CenternetdError]:
    """Return why ``metrics.listen`` can't be bound, unless the daemon itself is bound to it."""
    lock = config.storage_root / LOCK_NAME
    try:
        if config.metrics.listen is None or published_in(lock) is not None:
            return ()
        bind(config.metrics.listen, "metrics.listen").close()
    except StartupError as error:
        return (error,)
    except OSError:  # another user's folder: can't see whether a daemon runs there
        return ()
    return ()


def _unknown_labels(config: Config, described: Manifest) -> Sequence[CenternetdError]:
    """Return an error for each stream that names a label unknown to the model."""
    problems: list[CenternetdError] = []
    for stream in config.streams.values():
        try:
            filter_of(stream, described)
        except ConfigError as error:  # noqa: PERF203
            problems.append(error)
    return problems
