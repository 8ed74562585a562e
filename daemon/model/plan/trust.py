"""Whether a file that will be run as native code could have been put there by somebody else."""

import os
import stat
from pathlib import Path

from daemon.errors import ModelError
from daemon.model import files


def read(path: Path) -> bytes:
    """Return the content of a file that only this user, or root, can have written.

    Raises
    ------
    ModelError
        The file is missing or unreadable, or others could have written it; without its name.
    """
    try:
        with path.open("rb") as file:
            refuse_foreign_file(os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        raise ModelError("there is no such file") from None
    except OSError as error:
        raise ModelError(f"it can't be read: {error.strerror}") from None


def keep_from_others(path: Path) -> None:
    """Take from a new file the rights that a lax umask gave to others."""
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))


def refuse_foreign_file(found: os.stat_result) -> None:
    """Raise a `ModelError` if somebody else owns the file or can write to it."""
    if found.st_uid not in (0, os.geteuid()):
        raise ModelError(
            f"it belongs to another user (number {found.st_uid}) and would be run as native code"
        )
    if _others_write(found):
        raise ModelError(
            "others can write to it, and it would be run as native code: take that right away "
            "with `chmod go-w`"
        )


def refuse_open_folder(folder: Path) -> None:
    """Raise a `ModelError` if others can put files into ``folder``, or replace some."""
    with files.naming(folder):
        try:
            found = folder.stat()
        except OSError as error:
            raise ModelError(f"can't be looked at: {error.strerror}") from None
        if _others_write(found) and not found.st_mode & stat.S_ISVTX:
            raise ModelError(
                "others can write to this folder, and plans in it would be run as native code: "
                "take that right away with `chmod go-w`, or use another folder"
            )


def _others_write(found: os.stat_result) -> bool:
    """Tell whether the world, or a group that is not this process's own, may write."""
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    return bool(found.st_mode & stat.S_IWOTH or by_group)
