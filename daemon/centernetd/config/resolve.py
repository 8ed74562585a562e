"""Decides what the file leaves open, and refuses contradictions."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from centernetd.config.config import Config, StreamConfig
from centernetd.config.polygon import NOTHING, area
from centernetd.config.problems import Location, Origins, dotted, show, suggestion
from centernetd.config.sections import (
    OUTDATED,
    BlurConfig,
    FileConfig,
    ModelConfig,
    PrivacyConfig,
    Section,
    StreamDefaults,
    StreamEntry,
)
from centernetd.config.values import FORMERLY_DRAWN
from centernetd.errors import ConfigError

_Section = TypeVar("_Section", bound=Section)
_MACHINE_ID = Path("/etc/machine-id")


def resolve(file: FileConfig, origins: Origins, base_dir: Path, sha256: str) -> Config:
    """Return the configuration that a valid file describes.

    Raises ConfigError for keys that are valid individually but can't be run together.
    """
    streams = {name: _stream(name, entry, base_dir, file) for name, entry in file.streams.items()}
    problems = chain(_contradictions(file, streams), _unsupported(file))
    if mistakes := [origins.error(location, sentence) for location, sentence in problems]:
        raise ConfigError.joined(mistakes)
    return Config(
        streams=MappingProxyType(streams),
        base_dir=base_dir,
        state_dir=state_dir(),
        cache_dir=cache_dir(),
        node=_node() if file.node is None else file.node,
        models=MappingProxyType({k: _model(model, base_dir) for k, model in file.models.items()}),
        engine=file.engine,
        batching=file.batching,
        storage=file.storage,
        metrics=file.metrics,
        logging=file.logging,
        sha256=sha256,
        outdated=tuple(_outdated(file, origins)),
    )


def _stream(name: str, entry: StreamEntry, base_dir: Path, file: FileConfig) -> StreamConfig:
    policy = entry.policy
    if policy == "auto":
        policy = "lossless" if entry.source.is_recording else "live"
    settings = {**dict(entry), "source": entry.source.under(base_dir), "policy": policy}
    settings["privacy"] = privacy = _privacy(entry)
    del settings["blur"]
    former = settings.pop("model")
    models = entry.models or (former or next(iter(file.models)),)
    covering = privacy.blur.model if privacy.blur else None
    if covering is not None and covering not in models:
        settings["blur_only"] = covering
        models += (covering,)
    settings["models"] = models
    device = file.engine.devices[0]
    stream = StreamConfig(
        name,
        never_ends=entry.policy == "live",
        device=device,
        timezone=file.timezone,
        **settings,
    )
    keep_for = None if stream.from_file else file.storage.keep_for
    record: dict[str, object] = {"keep_for": keep_for}
    events: dict[str, object] = {"keep_for": keep_for}
    if stream.from_file:
        record |= {"path": "{stream}.mp4", "segment": None}
        events |= {"path": "{stream}.jsonl"}
    completed = _completed(entry.record, record)
    if isinstance(completed.draw, str):
        completed = completed.model_copy(update={"draw": FORMERLY_DRAWN[completed.draw]})
    if entry.events.when is not None:
        events["frames"] = entry.events.when
    written = _completed(entry.events, events).model_copy(update={"when": None})
    return replace(stream, record=completed, events=written)


def _completed(section: _Section, defaults: dict[str, object]) -> _Section:
    """Return ``section`` with ``defaults`` for the keys that the configuration does not set."""
    unset = {key: value for key, value in defaults.items() if key not in section.model_fields_set}
    return section.model_copy(update=unset)


def _privacy(entry: StreamEntry) -> PrivacyConfig:
    """Return the privacy of a stream, also where it is written in the old keys."""
    privacy, blur = entry.privacy, entry.blur
    if blur is None and privacy.blur is None and entry.record.draw == "blur":
        blur = BlurConfig()
    if blur is None:
        return privacy
    wanted: dict[str, object] = {"blur": blur}
    if "privacy" not in entry.model_fields_set:  # blur alone never kept landmarks out of events
        wanted["keypoints"] = True
    return privacy.model_copy(update=wanted)


def _model(model: ModelConfig, base_dir: Path) -> ModelConfig:
    """Return the model with absolute file paths; a bare word is a built-in name."""
    files = {"labels_file": model.labels_file}
    if "/" in model.path or Path(model.path).suffix:
        files["path"] = model.path
    absolute = {key: str(base_dir / path) for key, path in files.items() if path is not None}
    return model.model_copy(update=absolute)


def _conflicts_with_source(stream: StreamConfig) -> Iterator[tuple[Location, str]]:
    """Yield the settings that the stream's source, or its privacy, rules out."""
    scheme, name = stream.source.scheme, stream.name
    if stream.record.video == "source" and (stream.privacy.blur or stream.privacy.masks):
        done = "blurred" if stream.privacy.blur else "masked"
        why = f"source is a copy, which can't be {done}: set it to annotated, or don't ask for that"
        yield ("streams", name, "record", "video"), why
    if stream.copies and scheme == "v4l2":
        why = "source needs a camera that sends H.264 or H.265, unlike v4l2: set it to annotated"
        yield ("streams", name, "record", "video"), why
    if stream.transport == "udp" and scheme != "rtsp":
        yield ("streams", name, "transport"), "only rtsp:// can be sent over udp: set it to tcp"
    if stream.decode == "cuda" and scheme == "v4l2":
        yield ("streams", name, "decode"), "cameras are decoded on the CPU: set it to auto"


def _uncounted(stream: StreamConfig) -> Iterator[tuple[Location, str]]:
    """Yield the labels that a zone or line counts, but that detect.labels leaves out."""
    detected = stream.detect.labels
    for kind, places in (("zones", stream.zones), ("lines", stream.lines)):
        for place, config in places.items():
            for label in config.labels:
                if detected and label not in detected:
                    sentence = f"{show(label)} is not one of detect.labels, so it is never counted"
                    yield ("streams", stream.name, kind, place, "labels"), sentence


def _wrong_privacy(file: FileConfig, stream: StreamConfig) -> Iterator[tuple[Location, str]]:
    location = ("streams", stream.name, "privacy")
    blur = stream.privacy.blur
    if blur and blur.model is not None and blur.model not in file.models:
        why = f"no model {show(blur.model)} under models; {suggestion(blur.model, file.models)}"
        yield (*location, "blur", "model"), why
    if stream.privacy.masks and area(stream.privacy.masks.values()) > 1 - NOTHING:
        why = "cover the whole picture, which leaves nothing to detect: remove one, or the stream"
        yield (*location, "masks"), why


def _set_twice(name: str, entry: StreamEntry) -> Iterator[tuple[Location, str]]:
    for old, new in OUTDATED.items():
        if _is_set(entry, old) and _is_set(entry, new):
            why = f"is the old name of {dotted(new)}, which is set too: keep that one"
            yield ("streams", name, *old), why
    no_blur = _is_set(entry, ("privacy", "blur")) and entry.privacy.blur is None
    if no_blur and entry.record.draw == "blur":
        why = "blur is an old name of privacy.blur, which is null: change one of them"
        yield ("streams", name, "record", "draw"), why


def _is_set(section: Section, keys: tuple[str, ...]) -> bool:
    *above, last = keys
    for key in above:
        section = getattr(section, key)
    return last in section.model_fields_set


def _unsupported(file: FileConfig) -> Iterator[tuple[Location, str]]:
    """Yield each setting that is reserved for a later version."""
    if len(file.engine.devices) > 1:
        yield ("engine", "devices"), "more than one device is not supported yet"


def _outdated(file: FileConfig, origins: Origins) -> Iterator[str]:
    """Yield a sentence for each place in the file that has a key of before."""
    renamed: list[tuple[Location, str]] = []
    places: list[tuple[Location, StreamDefaults]] = [(("defaults",), file.defaults)]
    places += [(("streams", name), entry) for name, entry in file.streams.items()]
    for location, entry in places:
        for old, new in OUTDATED.items():
            if _is_set(entry, old):
                renamed.append(((*location, *old), f"{dotted(old)} is now called {dotted(new)}"))
        if isinstance(word := entry.record.draw, str):
            sentence = f"draw: {word} is now `draw: [{', '.join(FORMERLY_DRAWN[word])}]`"
            sentence += " with `privacy: {blur: {}}`" if word == "blur" else ""
            renamed.append(((*location, "record", "draw"), sentence))
    for place in dict.fromkeys((*origins.find(location), new) for location, new in renamed):
        yield "{}:{}: {}; a later version will refuse its old name".format(*place)


def _wrong_models(name: str, file: FileConfig) -> Iterator[tuple[Location, str]]:
    """Yield what is wrong with the models that a stream names."""
    entry = file.streams[name]
    named = {"models": entry.models, "model": () if entry.model is None else (entry.model,)}
    for key, names in named.items():
        location = ("streams", name, key)
        if len(set(names)) < len(names):
            yield location, "names a model twice"
        for unknown in (each for each in names if each not in file.models):
            hint = suggestion(unknown, file.models)
            yield location, f"no model {show(unknown)} under models; {hint}"


def _contradictions(
    file: FileConfig, streams: dict[str, StreamConfig]
) -> Iterator[tuple[Location, str]]:
    if not streams:
        yield ("streams",), "no streams: give at least one, as in gate: {source: 'rtsp://...'}"
    outputs: dict[str, str] = {}
    for name, stream in streams.items():
        yield from _wrong_models(name, file)
        yield from _conflicts_with_source(stream)
        yield from _uncounted(stream)
        yield from _wrong_privacy(file, stream)
        yield from _set_twice(name, file.streams[name])
        if stream.policy == "live" and file.batching.max_delay > stream.max_frame_age / 2:
            sentence = (
                "is less than twice batching.max_delay: frames would become too old while waiting"
            )
            yield ("streams", name, "max_frame_age"), sentence
        written = {"record": stream.record.when != "never", "events": stream.logs}
        for kind, output in (("record", stream.record), ("events", stream.events)):
            if not written[kind]:
                continue
            path = output.path.replace("{stream}", name)
            other = outputs.setdefault(path, f"{name}.{kind}")
            if other != f"{name}.{kind}":
                yield ("streams", name, kind, "path"), f"would write to the same file as {other}"


def _node() -> str:
    """Return a name that stays the same for this system, and says nothing about it.

    It is a hash because a machine id should not leave its machine: see machine-id(5).
    """
    try:
        machine = _MACHINE_ID.read_bytes().strip()
    except OSError:  # some containers have none
        return "unnamed"
    return hashlib.sha256(b"centernetd " + machine).hexdigest()[:12]


def state_dir() -> Path:
    """Return ``$STATE_DIRECTORY`` (the first, if several), otherwise the working directory."""
    return _from_systemd("STATE_DIRECTORY") or Path.cwd()


def cache_dir() -> Path:
    """Return ``$CACHE_DIRECTORY``, or ``centernetd`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises ConfigError if there is no home folder either.
    """
    if folder := _from_systemd("CACHE_DIRECTORY"):
        return folder
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).absolute() / "centernetd"
    try:
        return Path.home() / ".cache" / "centernetd"
    except RuntimeError:
        raise ConfigError("there is no home folder: set CACHE_DIRECTORY to a folder") from None


def _from_systemd(variable: str) -> Path | None:
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first).absolute() if first else None
