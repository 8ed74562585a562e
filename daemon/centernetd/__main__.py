"""``python -m centernetd`` and ``centernetd``: the command line."""

import faulthandler
import os
import resource
import sys

from centernetd.run.signals import before_the_run

_STDERR = 2


def main() -> None:
    """Run the command line; a signal while it is still being loaded is no fault."""
    _open_standard_streams()
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core would hold passwords and pictures
    faulthandler.enable(_STDERR)  # a crash, or systemd's watchdog, tells where each thread was
    if "run" in sys.argv:
        before_the_run()
    try:
        from centernetd import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


def _open_standard_streams() -> None:
    """Open those that were closed: else the next file gets the number, and what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main()
