"""A bounded channel whose writer never waits."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class ChannelClosedError(Exception):
    """The channel takes nothing more."""


class Channel(Generic[T]):
    """A bounded first-in first-out channel between threads.

    A full channel gives its oldest item back to whoever puts a new one; waiting for room is
    decided where it can be afforded, in `Lane.offer`. Several channels may announce what comes
    on one condition, so that one reader can wait for any of them. ``taken`` is called after
    each item that was taken, the condition's lock being held.
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
        """Append ``item``; returns the oldest item if it had to make room for this one.

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

    def take(self) -> T | None:
        """Return the oldest item, or None at once when nothing waits."""
        with self._arrived:
            if not self._items:
                return None
            item = self._items.popleft()
            self._taken()
            return item

    def peek(self) -> T | None:
        """Return the oldest item and leave it where it is."""
        with self._arrived:
            return self._items[0] if self._items else None

    def __iter__(self) -> Iterator[T]:
        """Yield items as they come, until the channel is closed and empty."""
        return self.before(self)

    def before(self, other: "Channel[S]") -> Iterator[T | S]:
        """Yield items of both as they come, those of this one first, until both are done.

        Both announce on one condition.
        """
        while True:
            with self._arrived:
                self._arrived.wait_for(
                    lambda: self._items or other._items or (self._closed and other._closed)
                )
                item = self.take()
                found: T | S | None = other.take() if item is None else item
            if found is None:
                return
            yield found

    def close(self) -> None:
        """Take nothing more and wake every waiter; what waits can still be read."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the channel takes nothing more."""
        return self._closed

    def __len__(self) -> int:
        return len(self._items)
