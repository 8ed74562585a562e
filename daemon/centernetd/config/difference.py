"""The differences between two configurations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from centernetd.config.config import Config
from centernetd.config.section import Section
from centernetd.errors import ConfigError

_NOT_COMPARED = {"streams", "sha256"}


@dataclass(frozen=True)
class Difference:
    """The names of the streams that were added, removed or changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        told = {"added": self.added, "changed": self.changed, "removed": self.removed}
        parts = [f"{what} {', '.join(names)}" for what, names in told.items() if names]
        return "; ".join(parts) or "nothing has changed"


def difference(old: Config, new: Config) -> Difference:
    """Compare the streams of two configurations, with the defaults merged in.

    Raises
    ------
    ConfigError
        If they differ in anything else, which can't be changed in a running daemon.
    """
    if keys := list(_other_keys(old, new)):
        raise ConfigError(
            f"restart needed: {', '.join(keys)} can't change while the daemon runs, only streams "
            "and defaults can"
        )
    before, after = old.streams, new.streams
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
    )


def _other_keys(old: Config, new: Config) -> Iterator[str]:
    for field in fields(Config):
        if field.name not in _NOT_COMPARED:
            yield from _differing(field.name, getattr(old, field.name), getattr(new, field.name))


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
