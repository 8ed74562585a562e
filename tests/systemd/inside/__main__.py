"""Walk through the life of an installation and write what was seen to /out/report.json."""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import failing, installing, watching
from .docs import Manual
from .machine import sh

STEPS: tuple[Callable[[Manual], dict[str, Any]], ...] = (
    installing.network,
    installing.install,
    installing.unconfigured,
    installing.camera,
    installing.start,
    installing.wall,
    installing.reloaded,
    failing.killed,
    installing.instance,
    failing.stick,
    failing.hung,  # which takes the time that the stuck stream needs
    failing.stuck,
    failing.slow,
    failing.misconfigured,
    failing.full,
    failing.stopped,
    watching.alert,
    installing.backup,
    installing.upgrade,
    watching.secrets,
    installing.uninstall,
)


def walk(manual: Manual) -> dict[str, Any]:
    """Take every step, whatever became of those before it."""
    report: dict[str, Any] = {}
    for step in STEPS:
        began = time.monotonic()
        try:
            seen = step(manual)
        except Exception:
            seen = {"failed": traceback.format_exc()}
        took = time.monotonic() - began
        report[step.__name__] = {**seen, "took": took}
        print(f"{step.__name__}: {took:.1f} s", *[seen["failed"]] if "failed" in seen else ())
    return report


if __name__ == "__main__":
    page = Path(sys.argv[1])
    manual = Manual(page)
    report = walk(manual)
    report["manual"] = {"marked": manual.names, "followed": manual.followed}
    Path("/out/report.json").write_text(json.dumps(report, indent=2))
    Path("/out/journal.txt").write_text(sh("journalctl --no-pager -o short-precise"))
