"""``python -m daemon`` and ``centernetd``: the command line."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being loaded is no fault."""
    try:
        from daemon import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
