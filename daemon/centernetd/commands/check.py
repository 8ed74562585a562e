"""What a configuration asks for, and whether this machine can do it."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from centernetd.commands.capacity import Capacity, measure, most_memory
from centernetd.commands.disclosure import Disclosure, disclosure_of
from centernetd.commands.probe import Disk, SourceProbe, disk_of, probe_sources
from centernetd.config import Config, StreamConfig
from centernetd.config.template import LOCK_NAME
from centernetd.errors import CenternetdError, SinkError, SourceError, StartupError
from centernetd.inference.engines import Backend, choose_backend
from centernetd.inference.filter import unknown_labels
from centernetd.model.manifest import Manifest
from centernetd.run.loading import ConfiguredModel, load_detector, sizes_for
from centernetd.service.http import bind
from centernetd.sink.lockfile import published_in
from centernetd.sink.recorder import try_recording


@dataclass(frozen=True)
class StreamSummary:
    """One stream as configured; None for outputs that are never written."""

    name: str
    source: str
    policy: str
    record: str | None
    draw: str
    events: str | None
    leaves: Disclosure


@dataclass(frozen=True)
class ModelProbe:
    """A model, its number of labels, and which engine runs it and why.

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
    models: Mapping[str, ModelProbe]
    disk: Disk
    capacity: Capacity | None
    memory: int


def summarize(config: Config) -> list[StreamSummary]:
    """Return each stream as configured, without passwords."""
    return [_summary(stream) for stream in config.streams.values()]


def _summary(stream: StreamConfig) -> StreamSummary:
    record, events = stream.record, stream.events
    drawn = ["blur"] if stream.privacy.blur else []
    drawn += [each for each in record.draw if stream.tracks or each in ("boxes", "clock")]
    if stream.copies:
        drawn = ["as received"]
    return StreamSummary(
        name=stream.name,
        source=str(stream.source),
        policy=stream.policy,
        record=None if record.when == "never" else _named(record.path, stream.name),
        draw=", ".join(drawn) or "none",
        events=_named(events.path, stream.name) if stream.logs else None,
        leaves=disclosure_of(stream),
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
    problems += _unwritable(config)
    seen = [each for each in looks if each.codec]
    problems += (unrecordable := [*_unrecordable(config, seen)])
    models: dict[str, ModelProbe] = {}
    capacity, depth = None, 0
    try:
        backend = choose_backend(config.engine.backend)
        sizes = sizes_for(backend, config.batching.max_size)
        depth = sizes.lossless_depth
        with ExitStack() as stack:
            detectors, manifests = {}, {}
            pool = stack.enter_context(ThreadPoolExecutor(1))
            for name in config.used_models:
                chosen = ConfiguredModel.of(config, name)
                if unbuilt := chosen.why_build(backend, sizes):
                    manifests[name] = chosen.prepared(backend).manifest
                else:
                    detectors[name] = detector = load_detector(chosen, backend, sizes, pool)
                    stack.callback(detector.engine.close)
                    manifests[name] = detector.manifest
                models[name] = _describe(manifests[name], backend, unbuilt)
            problems += (unknown := _unknown_labels(config, manifests))
            if len(detectors) == len(models) and not unknown and not unrecordable:
                capacity = measure(config.streams, looks, detectors, config.storage, disk.free)
    except CenternetdError as error:
        problems.append(error)
    memory = most_memory(config.streams, looks, depth)
    return Probe(looks, models, disk, capacity, memory), problems


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
    problems += _unwritable(config)
    known, unsure = {}, []
    try:
        backend = choose_backend(config.engine.backend)
        for name in config.used_models:
            model = ConfiguredModel.of(config, name)
            model.require_backend(backend)
            described = model.manifest_if_prepared(backend)
            if described is None:
                unsure.append(
                    f"model {name} and its labels are not checked, because it is not prepared in "
                    f"{config.cache_dir}; --probe prepares it, or says what is missing"
                )
            else:
                known[name] = described
    except CenternetdError as error:
        return [*problems, error], unsure
    return [*problems, *_unknown_labels(config, known)], unsure


def _unreadable_files(config: Config) -> Iterator[CenternetdError]:
    for stream in config.streams.values():
        if stream.source.is_file and (why := _unreadable(Path(stream.source.reveal()))):
            yield SourceError(f"{stream.name}: {stream.source}: {why}")


def _unreadable(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "permission denied"
    except OSError:
        return "there is no such file"
    if stat.S_ISDIR(mode):
        return "is a directory"
    return None if os.access(path, os.R_OK) else "permission denied"


def _unwritable(config: Config) -> Iterator[CenternetdError]:
    root = config.storage_root
    if not disk_of(root).writable:
        yield StartupError(f"storage.root {root} can't be written to")
        return
    for stream in config.streams.values():
        wanted = [stream.events.path] if stream.logs else []
        wanted += [stream.record.path] if stream.record.when != "never" else []
        for folder in sorted({_constant_folder(_named(each, stream.name)) for each in wanted}):
            if not disk_of(root / folder).writable:
                yield SinkError(f"{stream.name}: {root / folder} can't be written to")


def _constant_folder(template: str) -> Path:
    """Return the folder of a file as far as its name does not depend on the time."""
    return next(folder for folder in Path(template).parents if "%" not in str(folder))


def _unrecordable(config: Config, seen: Sequence[SourceProbe]) -> Iterator[CenternetdError]:
    for each in seen:
        if why := _why_not_recorded(config.streams[each.stream], each):
            yield SinkError(f"{each.stream}: {why}")


def _why_not_recorded(stream: StreamConfig, seen: SourceProbe) -> str | None:
    try:
        try_recording(stream, seen.codec, seen.width, seen.height)
    except SinkError as error:
        return str(error)
    return None


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


def _unknown_labels(config: Config, known: Mapping[str, Manifest]) -> Sequence[CenternetdError]:
    """Return an error for each label that the models it is for, all ``known``, do not have."""
    streams = config.streams.values()
    return [error for stream in streams for error in unknown_labels(stream, known)]
