"""The commands of docs/operations.md, to be run verbatim."""

import re
from pathlib import Path

from .machine import sh

_BLOCK = re.compile(r"<!-- walk: (\S+) -->\n+```sh\n(.*?)```", re.DOTALL)


class Manual:
    """The page that came with the program. ``followed`` are the blocks that have been run."""

    def __init__(self, page: Path) -> None:
        self._blocks: dict[str, str] = dict(_BLOCK.findall(page.read_text("utf-8")))
        self.followed: list[str] = []

    @property
    def names(self) -> list[str]:
        """The blocks that are marked to be run."""
        return list(self._blocks)

    def follow(self, name: str) -> str:
        """Run a block; returns its output.

        The camera of the walk speaks HTTP, as no server of RTSP comes with Python.
        """
        self.followed.append(name)
        return sh(self._blocks[name].replace("rtsp://", "http://"))
