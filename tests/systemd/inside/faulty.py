"""The installed daemon with a fault in it, in place of its command; $FAULT selects it.

``hang``: inference stops after 20 batches, once, in native code as it appears.
``slow``: the model takes 16 seconds to load.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

from centernetd.__main__ import main
from centernetd.inference.engines.ort_cpu import CpuSlot
from centernetd.run import models
from centernetd.run.loading import load_detector


def hang_once() -> None:
    """Have the engine never give back a batch, unless it has been so before."""
    mark, wait, batches = Path(os.environ["STATE_DIRECTORY"], "hung"), CpuSlot.wait, [0]

    def hang(slot: CpuSlot) -> Any:
        batches[0] += 1
        if batches[0] == 20 and not mark.exists():
            mark.touch()
            threading.Event().wait()
        return wait(slot)

    setattr(CpuSlot, "wait", hang)  # noqa: B010 - a method


def load_slowly() -> None:
    """Take longer to load than the unit's time for a start."""

    def slowly(*arguments: Any) -> Any:
        time.sleep(16)
        return load_detector(*arguments)

    setattr(models, "load_detector", slowly)  # noqa: B010 - a name that it imports


if __name__ == "__main__":
    {"hang": hang_once, "slow": load_slowly}[os.environ["FAULT"]]()
    main()
