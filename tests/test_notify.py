"""The sd_notify protocol, received on a real socket as systemd would."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from centernetd.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that receives notifications, bound to a path or to an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        abstract = f"\0centernetd-test-{os.getpid()}"
        receiver.bind(abstract if request.param == "abstract" else str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def notifier(systemd: socket.socket) -> Notifier:
    name = systemd.getsockname()
    address = "@" + name[1:].decode() if isinstance(name, bytes) else name
    return Notifier({"NOTIFY_SOCKET": address})


def test_messages(systemd: socket.socket) -> None:
    notify = notifier(systemd)
    notify.ready()
    notify.status("2 streams,\n 50.0 fps")
    notify.watchdog()
    notify.stopping()
    notify.extend_timeout(90.5)
    assert [systemd.recv(4096).decode() for _ in range(5)] == [
        "READY=1",
        "STATUS=2 streams, 50.0 fps",
        "WATCHDOG=1",
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=90500000",
    ]


def test_a_status_can_smuggle_in_no_other_message(systemd: socket.socket) -> None:
    notifier(systemd).status("gate lost\nMAINPID=1")
    assert systemd.recv(4096) == b"STATUS=gate lost MAINPID=1"


@pytest.mark.parametrize(
    "address", [None, "", "@", "/nowhere/notify", "@nobody-listens", "x" * 300, "a\0b", "\ud800"]
)
def test_without_a_listener_nothing_happens(address: str | None) -> None:
    notify = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    notify.ready()
    notify.status("\ud800")


def test_a_full_socket_is_waited_for_only_so_long(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("centernetd.service.notify.SEND_TIMEOUT", 0.01)
    notify = notifier(systemd)
    for _ in range(2000):  # more than a queue of datagrams holds
        notify.watchdog()
        if len(systemd.recv(64, socket.MSG_PEEK)) and _queue_is_full(systemd):
            break
    else:
        pytest.fail("the queue never filled")
    notify.watchdog()


def _queue_is_full(systemd: socket.socket) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.sendto(b"probe", systemd.getsockname())
        except BlockingIOError:
            return True
    return False
