"""A named thread that reports how it ended, and what wakes the thread that supervises it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from centernetd.errors import StartupError


@contextmanager
def starting(name: str) -> Iterator[None]:
    """Raise `StartupError` if the system refuses to create the thread started inside."""
    try:
        yield
    except RuntimeError as error:
        raise StartupError(
            f"no thread for {name}: {error}; allow the daemon more of them (TasksMax= of "
            "its unit, ulimit -u)"
        ) from None


class Runner(Protocol):
    """Runs one stage: in a thread of its own (`Worker`), or in one that others use too."""

    name: str

    def prepare(self) -> None:
        """Allocate the thread, so that `start` can't fail; raises StartupError."""

    def start(self) -> None:
        """Start the work; raises as `prepare` does if that was not called."""

    def cancel(self) -> None:
        """Prevent the work unless it has started."""

    def join(self, deadline: float) -> bool:
        """Wait until the monotonic time ``deadline``; return whether the work has ended."""

    @property
    def alive(self) -> bool:
        """Whether the work has begun and not ended."""


class Worker(Runner):
    """Runs one stage in its own thread.

    ``run`` returns when its work is done, or raises. Either way ``on_exit`` is called in that
    thread with the worker, whose ``error`` is the exception or None. The thread is a daemon
    thread, so that one lost in native code can't keep the process alive.
    """

    def __init__(
        self, name: str, run: Callable[[], None], on_exit: Callable[["Worker"], None]
    ) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._run = run
        self._on_exit = on_exit
        self._begun = threading.Event()
        self._cancelled = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def prepare(self) -> None:
        """Create the thread; it waits for `start`, which then can't fail.

        Raises
        ------
        StartupError
            When the system can't create more threads.
        """
        if self._thread.ident is not None:
            return
        with starting(self.name):
            self._thread.start()

    def start(self) -> None:
        """Start the work; raises as `prepare` does if that was not called."""
        self.prepare()
        self._begun.set()

    def cancel(self) -> None:
        """End the thread, or prevent its creation, unless the work has started."""
        if not self._begun.is_set():
            self._cancelled = True
            self._begun.set()

    def join(self, deadline: float) -> bool:
        """Wait until the monotonic time ``deadline``; return whether the thread has ended."""
        if self.alive:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _main(self) -> None:
        self._begun.wait()
        if self._cancelled:
            return
        try:
            self._run()
        except BaseException as error:
            self.error = error
        finally:
            self._on_exit(self)


class WakeUp:
    """Wakes the one thread that waits; may be set by any thread and by a signal handler.

    A handler interrupts its thread anywhere. If that thread held the lock inside an Event, and
    the handler waited for it, both would wait forever; `SimpleQueue.put` takes no lock.
    """

    def __init__(self) -> None:
        self._pending: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Wake the waiting thread, or make its next wait return immediately."""
        self._pending.put(None)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is set, at most ``timeout`` seconds, and reset it."""
        with suppress(Empty):
            self._pending.get(timeout=timeout)
        for _ in range(self._pending.qsize()):
            self._pending.get_nowait()
