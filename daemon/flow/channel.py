"""A bounded channel whose writer never waits."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosedError(Exception):
    """The channel takes nothing more."""


class Channel(Generic[T]):
    """A bounded first-in first-out channel between threads.

    A full channel gives its oldest item back to whoever puts a new one; waiting for room is
    decided where it can be afforded, in `Lane.offer`. Several channels may be built on one
    condition, so that one reader can wait for any of them.
    """

    def __init__(self, capacity: int, condition: threading.Condition | None = None) -> None:
        self.capacity = capacity
        self._moved = condition or threading.Condition()
        self._items: deque[T] = deque()
        self._closed = False

    def put(self, item: T) -> T | None:
        """Append ``item``; returns the oldest item if it had to make room for this one.

        Raises
        ------
        ChannelClosedError
            When the channel is closed.
        """
        with self._moved:
            if self._closed:
                raise ChannelClosedError
            evicted = self._items.popleft() if len(self._items) >= self.capacity else None
            self._items.append(item)
            self._moved.notify_all()
            return evicted

    def take(self) -> T | None:
        """Return the oldest item, or None at once when nothing waits."""
        with self._moved:
            if not self._items:
                return None
            self._moved.notify_all()
            return self._items.popleft()

    def peek(self) -> T | None:
        """Return the oldest item and leave it where it is."""
        with self._moved:
            return self._items[0] if self._items else None

    def __iter__(self) -> Iterator[T]:
        """Yield items as they come, until the channel is closed and empty."""
        while True:
            with self._moved:
                self._moved.wait_for(lambda: self._items or self._closed)
                item = self.take()
            if item is None:
                return
            yield item

    def close(self) -> None:
        """Take nothing more and wake every waiter; what waits can still be read."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the channel takes nothing more."""
        return self._closed

    def __len__(self) -> int:
        return len(self._items)
