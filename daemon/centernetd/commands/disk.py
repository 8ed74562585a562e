"""The disk that a folder is on, or would be on."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A folder's disk: ``free`` bytes, and whether the folder can be written or made."""

    folder: Path
    free: int
    writable: bool


def disk_of(folder: Path) -> Disk:
    """Look at ``folder`` without making it: where it isn't there, its nearest parent tells."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Disk(folder, shutil.disk_usage(there).free, writable)
