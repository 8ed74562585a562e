"""The bounded channel."""

import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.flow import Channel, ChannelClosedError
from tests.fakes import WAIT_TIMEOUT, wait_until


def test_items_come_out_in_the_order_they_went_in() -> None:
    channel = Channel[int](3)
    assert [channel.put(n) for n in range(3)] == [None, None, None]
    assert channel.peek() == 0
    assert [channel.take() for _ in range(4)] == [0, 1, 2, None]


def test_a_full_channel_gives_back_its_oldest() -> None:
    channel = Channel[int](2)
    assert [channel.put(n) for n in range(5)] == [None, None, 0, 1, 2]
    assert len(channel) == 2


def test_of_many_items_the_newest_stay_and_the_others_are_counted() -> None:
    channel = Channel[int](3)
    assert channel.put_all([0, 1], 3) == 0
    assert channel.put_all([2, 3, 4], 3) == 2
    assert channel.put_all([5], 2) == 2
    assert [channel.take() for _ in range(3)] == [4, 5, None]
    channel.close()
    with pytest.raises(ChannelClosedError):
        channel.put_all([6], 3)


def test_a_closed_channel_takes_nothing_and_can_be_read_to_its_end() -> None:
    channel = Channel[int](2)
    channel.put(1)
    channel.close()
    channel.close()
    with pytest.raises(ChannelClosedError):
        channel.put(2)
    assert channel.closed
    assert list(channel) == [1]


def test_close_wakes_every_reader() -> None:
    channel = Channel[int](1)
    readers = [threading.Thread(target=list, args=(channel,), daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    wait_until(lambda: len(channel._arrived._waiters) == 3)  # type: ignore[attr-defined]
    channel.close()
    for reader in readers:
        reader.join(WAIT_TIMEOUT)
    assert not any(reader.is_alive() for reader in readers)


def test_one_reader_can_wait_for_several_channels() -> None:
    moved = threading.Condition()
    channels = [Channel[int](1, moved) for _ in range(3)]
    writer = threading.Timer(0, lambda: channels[2].put(5))
    with moved:
        writer.start()  # it can't put before we wait
        assert moved.wait_for(lambda: any(map(len, channels)), WAIT_TIMEOUT)
    assert [channel.take() for channel in channels] == [None, None, 5]
    writer.join()


@given(st.integers(1, 4), st.lists(st.one_of(st.integers(), st.none()), max_size=40))
def test_nothing_is_lost_or_reordered(capacity: int, steps: list[int | None]) -> None:
    """A number is put, None takes: what was put comes out once, in order, evicted or taken."""
    channel = Channel[tuple[int, int]](capacity)
    came_out = []
    puts = [(index, value) for index, value in enumerate(steps) if value is not None]
    for index, value in enumerate(steps):
        item = channel.take() if value is None else channel.put((index, value))
        came_out += [item] if item else []
        assert len(channel) <= capacity
    channel.close()
    assert came_out + list(channel) == puts


def test_nothing_waits_in_an_empty_channel() -> None:
    channel = Channel[int](1)
    assert channel.peek() is None
    assert channel.take() is None


def test_what_comes_wakes_a_reader() -> None:
    channel, read = Channel[int](1), list[int]()
    reader = threading.Thread(target=lambda: read.extend(channel), daemon=True)
    reader.start()
    wait_until(lambda: bool(channel._arrived._waiters))  # type: ignore[attr-defined]
    channel.put(7)
    wait_until(lambda: read == [7] or len(channel) == 0)
    channel.close()
    reader.join(WAIT_TIMEOUT)
    assert read == [7]


def test_each_item_that_is_taken_is_reported_and_none_that_is_not() -> None:
    lengths: list[int] = []
    channel = Channel[int](2, taken=lambda: lengths.append(len(channel)))
    for number in range(3):
        channel.put(number)
    channel.peek()
    assert lengths == [], "putting and looking take nothing"
    assert list(iter(channel.take, None)) == [1, 2]
    assert lengths == [1, 0]


def test_a_reader_that_waits_holds_no_item() -> None:
    class Item:
        pass

    channel, items = Channel[Item](2), list[weakref.ref[Item]]()

    def read() -> None:
        for item in channel:
            items.append(weakref.ref(item))
            del item

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    channel.put(Item())
    wait_until(lambda: bool(items) and items[0]() is None)
    channel.close()
    reader.join(WAIT_TIMEOUT)
