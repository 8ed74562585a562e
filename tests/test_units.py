import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("5min", 300), ("2h", 7200), ("14d", 1209600), ("1.5 s", 1.5)],
)
def test_a_duration_becomes_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"), [("0B", 0), ("50GB", 50 * 10**9), ("1GiB", 2**30), ("1.5 kB", 1500)]
)
def test_a_size_becomes_bytes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("500", "'500' needs a unit, as in 500ms, 10s, 5min, 14d"),
        ("5m", "'m' is no known unit; write one of ms, s, min, h, d"),
        ("10GB", "'GB' is no known unit"),
        ("-1s", "'-1s' is no such quantity"),
        ("1e3s", "no such quantity"),
        ("", "no such quantity"),
        ("99999d", "is more than 3650d"),
    ],
)
def test_a_wrong_duration_is_told(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_duration(text)


def test_a_wrong_size_is_told() -> None:
    with pytest.raises(ValueError, match="needs a unit, as in 500MB"):
        parse_size("50")


@given(st.integers(0, 10**8))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(0, 10**14))
def test_sizes_are_written_as_they_are_read(count: int) -> None:
    assert parse_size(format_size(count)) == count
