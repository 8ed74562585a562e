import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from centernetd.config.values import (
    Duration,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


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
        ("5m", "'m' is not a known unit; write one of ms, s, min, h, d"),
        ("10GB", "'GB' is not a known unit"),
        ("-1s", "'-1s' is not a valid quantity"),
        ("1e3s", "not a valid quantity"),
        ("", "not a valid quantity"),
        ("99999d", "is more than 3650d"),
    ],
)
def test_a_wrong_duration_is_reported(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_duration(text)


def test_a_wrong_size_is_reported() -> None:
    with pytest.raises(ValueError, match="needs a unit, as in 500MB"):
        parse_size("50")


@given(st.integers(0, 10**8))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(0, 10**14))
def test_sizes_are_written_as_they_are_read(count: int) -> None:
    assert parse_size(format_size(count)) == count


def test_ten_years_are_the_longest_duration() -> None:
    assert parse_duration("3650d") == 3650 * 86_400
    with pytest.raises(ValueError, match="is more than 3650d"):
        parse_duration("3650.000001d")


FROM_FILE = {"from": "a file"}


@pytest.mark.parametrize(("kind", "unit"), [(Duration, "s"), (Size, "kB")])
@pytest.mark.parametrize("number", [5, 1.5])
def test_a_number_in_a_file_needs_a_unit_and_one_from_code_has_none(
    kind: type[float], unit: str, number: float
) -> None:
    adapter = TypeAdapter(kind)
    with pytest.raises(ValidationError, match="needs a unit"):
        adapter.validate_python(number, context=FROM_FILE)
    with pytest.raises(ValidationError, match="needs a unit"):
        adapter.validate_python(str(number))
    assert adapter.validate_python(2, context=None) == 2
    for context in (None, FROM_FILE):
        factor = {"s": 1, "kB": 1000}[unit]
        assert adapter.validate_python(f"{number}{unit}", context=context) == number * factor


@pytest.mark.parametrize("kind", [Duration, Size])
@pytest.mark.parametrize("context", [None, FROM_FILE])
def test_what_is_neither_text_nor_number_is_left_to_be_refused(
    kind: type[float], context: object
) -> None:
    with pytest.raises(ValidationError, match="valid"):
        TypeAdapter(kind).validate_python([], context=context)


def test_quantities_are_written_with_their_units() -> None:
    assert TypeAdapter(Duration).dump_json(90.0) == b'"90s"'
    assert TypeAdapter(Size).dump_json(5000) == b'"5kB"'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0005, "0.5ms"),
        (0.25, "250ms"),
        (1.0, "1s"),
        (1.5, "1500ms"),
        (90.0, "90s"),
        (120.0, "2min"),
        (5400.0, "90min"),
        (3600.0, "1h"),
        (14 * 86_400.0, "14d"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_keeps_it_whole(
    seconds: float, text: str
) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0TB"), (1, "1B"), (1500, "1500B"), (2000, "2kB"), (10**9, "1GB"), (2**30, f"{2**30}B")],
)
def test_a_size_is_written_in_the_largest_decimal_unit_that_keeps_it_whole(
    count: int, text: str
) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [("1MB", 10**6), ("1TB", 10**12), ("1KiB", 2**10), ("1MiB", 2**20), ("1TiB", 2**40)],
)
def test_prefixes_are_powers_of_1000_or_of_1024(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(("kind", "unit"), [(Duration, "min"), (Size, "GiB")])
def test_an_editor_is_shown_what_a_quantity_looks_like(kind: type[float], unit: str) -> None:
    schema = TypeAdapter(kind).json_schema()
    assert schema["type"] == "string"
    for text in (f"5{unit}", f"1.5 {unit}", "${NAME}", *schema["examples"]):
        assert re.search(schema["pattern"], text)
    for text in ("5", unit, f"-5{unit}", f"5{unit}s"):
        assert not re.search(schema["pattern"], text)
