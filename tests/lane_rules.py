"""What may happen to any lane, for state machines that drive one."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from centernetd.flow import Backpressure, Lane
from tests.fakes import frame


class LaneRules(RuleBasedStateMachine):
    """Offers frames to a lane and ends it, in any way, and accounts for the frames not taken.

    Frame n was captured at second n. At most ``depth`` may be in a lane that blocks, and ``inbox``
    may wait in one that drops. A lane ends at the earliest after ``frames_before_end``.
    """

    backpressure: Backpressure
    depth: int
    inbox: int
    frames_before_end = 0
    lane: Lane

    def __init__(self) -> None:
        super().__init__()
        self.captured = 0
        self.waiting: deque[int] = deque()  # frames that no model has taken
        self.closed = self.gone = False

    @property
    def blocks(self) -> bool:
        return self.backpressure is Backpressure.BLOCK

    @property
    def capacity(self) -> int:
        return self.depth if self.blocks else self.inbox

    def beyond(self) -> int:
        """How many frames are in the lane and were taken."""
        raise NotImplementedError

    def lose_waiting(self) -> None:
        """Account for the loss of all frames that wait for a model."""
        self.waiting.clear()

    def would_block(self) -> bool:
        full = len(self.waiting) + self.beyond() >= self.depth
        return self.blocks and full and not self.closed

    @precondition(lambda self: not self.would_block())
    @rule()
    def offer(self) -> None:
        assert self.lane.offer(frame(self.captured, float(self.captured))) is not self.closed
        if not self.closed:
            self.waiting.append(self.captured)
            self.captured += 1
            if len(self.waiting) > self.capacity:
                self.waiting.popleft()

    @precondition(lambda self: self.captured >= self.frames_before_end)
    @rule(end=st.sampled_from([Lane.close, Lane.discard, Lane.abandon]))
    def end(self, end: object) -> None:
        assert callable(end)
        end(self.lane)
        self.closed = True
        if end is not Lane.close:
            self.lose_waiting()
        self.gone |= end is Lane.abandon  # what inference still brings is lost
