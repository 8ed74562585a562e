"""A network of one's own: what a test starts in it can reach nothing else, and all is seen."""

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import pytest

from tests.tools import tool

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # sched.h
_ALL_PROTOCOLS, _OUTGOING = 3, 4  # if_ether.h, if_packet.h
_IPV4 = 0x0800
TCP = 6
_SOL_PACKET, _STATISTICS = 263, 6  # if_packet.h
_FORCE, _BUFFER = 33, 32 * 2**20  # SO_RCVBUFFORCE of socket.h; bytes


class Segment(NamedTuple):
    """A packet with data, as it was sent; of TCP, with the number of its first byte."""

    protocol: int
    source: int
    target: int
    number: int
    data: bytes


def in_a_network_of_its_own(function: Callable[[], T]) -> T:
    """Return what `function` does in a thread, and with processes, that have only themselves.

    Every address leads to the loopback device there. Without the right to do so (root's), the test
    is skipped, or fails where CI is set.
    """
    ip, results, failures = tool("ip"), list[T](), list[BaseException]()

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
                _give_up(os.strerror(ctypes.get_errno()))
            subprocess.run([ip, "link", "set", "lo", "up"], check=True)
            route = "route add local 0.0.0.0/0 dev lo"
            subprocess.run([ip, *route.split()], check=True)
            results.append(function())
        except BaseException as error:  # raised again by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _give_up(why: str) -> None:
    reason = f"no network of its own: {why}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def captured() -> Iterator[list[Segment]]:
    """Collect every packet with data that is sent in this network; complete at the end."""
    segments: list[Segment] = []
    done = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, _FORCE, _BUFFER)
        tap.settimeout(0.1)

        def read() -> None:
            while True:
                try:
                    packet, (_, protocol, kind, *_) = tap.recvfrom(2**17)
                except TimeoutError:
                    if done.is_set():
                        return
                    continue
                if kind == _OUTGOING:  # each is also seen as incoming
                    segments.extend(_parsed(protocol, packet))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield segments
        finally:
            done.set()
            reader.join()
            statistics = tap.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        assert struct.unpack("II", statistics)[1] == 0, "packets were not seen"


def _parsed(protocol: int, packet: bytes) -> Iterator[Segment]:
    """Yield the packet of IPv4 (RFC 791), TCP (RFC 9293) or anything else, if it has data."""
    if protocol != _IPV4:
        yield Segment(protocol, 0, 0, 0, packet)
        return
    length = int.from_bytes(packet[2:4], "big")
    body = packet[4 * (packet[0] & 15) : length]
    if packet[9] != TCP:
        yield Segment(packet[9], 0, 0, 0, body)
        return
    source, target, number = struct.unpack(">HHI", body[:8])
    if data := body[4 * (body[12] >> 4) :]:
        yield Segment(TCP, source, target, number, data)


def sent_by(segments: Sequence[Segment], port: int) -> Mapping[int, bytes]:
    """Return what a TCP port sent, put together, by the port to which it was sent."""
    parts: dict[int, dict[int, bytes]] = defaultdict(dict)
    for segment in segments:
        if segment.protocol == TCP and segment.source == port:
            parts[segment.target][segment.number] = segment.data
    return {
        target: b"".join(parts[target][number] for number in sorted(parts[target]))
        for target in parts
    }
