"""No stream's name and no template leads out of the storage root, whatever they are made of."""

from datetime import datetime, timezone
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from centernetd.config import load
from centernetd.config.template import check
from centernetd.errors import ConfigError, SinkError
from centernetd.sink.storage import Storage

few = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = st.sampled_from(
    [
        *(
            "..",
            ".",
            "/",
            "//",
            "~",
            "{stream}",
            "{",
            "}",
            "%Y",
            "%d",
            "%%",
            "%",
            "%2e",
            "%2F",
            "%n",
        ),
        *("a", "\\", "\x00", "\n", "\u2024\u2024", "\uff0f", " ", "-", "C:", "x" * 90, "é"),
    ]
)
TEMPLATES = st.lists(PIECES, min_size=1, max_size=8).map("".join)
TIMES = st.integers(0, 4_000_000_000)


@few
@given(template=TEMPLATES, stream=st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True), at=TIMES)
def test_an_accepted_template_stays_under_the_root(
    tmp_path: Path, template: str, stream: str, at: int
) -> None:
    try:
        check(template)
    except ValueError:
        assume(False)
    root = tmp_path / "root"
    path = Storage(root).place(template, stream, float(at))
    assert path.resolve().is_relative_to(root.resolve())
    assert path.resolve() != root.resolve()
    assert path.parent.is_dir()
    assert {entry.name for entry in tmp_path.iterdir()} == {"root"}


@few
@given(template=TEMPLATES, at=TIMES)
def test_a_template_that_nobody_checked_stays_there_too(
    tmp_path: Path, template: str, at: int
) -> None:
    """The storage looks once more itself: it is what writes."""
    root = tmp_path / "root"
    try:
        path = Storage(root).place(template, "gate", float(at))
    except (SinkError, ValueError):
        return
    assert path.resolve().is_relative_to(root.resolve())


@few
@given(name=st.lists(PIECES, min_size=1, max_size=6).map("".join))
def test_a_stream_is_refused_for_a_name_that_is_more_than_a_name(tmp_path: Path, name: str) -> None:
    config = tmp_path / "config.yaml"
    cameras = tmp_path / "streams.d"
    cameras.mkdir(exist_ok=True)
    file = cameras / f"{name}.yaml"
    try:
        file.write_text("source: rtsp://192.0.2.1/")
    except (OSError, ValueError):
        assume(False)  # no file can be called that
    config.write_text("version: 1\n")
    try:
        streams = set(load(config).streams)
    except ConfigError:
        streams = set()
    finally:
        file.unlink()
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert all(set(stream) <= allowed for stream in streams)


def test_the_times_are_those_of_utc(tmp_path: Path) -> None:
    at = datetime(2026, 3, 29, 0, 59, 59, tzinfo=timezone.utc).timestamp()
    path = Storage(tmp_path).place("{stream}/%Y-%m-%d/%H.mp4", "gate", at)
    assert path == tmp_path / "gate" / "2026-03-29" / "00.mp4"
