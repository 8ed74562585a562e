"""How the fault suite counts what a camera that is well has lost: at its ends too."""

import pytest

from tests.faults.evidence import missing

RATE = 10
ALL = [n / RATE for n in range(100)]


@pytest.mark.parametrize(
    ("times", "lost"),
    [
        (ALL, 0),
        (ALL[:40] + ALL[41:], 1),
        (ALL[:50], 40),
        (ALL[20:], 9),
        (ALL[10:11], 79),
        ([], 79),
    ],
    ids=["none", "one in between", "the end", "the beginning", "all but one", "all"],
)
def test_missing_frames_are_counted_wherever_they_are(times: list[float], lost: int) -> None:
    assert missing(times, RATE, since=1.0, until=9.0) == lost
