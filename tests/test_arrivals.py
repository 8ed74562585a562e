"""The queue of lanes in random steps: each frame is counted once, each wake-up comes in time."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from centernetd.flow import CAPTURE, INFERENCE, Arrivals, Backpressure, Detections, Lane, Result
from centernetd.inference.collect import Batching, Forecast, Taken, collect
from tests.fakes import MODEL, FakeClock, detections, frame

NUMBERS = st.integers(0, 4)  # of lanes
STEP = 0.05  # seconds between two acts of others while the collector waits


class Lanes(RuleBasedStateMachine):
    """One thread acts for all: the captures, the collector and the supervisor."""

    @initialize(max_size=st.integers(1, 5), max_delay=st.sampled_from([0.0, 0.2]))
    def begin(self, max_size: int, max_delay: float) -> None:
        self.batching = Batching(max_size, max_delay)
        self.arrivals, self.forecast, self.now = Arrivals(), Forecast(), 100.0
        self.arrivals.wake = self._wake  # type: ignore[method-assign]
        self.lanes: list[Lane] = []
        self.running: list[Taken] = []
        self.abandoned: set[Lane] = set()
        self.ends = Counter[Lane]()
        self.offered = 0
        self.woken = False
        self.add(2)

    @rule(inbox=st.integers(1, 3))
    def add(self, inbox: int) -> None:
        policy, name = Backpressure.DROP_OLDEST, str(len(self.lanes))
        self.lanes.append(
            Lane(
                name,
                policy,
                depth=4,
                inbox=inbox,
                arrivals={MODEL: self.arrivals},
                sinks=[],
                max_frame_age=1.0,
            )
        )

    @rule(number=NUMBERS, age=st.sampled_from([0.0, 0.5, 2.0]), count=st.integers(1, 4))
    def offer(self, number: int, age: float, count: int) -> None:
        for _ in range(count):
            self._lane(number).offer(frame(self.offered, self.now - age))
            self.offered += 1

    @rule(size=st.integers(1, 5), seconds=st.sampled_from([0.1, 0.7]))
    def learn(self, size: int, seconds: float) -> None:
        self.forecast.learn(size, seconds)

    @rule(number=NUMBERS)
    def close(self, number: int) -> None:
        self._end(self._lane(number), Lane.close)

    def close_all(self, _: int) -> None:
        for lane in self.lanes:
            self._end(lane, Lane.close)

    @rule(number=NUMBERS)
    def discard(self, number: int) -> None:
        self._end(self._lane(number), Lane.discard)

    @rule(number=NUMBERS)
    def abandon(self, number: int) -> None:
        self._end(self._lane(number), Lane.abandon)
        self.abandoned.add(self._lane(number))

    def _end(self, lane: Lane, end: Callable[[Lane], None]) -> None:
        self.ends[lane] += 1
        end(lane)

    @rule()
    def deliver(self) -> None:
        for taken in self.running:
            found = taken.inbox.finish(taken.ticket, detections())
            if found is not None:
                taken.lane.deliver(Result(taken.frame, Detections.joined(found)))
        self.running = []

    @rule(
        acts=st.lists(
            st.tuples(NUMBERS, st.sampled_from(["offer"] * 4 + ["close", "discard", "close_all"])),
            max_size=8,
        )
    )
    def collect(self, acts: list[tuple[int, str]]) -> None:
        """Collect a batch, while others act whenever the collector waits."""
        steps = [partial(self._act, *act) for act in acts] + [self._come_late]
        self.held = sum(taken.lane not in self.abandoned for taken in self.running)
        clock = FakeClock()
        clock.time = self.now
        clock._script = [(0.0, lambda: self._others(clock, steps)) for _ in range(len(steps))]
        batch = collect(
            [lane.inboxes[MODEL] for lane in self.lanes],
            self.arrivals,
            self.batching,
            self.forecast,
            clock,
        )
        self.now = clock.time
        assert len(batch) <= self.batching.max_size
        for lane in self.lanes:
            mine = [taken.frame.frame_id for taken in batch if taken.lane is lane]
            assert mine == sorted(set(mine)), "out of order, or twice"
        self.running += batch

    def _others(self, clock: FakeClock, steps: list[Callable[[], None]]) -> None:
        """Act until the collector is woken, as it must be before a full lane loses a frame."""
        assert not any(lane.waiting for lane in self.lanes), "it waits although frames do too"
        self.woken = False
        while steps and not self.woken:
            steps.pop(0)()
            self._check_wake_up()
        clock.time += STEP

    def _check_wake_up(self) -> None:
        books = [lane.ledger.read() for lane in self.lanes]
        taken = sum(book.in_flight[INFERENCE] for book in books) - self.held
        enough = self.batching.max_size - taken if taken else 1
        waiting = sum(lane.waiting for lane in self.lanes)
        full = any(lane.waiting == lane.capacity for lane in self.lanes)
        over = all(lane.closed for lane in self.lanes)
        if waiting >= enough or full or over:
            assert self.woken

    def _act(self, number: int, act: str) -> None:
        if act == "offer":
            self.offer(number, 0.0, 1)
        else:
            getattr(self, act)(number)

    def _come_late(self) -> None:
        self.add(1)
        self.offer(-1, 0.0, 1)

    def _wake(self) -> None:
        self.woken = True

    def _lane(self, number: int) -> Lane:
        return self.lanes[number % len(self.lanes)]

    @invariant()
    def the_queue_is_of_the_lanes_with_frames(self) -> None:
        turns, announced = list(self.arrivals._turns), Counter(self.arrivals._announced)
        assert Counter(turns) == Counter(self.arrivals._queued), "a lane is in it twice"
        assert {lane.inboxes[MODEL] for lane in self.lanes if lane.waiting} <= {*turns, *announced}
        for lane in self.lanes:
            assert announced[lane.inboxes[MODEL]] <= lane.capacity + self.ends[lane], "not bounded"

    @invariant()
    def every_frame_is_in_one_place(self) -> None:
        held = Counter(taken.lane for taken in self.running)
        for lane in self.lanes:
            book = lane.ledger.read()
            assert book.balanced
            assert book.in_flight[CAPTURE] == lane.waiting
            assert book.in_flight[INFERENCE] == (0 if lane in self.abandoned else held[lane])


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
