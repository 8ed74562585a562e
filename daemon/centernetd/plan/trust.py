"""Whether another user could have planted a file that will be run as native code."""

import os
import stat
from pathlib import Path

from centernetd.errors import ModelError
from centernetd.model import files


def refuse_foreign_file(found: os.stat_result) -> None:
    """Raise a `ModelError` if another user owns the file or can write to it."""
    if found.st_uid not in (0, os.geteuid()):
        raise ModelError(
            f"it belongs to another user (UID {found.st_uid}) and would be run as native code"
        )
    if _others_write(found):
        raise ModelError(
            "others can write to it, and it would be run as native code: revoke that right with "
            "`chmod go-w`"
        )


def refuse_shared_folder(folder: Path) -> None:
    """Raise a `ModelError` if others can add or replace files in ``folder``."""
    with files.naming(folder):
        try:
            found = folder.stat()
        except OSError as error:
            raise ModelError(f"can't be inspected: {error.strerror}") from None
        if _others_write(found) and not found.st_mode & stat.S_ISVTX:
            raise ModelError(
                "others can write to this folder, and plans in it would be run as native code: "
                "revoke that right with `chmod go-w`, or use another folder"
            )


def _others_write(found: os.stat_result) -> bool:
    """Return whether the world, or a group other than this process's own, has write access."""
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    return bool(found.st_mode & stat.S_IWOTH or by_group)
