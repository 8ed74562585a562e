"""``python -m centernetd`` and ``centernetd``: the command line."""

import faulthandler
import os
import resource
import signal
import sys

from centernetd.run.signals import handle_early_signals

_STDERR = 2


def main() -> None:
    """Run the command line; a signal during its import is not an error."""
    _open_standard_streams()
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # a core dump has passwords and images
    faulthandler.enable(_STDERR)  # print every thread's stack on a crash or watchdog abort
    if "run" in sys.argv:
        handle_early_signals()
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # modules turn what it raises into ImportError
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from centernetd import cli

    signal.signal(signal.SIGINT, interrupted)
    if "run" not in sys.argv:
        _interrupt_on_signals()
    cli.main()


def _interrupt_on_signals() -> None:
    """Have SIGTERM and SIGHUP interrupt a command as Ctrl-C does, so that no files are left."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)


def _open_standard_streams() -> None:
    """Reopen closed ones; otherwise the next opened file reuses the number and gets the output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main()
