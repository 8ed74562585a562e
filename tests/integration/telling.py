"""A daemon that tells of every frame of its streams, and its end in order."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.integration.conftest import SQUARES_SIZE
from tests.integration.process import LONGEST_RUN, Daemon, Finished, free_port, write_config

_OUTPUTS = {
    "record": {"path": "{stream}.mp4", "segment": None},
    "events": {"when": "always", "path": "{stream}.jsonl"},
}

Stream = Mapping[str, Any]


def configure(folder: Path, squares: Path, streams: Mapping[str, Stream], **sections: Any) -> Path:
    """Write the configuration of a daemon that tells of every frame of its streams."""
    return write_config(
        folder,
        {name: {**_OUTPUTS, **stream} for name, stream in streams.items()},
        model=squares,
        size=SQUARES_SIZE,
        port=free_port(),
        **sections,
    )


def stop(daemon: Daemon, within: float = LONGEST_RUN) -> Finished:
    """End a daemon in order, in so many seconds; nothing must have broken its book."""
    daemon.send(signal.SIGTERM)
    finished = daemon.finish(within)
    assert finished.code == 0, finished.stderr
    assert all(receipt.balanced for receipt in finished.receipts.values())
    return finished
