"""The threads that write for all streams what needs no pixels: one, as long as no disk hangs."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from centernetd.errors import StartupError
from centernetd.flow import Incident, Runner, WakeUp, Worker
from centernetd.sink.stage import IDLE, BatchStage

log = logging.getLogger(__name__)

_WINDOW = 0.1  # seconds for which results are gathered before they are written
_PATIENCE = 0.1  # seconds after which another thread writes what one has not come to


class WriterPool:
    """Gives each `BatchStage` a turn when something waits for it, in as few threads as possible.

    One thread waits for that. Before it begins to write, it hands the waiting over to another one,
    which becomes the next to write: normally, two threads alternate. A stage is only ever in one
    thread's hands. So a write that hangs keeps one thread and one stream, and the others are
    written by the thread that waited; it starts another in its place. A thread that is not needed
    any more ends. There are never more than one per stage and one that waits.
    """

    def __init__(self, name: str, make_worker: Callable[[str, Callable[[], None]], Worker]) -> None:
        """Name the threads ``name``; ``make_worker`` returns the worker that runs a callable."""
        self._name = name
        self._make_worker = make_worker
        self._tasks: Sequence[PoolTask] = ()  # replaced as a whole: read without the lock
        self._leading = threading.Lock()  # held by the one thread that waits for results
        self._arrived = WakeUp()
        self._announced = self._urgent = False
        self._lock = threading.Lock()  # for what follows; nothing else is acquired under it
        self._threads = 0
        self._writing = 0
        self._closed = False
        self._shortage = Incident()

    def announce(self, urgent: bool) -> None:
        """Note that results wait or an outlet has closed; called by any thread, returns at once.

        Unless ``urgent``, what arrives in the next 100 ms is written together.
        """
        if not self._announced or (urgent and not self._urgent):
            self._announced = True
            if urgent:
                self._urgent = True
            self._arrived.set()

    def prepare(self) -> None:
        """Start the two threads that are always needed, unless they run.

        Raises
        ------
        StartupError
            When the system can't create more threads.
        """
        while self._threads < 2:
            self._start_thread()

    def close(self) -> None:
        """End every thread; one that hangs ends when its write returns."""
        self._closed = True
        self._arrived.set()

    def add(self, task: "PoolTask") -> None:
        """Give ``task`` turns from now on."""
        with self._lock:
            self._tasks = (*self._tasks, task)
        self.announce(True)

    def _start_thread(self) -> None:
        with self._lock:
            self._threads += 1
        try:
            self._make_worker(self._name, self._run).start()
        except StartupError:
            with self._lock:
                self._threads -= 1
            raise

    def _run(self) -> None:
        while True:
            with self._leading:
                if not self._wait():
                    self._arrived.set()  # for the next one
                    return
                with self._lock:
                    self._writing += 1
                self._ensure_successor()
            self._give_turns()
            with self._lock:
                self._writing -= 1
                if self._threads - self._writing > 2:
                    self._threads -= 1
                    return

    def _wait(self) -> bool:
        """Wait until results have been announced and gathered; return False once closed."""
        # A thread that writes may hang, and what it had not come to is not announced again.
        # Without results, a stage may have been idle for long enough to complete its output.
        self._arrived.wait(_PATIENCE if self._writing else IDLE)
        if self._announced and not self._urgent and not self._closed:
            self._arrived.wait(_WINDOW)
        self._announced = self._urgent = False  # before looking at the outlets
        return not self._closed

    def _ensure_successor(self) -> None:
        """Start a thread if no other is left to wait, and each that writes may hang."""
        if self._threads > min(self._writing, len(self._tasks)):
            return
        try:
            self._start_thread()
            self._shortage.resolved()
        except StartupError as error:
            if self._shortage.occurred():
                log.error("if another write hangs, every stream waits for it: %s", error)  # noqa: TRY400

    def _give_turns(self) -> None:
        for task in self._tasks:
            if task.take_turn():
                self.announce(True)  # more arrived meanwhile; another thread may have passed it by
            if task.ended:
                with self._lock:
                    self._tasks = tuple(other for other in self._tasks if other is not task)


class PoolTask(Runner):
    """A stage that is run by a pool; it looks like a thread to whoever stops or supervises it."""

    def __init__(self, name: str, stage: BatchStage, pool: WriterPool) -> None:
        self.name = name
        self._stage = stage
        self._pool = pool
        self._turn = threading.Lock()  # held by the thread that has the stage in its hands
        self._started = False
        self._cancelled = False
        self._ended = threading.Event()

    def prepare(self) -> None:
        """Prepare the pool's threads; see `Runner`."""
        self._pool.prepare()

    def start(self) -> None:
        """Join the pool; see `Runner`."""
        if not self._started and not self._cancelled:
            self.prepare()
            self._started = True
            self._pool.add(self)

    def cancel(self) -> None:
        """Never join the pool, unless that has happened."""
        self._cancelled = True

    def join(self, deadline: float) -> bool:
        """Wait until ``deadline``; see `Runner`."""
        if self.alive:
            self._ended.wait(max(0.0, deadline - time.monotonic()))
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the stage has begun and not ended."""
        return self._started and not self.ended

    @property
    def ended(self) -> bool:
        """Whether the stage has finished its output."""
        return self._ended.is_set()

    def take_turn(self) -> bool:
        """Give the stage a turn if it is due and not in the hands of another thread.

        Return whether it is due again.
        """
        if not self._stage.due or not self._turn.acquire(blocking=False):
            return False
        try:
            if self._stage.due:  # still
                self._stage.turn()
        finally:
            self._turn.release()
        if self._stage.ended:
            self._ended.set()
        return self._stage.due
