"""``python -m daemon`` and ``centernetd``: the command line."""

import faulthandler
import sys

_STDERR = 2


def main() -> None:
    """Run the command line; an interrupt while it is still being loaded is no fault."""
    faulthandler.enable(_STDERR)  # a crash, or systemd's watchdog, tells where each thread was
    try:
        from daemon import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
