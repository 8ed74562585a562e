import contextlib
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.config import Redactor, SourceUri, redact, shown
from centernetd.config.secret import MAX_LENGTH, secrets_in
from centernetd.config.variables import Expanded

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


def test_has_no_attributes_that_a_dump_would_show() -> None:
    with pytest.raises(TypeError):
        vars(SourceUri("rtsp://u:secret@camera/1"))


def test_knows_its_secrets_raw_and_encoded() -> None:
    source = SourceUri("rtsp://a:p%40ss word@h/x?token=t/1".replace(" ", "+"))
    assert {"p%40ss+word", "p@ss+word", "p%40ss%2Bword", "t/1", "t%2F1"} <= source.secrets()
    assert SourceUri("rtsp://h/x").secrets() == frozenset()


def test_knows_its_password_as_an_authorization_header_has_it() -> None:
    # RFC 7617's own example
    secrets = SourceUri("http://Aladdin:open%20sesame@h/x").secrets()
    assert "QWxhZGRpbjpvcGVuIHNlc2FtZQ==" in secrets


def test_a_value_from_outside_is_secret_wherever_it_stands() -> None:
    source = SourceUri("rtsp://h/live/s3cr3t/1", substituted=["s3cr3t"])
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


@pytest.mark.parametrize(
    ("text", "is_web", "is_recording"),
    [
        ("clip", False, True),
        ("http://h/video", True, False),
        ("https://h/a/clip.MP4?token=1", True, True),
        ("http://h/clip%2Emkv#t=3", True, True),
        ("http://h/live.m3u8?name=a.mp4", True, False),
        ("http://h", True, False),
        ("rtsp://h/clip.mp4", False, False),
        ("v4l2:0", False, False),
    ],
)
def test_knows_what_has_an_end_by_its_name(text: str, is_web: bool, is_recording: bool) -> None:
    source = SourceUri(text)
    assert (source.is_web, source.is_recording) == (is_web, is_recording)


@pytest.mark.parametrize(
    ("text", "login", "without"),
    [
        ("rtsp://me:p%40ss:x@h/a@b", None, None),
        ("rtsp://me:p%40ss:x@h/a", ("me", "p@ss:x"), "rtsp://h/a"),
        ("rtsp://me@h/a", ("me", ""), "rtsp://h/a"),
        ("rtsp://@h/a", None, "rtsp://h/a"),
        ("rtsp://h/a", None, "rtsp://h/a"),
        ("v4l2:0", None, "v4l2:0"),
        ("./a://u:p@h/x", None, "./a://u:p@h/x"),
    ],
)
def test_gives_user_and_password_apart_from_the_url(
    text: str, login: tuple[str, str] | None, without: str | None
) -> None:
    if without is None:
        with pytest.raises(ValueError, match="%40"):
            SourceUri(text)
        return
    source = SourceUri(text)
    assert source.login() == login
    assert source.without_login() == without


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty or contains control characters"),
        ("a\nb", "is empty or contains control characters"),
        ("rtsp://h/" + "x" * MAX_LENGTH, "is longer than 2048 characters"),
        ("/dev/video0", "is a camera: write v4l2: before it"),
        ("ftp://h/x", "has a scheme that is not supported: give rtsp://"),
        ("a:b.mp4", "has a scheme that is not supported: give rtsp://"),
        ("rtsp:/h/x", "is not a complete URL"),
        ("rtsp:h/x", "is not a complete URL"),
        ("rtsp://", "is not a complete URL"),
        ("rtsp://u@/x", "is not a complete URL"),
        ("rtsp://h/a b", "is not a complete URL"),
        ("rtsp://u:a/b@h/x", "has an @ behind a / ? or #"),
        ("rtsp://u:a?b@h/x", "has an @ behind a / ? or #"),
        ("rtsp://u:a#b@h/x", "has an @ behind a / ? or #"),
        ("rtsp://u:p:x", "has a host or port that can't be read"),
        ("rtsp://h:port/x", "has a host or port that can't be read"),
        ("rtsp://h:65536/x", "has a host or port that can't be read"),
        ("http://[::1/x", "has a host or port that can't be read"),
        ("http://TOKEN%40h/x", "has a host or port that can't be read"),
        ("http://u%3Ahunter2%40h/x", "has a host or port that can't be read"),
        ("http://h;key=hunter2/x", "has a host or port that can't be read"),
        ("//u:hunter2@h/x", "is not a complete URL"),
    ],
)
def test_it_explains_why_it_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        SourceUri(text)


def test_what_is_just_allowed_is_read() -> None:
    for text in (
        "rtsp://h:65535/",
        "rtsp://h:/x",
        "rtsp://h/".ljust(MAX_LENGTH, "x"),
        "a" * MAX_LENGTH,
    ):
        assert SourceUri(text).reveal() == text


def test_of_a_variable_that_is_the_whole_url_host_and_path_are_shown() -> None:
    url = "rtsp://u:hunter2@h/live"
    assert str(SourceUri(url, substituted=[url])) == "rtsp://***@h/live"
    assert str(SourceUri(f"{url}/s3cr3t", substituted=[url, "s3cr3t"])) == "rtsp://***@h/live/***"
    assert str(SourceUri("http://h/http://x/1", substituted=["http://x"])) == "http://h/***/1"


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("rtsp://TOKEN9@h/x", {"TOKEN9"}),
        ("rtsp://:hunter2@h/x", {"hunter2"}),
        ("rtsp://admin:secret@h/x", {"secret"}),  # a password is one, were it an ordinary word
        ("rtsp://Admin7:1234@h/x", {"Admin7", "1234"}),
        ("http://h/x?channel=1&jwt=Abc9", {"Abc9"}),
        ("http://h/x?mode=day&n=1234", set[str]()),
        ("http://h/x?n=12345", {"12345"}),
        ("http://h/x?n=abcdefghijklm", {"abcdefghijklm"}),
        ("password=open&x=1", {"open"}),
        ("nothing", set[str]()),
    ],
)
def test_knows_what_is_secret_in_a_text(text: str, secrets: set[str]) -> None:
    assert secrets_in(text) == secrets


def test_a_known_secret_is_masked_however_it_is_written() -> None:
    hide = Redactor(["p@ss w'rd\\é", "***", ""])
    forms = [
        "p@ss w'rd\\é",
        "p%40ss w'rd\\é",
        "p%40ss+w%27rd%5C%C3%A9",
        "p%40ss%20w%27rd%5c%c3%a9",
        "p@ss w\\'rd\\\\é",
    ]
    for form in forms:
        assert hide(f"a {form} b") == "a *** b"
    assert hide("a *** b") == "a *** b"
    assert Redactor(["p\xa0w"])(repr("p\xa0w")) == "'***'"
    assert hide("p@ss-w'rd\\é") == "p@ss-w'rd\\é"
    assert Redactor()("a b") == "a b"


def test_the_longest_of_several_secrets_is_masked_whole() -> None:
    hide = Redactor(["abc"])
    hide.learn(["abcdef", "x%41y", "a+b"])
    assert hide("abcdef, abc; xAy, x%41y; a+b, a b") == "***, ***; ***, ***; ***, ***"


def test_masks_that_touch_are_one_and_text_between_others_stays() -> None:
    hide = Redactor(["ab", "cd", "bc"])
    assert hide("abcd") == "***"
    assert hide("ab-cd") == "***-***"
    assert hide("-ab-") == "-***-"
    assert redact("a?token=x") == "a?token=***"
    assert redact("token=x&y") == "token=***&y"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("at rtsp://admin:TopSecr", "at rtsp://***"),
        ("at http://127.0.0.1:10864/x, or", "at http://127.0.0.1:10864/x, or"),
        ("(http://[::1]:80).", "(http://[::1]:80)."),
        ("rtsp:/u:hunter2@h/x: no such file", "rtsp:/***@h/x: no such file"),
        ("http://h/a?channel=1&jwt=x&subtype=0", "http://h/a?channel=1&jwt=***&subtype=0"),
        ("http://h/a?x=y#z", "http://h/a?x=***#***"),
        ("http://h/ch=1/main", "http://h/ch=1/main"),
        ("http://h/user=a/b/c?channel=2", "http://h/user=***?channel=2"),
        ("http://h/a=b?hunter2", "http://h/a=***?***"),
        ("me@home.mp4: size=3", "me@home.mp4: size=3"),
    ],
)
def test_redacts_what_is_not_known_to_be_harmless(text: str, seen: str) -> None:
    assert redact(text) == seen


def with_a_variable(text: str) -> Expanded:
    value = Expanded(text)
    value.substituted = ("s3cr3t",)
    return value


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("rtsp://u:hunter2@h/x", "rtsp://***@h/x"),
        ("rtsp://u:hun ter2@h/x", "rtsp://***@h/x"),
        ("rtsp:/u:hunter2@h", "***@h"),
        ("u:hun@ter2:@h\n", "***@h\n"),
        ("ftp://h/x?token=abc", "ftp://h/x?token=***"),
        (with_a_variable("ftp://h/s3cr3t"), "ftp://h/***"),
        (with_a_variable("clips/s3cr3t.mp4"), "clips/***.mp4"),
        ("", ""),
    ],
)
def test_a_value_that_was_meant_to_be_a_source_is_shown_without_its_secrets(
    value: str, seen: str
) -> None:
    assert shown(value) == seen


def test_a_source_is_no_text() -> None:
    assert SourceUri("a.mp4") != "a.mp4"
