"""The disk of a folder that may not exist yet."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A folder's disk: ``free`` bytes, and whether the folder is writable or can be created."""

    folder: Path
    free: int
    writable: bool


def disk_of(folder: Path) -> Disk:
    """Inspect ``folder`` without creating it: if missing, use its nearest existing parent."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    on_disk = there if there.exists() else there.parent  # a symbolic link may lead nowhere
    return Disk(folder, shutil.disk_usage(on_disk).free, writable)
