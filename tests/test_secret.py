import contextlib
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import SourceUri, redact

PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:hunter2@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("rtsp://admin:hu@nter2@10.0.0.1:554/a", "rtsp://***@10.0.0.1:554/a"),
        (
            "http://h/video?user=a&password=hunter2&x=1",
            "http://h/video?user=***&password=***&x=***",
        ),
        ("https://h/v?access_token=abc#t", "https://h/v?access_token=***#***"),
        ("rtsp://h:554/user=admin_password=abc_channel=1", "rtsp://h:554/user=***"),
        ("http://h/video", "http://h/video"),
        ("v4l2:0", "v4l2:0"),
        ("clips/a b.mp4", "clips/a b.mp4"),
    ],
)
def test_prints_without_its_password(text: str, shown: str) -> None:
    source = SourceUri(text)
    assert str(source) == shown
    assert repr(source) == f"SourceUri({shown!r})"
    assert f"{source}" == shown
    assert source.reveal() == text


@given(PRINTABLE)
def test_no_password_gets_through(password: str) -> None:
    url = f"rtsp://me:{password}@camera.example/stream"
    assert redact(f"could not open {url}") == "could not open rtsp://***@camera.example/stream"
    with contextlib.suppress(ValueError):  # one with "/" or "?" is refused
        assert str(SourceUri(url)) == "rtsp://***@camera.example/stream"


def test_knows_its_secrets_raw_and_encoded() -> None:
    source = SourceUri("rtsp://a:p%40ss word@h/x?token=t/1".replace(" ", "+"))
    assert {"p%40ss+word", "p@ss+word", "p%40ss%2Bword", "t/1", "t%2F1"} <= source.secrets()
    assert SourceUri("rtsp://h/x").secrets() == frozenset()


def test_knows_its_password_as_an_authorization_header_has_it() -> None:
    # RFC 7617's own example
    secrets = SourceUri("http://Aladdin:open%20sesame@h/x").secrets()
    assert "QWxhZGRpbjpvcGVuIHNlc2FtZQ==" in secrets


def test_a_value_from_outside_is_secret_wherever_it_stands() -> None:
    source = SourceUri("rtsp://h/live/s3cr3t/1", taken=["s3cr3t"])
    assert str(source) == "rtsp://h/live/***/1"
    assert source.secrets() == {"s3cr3t"}


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("rtsp://h/x", "rtsp"),
        ("RTSPS://h/x", "rtsps"),
        ("http://[::1]:80/x", "http"),
        ("https://h", "https"),
        ("v4l2:12", "v4l2"),
        ("v4l2:/dev/v4l/by-id/usb-cam_1.0", "v4l2"),
        ("a.mp4", "file"),
        ("./a:b.mp4", "file"),
    ],
)
def test_knows_its_scheme(text: str, scheme: str) -> None:
    source = SourceUri(text)
    assert source.scheme == scheme
    assert source.is_file == (scheme == "file")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb.mp4",
        "file:///etc/passwd",
        "ftp://u:hunter2@h/x",
        "concat:a|b",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "a:b.mp4",
        "rtsp:/u:hunter2@h",
        "rtsp://",
        "rtsp://u:hunter2/x@h/s",
        "rtsp://u:hunter2@h:port/s",
        "rtsp://u:hunter 2@h/s",
        "http://[::1/x",
        "v4l2:front",
        "/dev/video0",
        "rtsp://u:hunter2@h/" + "x" * 2048,
    ],
)
def test_refuses_what_is_not_read_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) ") as caught:
        SourceUri(text)
    assert "hunter2" not in str(caught.value)


def test_a_relative_path_is_opened_under_its_folder_and_printed_as_written() -> None:
    moved = SourceUri("clips/a.mp4").under(Path("/srv"))
    assert (moved.reveal(), str(moved)) == ("/srv/clips/a.mp4", "clips/a.mp4")
    assert SourceUri("/a.mp4").under(Path("/srv")).reveal() == "/a.mp4"
    network = SourceUri("rtsp://h/x")
    assert network.under(Path("/srv")) is network


def test_compares_by_what_is_opened() -> None:
    one, other = SourceUri("rtsp://u:a@h"), SourceUri("rtsp://u:b@h")
    assert one != other
    assert len({one, SourceUri("rtsp://u:a@h")}) == 1
    assert pickle.loads(pickle.dumps(one)) == one


def test_redacts_urls_within_a_sentence() -> None:
    text = "[rtsp] 'rtsp://admin:hunter2@h/x' failed; then http://h/?pwd=abc, again"
    assert redact(text) == "[rtsp] 'rtsp://***@h/x' failed; then http://h/?pwd=*** again"
