"""Keys and values of the format that this version does not support yet.

A setting that would change what is run or recorded is refused. A limit that is merely not
enforced produces a notice, and only if the file sets it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from centernetd.config.places import Location
from centernetd.config.sections import FileConfig

if TYPE_CHECKING:
    from centernetd.config.config import Config

NOT_ENFORCED = {
    "page": {"listen": "there is no page", "insecure": "there is no page"},
}
_NOT_YET = "is not in this version yet"


def refusals(file: FileConfig) -> Iterator[tuple[Location, str]]:
    """Yield the location of each setting that can't be honoured, and a sentence about it."""
    if len(file.engine.devices) > 1:
        yield ("engine", "devices"), f"more than one device {_NOT_YET}"
    if len(file.models) > 1:
        yield ("models",), f"more than one model {_NOT_YET}"


def notices(config: "Config") -> tuple[str, ...]:
    """Return a sentence for each key that is set but has no effect yet."""
    return tuple(
        f"{section}.{key} is set, but this version doesn't act on it yet: {effect}"
        for section, keys in NOT_ENFORCED.items()
        for key, effect in keys.items()
        if key in getattr(config, section).model_fields_set
    )
