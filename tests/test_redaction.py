"""What is accepted as a URL, and that nothing shows who logs in with what, however odd that is."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from centernetd.config import Redactor, SourceUri, load, redact, shown
from centernetd.config.secret import MASK
from centernetd.doctor.bundle import bundle
from centernetd.errors import ConfigError
from centernetd.service.logs import configure
from tests.commandline import CommandLine, configuration
from tests.test_bundle import journal  # noqa: F401 (a fixture)

ANY = st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("@:/?#%&=;+\\'\"[]*$ ")
ODD = st.text(ANY, max_size=12) | st.text("@:/?#%&=", max_size=6)
HOSTS = st.sampled_from(
    ["h", "10.0.0.1:554", "cam.example", "[2001:db8::1]:8554", "[fe80::1%25e0]"]
)
RESTS = st.sampled_from(["", "/", "/live/1", "/cam/realmonitor?channel=1&subtype=0"])


@st.composite
def encodings(draw: st.DrawFn, text: str) -> str:
    """Write some characters of ``text`` percent-encoded, with digits of either case."""
    some: list[Callable[[str], str]] = [str, _upper, _lower]
    kinds = draw(st.lists(st.sampled_from(some), min_size=1, max_size=20))
    return "".join(kinds[place % len(kinds)](char) for place, char in enumerate(text))


def _upper(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _lower(character: str) -> str:
    return _upper(character).lower()


@settings(deadline=None)
@given(ODD, ODD, HOSTS, RESTS, st.data())
@example("me@mail.example", "TopSecret9", "127.0.0.1:1", "/x", None)
@example("admin", "123/45", "127.0.0.1:1", "/x", None)
@example("admin", "1#5", "h", "/x", None)
@example("admin", "1?5", "h", "", None)
@example("", "", "h", "", None)
def test_who_logs_in_with_what_changes_nothing_that_is_shown(
    user: str, password: str, host: str, rest: str, data: st.DataObject | None
) -> None:
    """Whatever is accepted, or refused and shown in the refusal, is as if it were another's."""
    if data is not None:
        user, password = data.draw(encodings(user)), data.draw(encodings(password))
    for login in (f"{user}:{password}", user, f":{password}"):
        url = f"rtsp://{login}@{host}{rest}"
        assert shown(url) == f"rtsp://{MASK}@{host}{rest}"
        if set(login) & set("/?# "):
            with pytest.raises(ValueError, match="%"):
                SourceUri(url)
            continue
        source = SourceUri(url)
        assert str(source) == f"rtsp://{MASK}@{host}{rest}"
        assert redact(f"failed: '{url}', again") == f"failed: '{source}', again"
        assert redact(str(source)) == str(source)


@settings(deadline=None)
@given(ODD, st.data())
def test_a_password_is_found_however_it_is_encoded(password: str, data: st.DataObject) -> None:
    assume(password.strip("*"))
    source = SourceUri(f"http://viewer:{quote(password, safe='')}@h/")
    hide = Redactor(source.secrets())
    for form in (password, data.draw(encodings(password)), quote(password), unquote(password)):
        if form.strip("*"):
            assert hide(f"\n{form}\n") == f"\n{MASK}\n"


@pytest.mark.parametrize("character", "a0é'\\ +%\N{NO-BREAK SPACE}")
def test_a_text_that_is_nearly_a_secret_takes_no_time(character: str) -> None:
    """Where one character could match in two ways, sixty of them would take for ever."""
    hide = Redactor([character * 60 + "!"])
    assert hide(f" {character * 60}?") == f" {character * 60}?"


@pytest.mark.parametrize(
    ("tail", "seen"),
    [
        ("?loginpas=hunter2", "?loginpas=***"),
        ("?channel=1&jwt=hunter2&subtype=0", "?channel=1&jwt=***&subtype=0"),
        ("/a?session=hunter2#x", "/a?session=***#***"),
        ("?hunter2", "?***"),
        ("?aHVudGVyMg==", "?***"),
        ("?streamtype=main&hunter2", "?streamtype=main&***"),
        ("?u=a&x=hun&ter2", "?u=***&x=***&***"),
        ("?x=hunter2?channel=1", "?x=***?channel=1"),
        ("#hunter2", "#***"),
        ("/user=a_password=hunter2_channel=1.sdp?real_stream", "/user=***"),
        (
            "/user=a&password=hunter2&channel=2&stream=0.sdp?",
            "/user=***&password=***&channel=2&stream=0.sdp?",
        ),
        ("/live;jsessionid=hunter2/1", "/live;jsessionid=***"),
        ("/ch=1/main", "/ch=1/main"),
        (
            "/mjpg/video.cgi?resolution=640x480&camera=2&fps=10",
            "/mjpg/video.cgi?resolution=640x480&camera=2&fps=10",
        ),
    ],
)
def test_of_path_and_query_what_distinguishes_cameras_is_shown(tail: str, seen: str) -> None:
    source = SourceUri(f"http://h{tail}")
    assert str(source) == f"http://h{seen}"
    assert redact(f"GET {source.reveal()} failed") == f"GET {source} failed"
    assert "hunter2" not in Redactor(source.secrets())(quote(source.reveal(), safe=""))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("connect to rtsp://admin:TopSecr", "connect to rtsp://***"),
        ("moved to https://other:hunter2@h2/a?sig=x now", "moved to https://***@h2/a?sig=*** now"),
        ("(rtsp://TOKEN@h)", "(rtsp://***@h)"),
        ("rtsp:/u:hunter2@h/x.jpg: no such file", "rtsp:/***@h/x.jpg: no such file"),
        ("in /usr/bin:/bin:/sbin", "in /usr/bin:/bin:/sbin"),
        *[(text, text) for text in ("ask http://127.0.0.1:10864/x, or", "(http://[::1]:80).")],
        ("GET /live?loginpas=hunter2 HTTP/1.1", "GET /live?loginpas=*** HTTP/1.1"),
        ("me@home.mp4: size=3", "me@home.mp4: size=3"),
    ],
)
def test_in_the_words_of_libraries(text: str, seen: str) -> None:
    assert redact(text) == seen


@pytest.mark.parametrize(
    "value",
    [
        "rtsp://u:pa ss@h/x",
        "rtsp:/u:hunter2@h",
        "//u:hunter2@h",
        "u:hun@ter2@h/x",
        "rtsp://u:a\nb@h",
    ],
)
def test_what_was_meant_to_be_a_source_is_hidden_too(value: str) -> None:
    assert shown(value).endswith(f"{MASK}@{value.rpartition('@')[2]}")
    assert not set(shown(value).partition("://")[2] or shown(value)) & set("upant2")


@pytest.mark.parametrize("name", ["clips/me@home.mp4", "./a:b@c.mp4", "x=1?y=2.mp4"])
def test_a_path_is_shown_as_it_is(name: str) -> None:
    assert str(SourceUri(name)) == name


SOURCES = {
    "rtsp://me@mail.example:TopSecret9@127.0.0.1:1/x": ["TopSecret9", "mail.example"],
    "rtsp://admin:9TopSecret/45@127.0.0.1:1/x": ["9TopSecret"],
    "rtsp://admin:98765/43@127.0.0.1:1/x": ["98765"],
    "rtsp://TopSecret9@127.0.0.1:1/x": ["TopSecret9"],
    "rtsp://TopSecret9:@127.0.0.1:1/x": ["TopSecret9"],
    "rtsp://u:Top:Secret9%40%2f%é@[::1]:1/x": ["Secret9", "é"],
    "rtsp://dom\\TopSecret9:pw@127.0.0.1:1/x": ["TopSecret9"],
    "rtsp://u:Top Secret9@127.0.0.1:1/x": ["Secret9"],
    "rtsp://TopSecret9%40127.0.0.1:1/x": ["TopSecret9"],
    "http://u%3ATopSecret9%40127.0.0.1/x": ["TopSecret9"],
    "//u:TopSecret9@127.0.0.1:1/x": ["TopSecret9"],
    "http://127.0.0.1:1/x?loginpas=TopSecret9&channel=1": ["TopSecret9"],
    "http://127.0.0.1:1/x?jwt=Top.Secret9&channel=1": ["Secret9"],
    "ftp://u:TopSecret9@127.0.0.1/x": ["TopSecret9"],
}


@pytest.mark.parametrize(("source", "needles"), SOURCES.items(), ids=range(len(SOURCES)))
@pytest.mark.parametrize("key", ["source", "model", "stall_timeout", "nonsense"])
def test_no_command_shows_it(
    cli: CommandLine,
    tmp_path: Path,
    journal: Path,  # noqa: F811 (the fixture)
    source: str,
    needles: list[str],
    key: str,
) -> None:
    path = configuration(tmp_path, "centerface", gate={"source": "a.mp4", key: source})
    journal.write_text(f"#!/bin/sh\ncat <<'END'\nfailed: {source}; {unquote(source)}\nEND\n")
    outcomes = [cli("check", "-c", path), cli("check", "--json", "-c", path)]
    if outcomes[0].code or key != "source":
        outcomes += [cli("run", source, "-o", "x.avi"), cli("run", "-c", path)]
        outcomes.append(cli("--debug", "run", "-c", path))
    bundled = bundle(tmp_path / "bundle", path, "http://127.0.0.1:1")
    texts = [*(outcome.out + outcome.err for outcome in outcomes), *bundled.values()]
    for needle in needles:
        for form in (needle, quote(needle), quote(needle).lower(), json.dumps(needle)[1:-1]):
            assert not [text for text in texts if form in text]


def test_the_log_hides_it_in_messages_arguments_and_tracebacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for url, needles in SOURCES.items():
        path = configuration(tmp_path, "centerface", gate={"source": url})
        try:
            secrets = load(path).secrets()
        except ConfigError:
            continue
        for form in ("text", "json"):
            handler = configure("info", form, secrets)
            log = logging.getLogger("x")
            log.error("%s %r", url, {"url": unquote(url)}, exc_info=OSError(5, "I/O error", url))
            log.error("encoded %s %s", quote(url, safe=""), quote(url, safe="").lower())
            logging.getLogger().removeHandler(handler)
        printed = capsys.readouterr().err
        assert not [needle for needle in needles if needle in printed], printed
