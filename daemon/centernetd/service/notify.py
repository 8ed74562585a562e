"""Reports the daemon's state to systemd, with the protocol of sd_notify(3)."""

import os
import socket
import time
from collections.abc import Mapping

SEND_TIMEOUT = 1.0


class Notifier:
    """Sends to ``$NOTIFY_SOCKET``; does nothing if that is unset, and never raises.

    The address is a path or, after ``@``, a name in the abstract namespace.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """Report that startup, or a reload, has finished."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` reports its end."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """Report that all is well; to be repeated within WatchdogSec= of the unit."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the stop has begun."""
        self._send("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Request ``seconds`` from now for a long startup or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_TIMEOUT)
                sender.sendto(message.encode(errors="replace"), self._address)
        except (OSError, ValueError):  # nobody is listening, or the address is invalid
            return
