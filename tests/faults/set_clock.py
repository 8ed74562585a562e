"""A daemon whose wall clock is set while it runs, by Debian's faketime: ``... run -c CONFIG``.

faketime 0.9.10 takes the absolute, monotonic deadlines of Python's `time.sleep` for times of the
wall clock, so that every sleep fails with EINVAL: here it sleeps in `select` instead.
"""

import json
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsIndex

from centernetd.cli import main
from tests.faults.evidence import timestamp
from tests.integration.process import PROCESS_TIMEOUT, Daemon, started
from tests.tools import tool

DAY = 86_400.0  # seconds


class WallClock:
    """The wall clock of a daemon; its monotonic clock and the times of files stay as they are."""

    def __init__(self, file: Path) -> None:
        """``file`` is read by the daemon once per second."""
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """Set the clock to this many days from the real one, as in ``+1d``."""
        self._file.write_text(offset)
        self.ahead = DAY * int(offset.rstrip("d"))  # seconds

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to go by this clock."""
        library = "lib/*/faketime/libfaketimeMT.so.1"  # that for programs with threads
        (found,) = Path(tool("faketime")).resolve().parents[1].glob(library)
        return {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


@contextmanager
def started_by(clock: WallClock, config: Path) -> Iterator[Daemon]:
    """Run a daemon as `started` does, by this clock."""
    with started(config, module=__name__, environ=clock.environ) as daemon:
        yield daemon


def wait_until_stamped_by(clock: WallClock, events: Path) -> None:
    """Wait until the newest frame in an events file was stamped by the clock as it is set."""
    deadline = time.monotonic() + PROCESS_TIMEOUT
    while True:
        newest = json.loads(events.read_text().rpartition("\n")[0].rpartition("\n")[2])
        ahead = timestamp(newest["time"]) - time.time()
        if abs(ahead - clock.ahead) < DAY / 2:
            return
        assert time.monotonic() < deadline, newest
        time.sleep(0.02)


def _sleep(seconds: SupportsIndex | float, /) -> None:
    select.select((), (), (), float(seconds))


if __name__ == "__main__":
    time.sleep = _sleep
    main(sys.argv[1:])
