"""Things of the operating system that hang: a file system, a name server; and systemd's ear."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.gstreamer import absent
from tests.tools import tool

_WAIT_TIMEOUT = 30.0  # seconds


@contextmanager
def file_system(mount: Path, backing: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Mount a file system of a process that may be stopped: then whoever uses it hangs."""
    for folder in (mount, backing):
        folder.mkdir(parents=True)
    server = subprocess.Popen([tool("bindfs"), "-f", str(backing), str(mount)])
    try:
        deadline = time.monotonic() + _WAIT_TIMEOUT
        while not mount.is_mount():
            if server.poll() is not None:
                absent("FUSE (/dev/fuse)")
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield server
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "--lazy", str(mount)], check=False)
        server.kill()
        server.wait()


@contextmanager
def name_server(folder: Path) -> Iterator[Sequence[str]]:
    """Give what to put before a command that is to have a name server that never answers.

    A look-up then hangs for minutes in the C library, where nothing can wake it; needs root.
    """
    if os.geteuid() != 0:
        absent("root, to mount another /etc/resolv.conf")
    address = f"127.66.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    settings = folder / "resolv.conf"
    settings.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((address, 53))
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        yield [tool("unshare"), "--mount", "sh", "-c", script, str(settings)]


class ServiceManager:
    """Receives the notifications for systemd; used in a with statement."""

    def __init__(self, folder: Path, interval: float) -> None:
        """Listen in ``folder``, asking for a ping every ``interval`` seconds."""
        self._interval = interval
        self._marked = 0.0
        self._pings: list[float] = []
        address = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._thread = threading.Thread(target=self._listen)
        self.environ = {
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": str(int(2e6 * interval)),
        }

    def __enter__(self) -> "ServiceManager":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()

    def mark(self) -> None:
        """Begin to count the seconds."""
        self._marked = time.monotonic()

    def until_silent(self) -> float:
        """Wait until four pings have failed to come; returns the seconds from `mark` to the last.

        Fails when they go on.
        """
        step = threading.Event()
        while (now := time.monotonic()) < (last := self._pings[-1]) + 4 * self._interval:
            assert now < self._marked + _WAIT_TIMEOUT, "the pings go on"
            step.wait(self._interval / 10)
        return max(0.0, last - self._marked)

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            if b"WATCHDOG=1" in message:
                self._pings.append(time.monotonic())
