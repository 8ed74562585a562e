"""GStreamer's RTSP server as a process: killed, frozen, or behind a dead network."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools import tool

SERVER = Path(__file__).with_name("gst_server.py")
CODECS = ("h264", "h265")
PYTHON = "/usr/bin/python3"  # the one that has Debian's bindings
_NEEDS = "gir1.2-gst-rtsp-server-1.0"


@contextmanager
def gstreamer(port: int, prefix: Sequence[str] = ()) -> Iterator["subprocess.Popen[str]"]:
    """Run the server, with ``prefix`` before its command, for as long as this is entered."""
    command = [*prefix, PYTHON, str(SERVER), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != "serving\n":
                absent(_NEEDS)
            yield server
        finally:
            server.kill()


@contextmanager
def network() -> Iterator["Network"]:
    """Give a network namespace that is reached over one link; needs root."""
    ip = tool("ip")
    if os.geteuid() != 0:
        absent("root, to make a network namespace")
    made = Network(ip, f"cnd{os.getpid()}")
    try:
        made.build()
        yield made
    finally:
        made.destroy()


class Network:
    """A namespace at the other end of a virtual cable."""

    def __init__(self, ip: str, name: str) -> None:
        self._ip, self._name = ip, name
        self._here = f"198.18.{os.getpid() // 64 % 256}.{os.getpid() % 64 * 4 + 1}"  # RFC 2544
        head, _, last = self._here.rpartition(".")
        self.address = f"{head}.{int(last) + 1}"
        self.prefix = [ip, "netns", "exec", name]

    def build(self) -> None:
        inside = ["-n", self._name]
        self._do("netns", "add", self._name)
        self._do("link", "add", self._name, "type", "veth", "peer", "eth0", "netns", self._name)
        self._do("address", "add", f"{self._here}/30", "dev", self._name)
        self._do("link", "set", self._name, "up")
        self._do(*inside, "address", "add", f"{self.address}/30", "dev", "eth0")
        self._do(*inside, "link", "set", "eth0", "up")
        self._do(*inside, "link", "set", "lo", "up")

    def blackhole(self) -> None:
        """Let nothing come back from there any more, without a word."""
        self._do("-n", self._name, "route", "add", "blackhole", self._here)

    def restore(self) -> None:
        self._do("-n", self._name, "route", "delete", "blackhole", self._here)

    def destroy(self) -> None:
        for what in (("link", "delete", self._name), ("netns", "delete", self._name)):
            subprocess.run([self._ip, *what], check=False, capture_output=True)

    def _do(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], check=True, capture_output=True, text=True)


def absent(what: str) -> None:
    """Skip, or fail where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(f"this needs {what}")
    pytest.skip(f"this needs {what}")
