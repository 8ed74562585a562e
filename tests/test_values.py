import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from centernetd.config import SourceUri
from centernetd.config.values import (
    MAX_BATCH_SIZE,
    Address,
    BatchSize,
    Duration,
    EventsPath,
    HostAndPort,
    ListenAddress,
    Name,
    PathText,
    RecordingPath,
    Side,
    Size,
    SourceAddress,
    Version,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from centernetd.config.variables import Expanded


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


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:10864", "127.0.0.1", 10864),
        ("camera-7.example:0", "camera-7.example", 0),
        ("h:65535", "h", 65535),
        ("[::1]:80", "::1", 80),
        ("[2001:DB8::192.0.2.1]:1", "2001:DB8::192.0.2.1", 1),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert address == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "h", "h:", ":80", "h:65536", "h:99999", "h:100000", "h:-1", "::1:80", "[h]:80", "h:80 "],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT: write it as in "):
        Address.parse(text)


def test_an_address_in_brackets_is_of_ipv6() -> None:
    with pytest.raises(ValueError, match="1::2::3"):
        Address.parse("[1::2::3]:80")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example.com", False),
    ],
)
def test_it_is_known_whether_only_this_machine_can_connect(host: str, is_loopback: bool) -> None:
    assert Address(host, 80).is_loopback == is_loopback


def test_an_address_is_text_in_a_file_and_may_be_an_object_in_code() -> None:
    adapter = TypeAdapter(ListenAddress)
    address = Address("::1", 80)
    assert adapter.validate_python(address) is address
    assert adapter.validate_python("[::1]:80") == address
    assert adapter.dump_json(address) == b'"[::1]:80"'
    assert adapter.dump_python(address) == address
    with pytest.raises(ValidationError, match="write HOST:PORT, as in "):
        adapter.validate_python(10864)
    schema = adapter.json_schema()
    assert schema["type"] == "string"
    assert [str(Address.parse(example)) for example in schema["examples"]] == schema["examples"]


@pytest.mark.parametrize(
    "value",
    ["media.example.com", "192.0.2.7:8080", "h:65535", "[::1]", "[::1]:80", "Media.Example.COM"],
)
def test_a_host_may_have_a_port(value: str) -> None:
    assert TypeAdapter(HostAndPort).validate_python(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "h:",
        "h:port",
        "h:0",
        "h:65536",
        "[::1]:",
        "[::1",
        "h/path",
        "h?query",
        "h#part",
        "user@h",
        "@h",
        "user:pw@h:80",
        "http://h",
    ],
)
def test_what_is_no_host_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="is not a host: write it as in media"):
        TypeAdapter(HostAndPort).validate_python(value)


def test_a_source_is_text_in_a_file_and_may_be_an_object_in_code() -> None:
    adapter = TypeAdapter(SourceAddress)
    source = SourceUri("rtsp://h/x")
    assert adapter.validate_python(source) is source
    assert adapter.validate_python("rtsp://h/x") == source
    assert adapter.json_schema() == {"type": "string"}
    with pytest.raises(ValidationError, match="is not text"):
        adapter.validate_python(["rtsp://h/x"])


def test_what_a_variable_added_to_a_source_is_secret() -> None:
    text = Expanded("rtsp://h/live/s3cr3t")
    text.substituted = ("s3cr3t",)
    source = TypeAdapter(SourceAddress).validate_python(text)
    assert str(source) == "rtsp://h/live/***"
    assert source.reveal() == text


def test_a_recording_is_an_mp4_below_the_root() -> None:
    adapter = TypeAdapter(RecordingPath)
    assert adapter.validate_python("{stream}/%Y-%m-%d.mp4") == "{stream}/%Y-%m-%d.mp4"
    for value, reason in (("a.mkv", "must end in .mp4"), ("/a.mp4", "must be relative")):
        with pytest.raises(ValidationError, match=reason):
            adapter.validate_python(value)


@pytest.mark.parametrize("path", [".centernetd.lock", ".{stream}.lock", "{stream}.mp4.part"])
def test_events_are_not_written_to_what_the_daemon_uses_itself(path: str) -> None:
    with pytest.raises(ValidationError, match="which the daemon uses itself"):
        TypeAdapter(EventsPath).validate_python(path)


def test_a_name_that_is_nearly_the_daemons_own_is_accepted() -> None:
    for path in ("a/.centernetd.lock", ".centernetd.jsonl", "{stream}.lock", "a.part/x.jsonl"):
        assert TypeAdapter(EventsPath).validate_python(path) == path


def test_a_batch_is_of_a_fixed_size_or_auto() -> None:
    adapter = TypeAdapter(BatchSize)
    for value in ("auto", 1, MAX_BATCH_SIZE):
        assert adapter.validate_python(value) == value
    for wrong in ("Auto", "8", 0, MAX_BATCH_SIZE + 1, -1, True, 8.0, None):
        with pytest.raises(ValidationError, match="must be auto or a whole number from 1 to 64"):
            adapter.validate_python(wrong)
    auto, number = adapter.json_schema()["anyOf"]
    assert auto == {"const": "auto"}
    assert number == {"type": "integer", "minimum": 1, "maximum": 64}


def test_the_format_has_one_version() -> None:
    adapter = TypeAdapter(Version)
    assert adapter.validate_python(1) == 1
    assert adapter.json_schema() == {"const": 1}
    for wrong in (0, 2, True, 1.0, "1", None):
        with pytest.raises(ValidationError, match="must be 1: no other version"):
            adapter.validate_python(wrong)


def test_a_path_is_text_that_can_be_printed() -> None:
    adapter = TypeAdapter(PathText)
    assert adapter.validate_python("models/Büro 1.onnx") == "models/Büro 1.onnx"
    for wrong in ("", "a\nb", "a\0"):
        with pytest.raises(ValidationError, match="is empty or contains control characters"):
            adapter.validate_python(wrong)


def test_a_side_of_the_input_is_from_32_to_4096() -> None:
    adapter = TypeAdapter(Side)
    assert [adapter.validate_python(side) for side in (32, 4096)] == [32, 4096]
    for wrong in (31, 4097):
        with pytest.raises(ValidationError, match="or equal to"):
            adapter.validate_python(wrong)


def test_a_stream_is_named_by_up_to_63_letters_figures_and_dashes() -> None:
    adapter = TypeAdapter(Name)
    for name in ("a", "gate-2_b", "0", "x" * 63):
        assert adapter.validate_python(name) == name
    for wrong in ("", "Gate", "a b", "a/b", "a.b", "é", "x" * 64):
        with pytest.raises(ValidationError, match="pattern"):
            adapter.validate_python(wrong)
