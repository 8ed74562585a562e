"""The bell: who waits is woken, whoever rings and wherever that interrupts."""

import sys
import threading
from types import FrameType
from typing import Any

from centernetd.flow import Bell
from tests.fakes import PATIENCE


def test_a_ring_wakes_and_all_that_came_count_as_one() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    bell.wait()
    bell.wait(0.0)
    threading.Thread(target=bell.ring).start()
    bell.wait()


def test_a_handler_may_ring_wherever_it_interrupts_the_one_who_waits() -> None:
    bell, rung = Bell(), []

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        bell.ring()
        rung.append((frame.f_code.co_name, event))
        return interrupt

    def wait() -> None:
        sys.settrace(interrupt)
        for _ in range(3):
            bell.wait(0.001)
        bell.ring()
        sys.settrace(None)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waiter.join(PATIENCE)
    assert not waiter.is_alive(), f"hangs since it was rung in {rung[-1]}"
    assert {name for name, _ in rung} >= {"wait", "ring"}
