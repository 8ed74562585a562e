"""A bounded channel whose writer never blocks."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class ChannelClosedError(Exception):
    """The channel is closed for writing."""


class Channel(Generic[T]):
    """A bounded first-in first-out channel between threads.

    Putting an item into a full channel returns the oldest one; whether to wait for room is
    decided where waiting is acceptable, in `Lane.offer`. ``taken`` is called after each taking,
    with the lock of ``arrived`` held.
    """

    def __init__(
        self,
        capacity: int,
        arrived: threading.Condition | None = None,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self.capacity = capacity
        self._arrived = arrived or threading.Condition()
        self._taken = taken
        self._items: deque[T] = deque()
        self._closed = False

    def put(self, item: T) -> T | None:
        """Append ``item``; return the oldest item if it was removed to make room.

        Raises
        ------
        ChannelClosedError
            When the channel is closed.
        """
        with self._arrived:
            if self._closed:
                raise ChannelClosedError
            evicted = self._items.popleft() if len(self._items) >= self.capacity else None
            self._items.append(item)
            self._arrived.notify_all()
            return evicted

    def put_all(self, items: Iterable[T], limit: int) -> int:
        """Append ``items``; return how many of the oldest were removed, so that ``limit`` remain.

        Raises
        ------
        ChannelClosedError
            When the channel is closed.
        """
        with self._arrived:
            if self._closed:
                raise ChannelClosedError
            self._items.extend(items)
            evicted = 0
            while len(self._items) > limit:
                self._items.popleft()
                evicted += 1
            self._arrived.notify_all()
            return evicted

    def take(self) -> T | None:
        """Return the oldest item, or None immediately if the channel is empty."""
        with self._arrived:
            if not self._items:
                return None
            item = self._items.popleft()
            self._taken()
            return item

    def take_all(self) -> list[T]:
        """Return everything that waits, oldest first."""
        with self._arrived:
            items = list(self._items)
            self._items.clear()
            if items:
                self._taken()
            return items

    def peek(self) -> T | None:
        """Return the oldest item without removing it."""
        with self._arrived:
            return self._items[0] if self._items else None

    def __iter__(self) -> Iterator[T]:
        """Yield items as they arrive, until the channel is closed and empty."""
        return self.each()

    @overload
    def each(self, patience: None = None) -> Iterator[T]: ...

    @overload
    def each(self, patience: float | None) -> Iterator[T | None]: ...

    def each(self, patience: float | None = None) -> Iterator[T | None]:
        """Yield items as they arrive, and None whenever none has for ``patience`` seconds."""
        while True:
            with self._arrived:
                done = self._arrived.wait_for(lambda: self._items or self._closed, patience)
                item = self.take()
            if item is None and done:
                return
            yield item
            item = None  # while waiting, nothing is held: pictures are large

    def close(self) -> None:
        """Reject further items and wake every waiter; queued items can still be read."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()

    @property
    def closed(self) -> bool:
        """Whether further items are rejected."""
        return self._closed

    def __len__(self) -> int:
        return len(self._items)
