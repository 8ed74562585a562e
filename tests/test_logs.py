"""What reaches standard error: form, priorities, masked secrets, gathered repeats."""

import io
import json
import logging
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernetd.config import Redactor
from centernetd.service.logs import PERIOD, LogFormat, LogHandler, Repeats, TextFormatter, configure

log = logging.getLogger("centernetd.capture.test")


class FakeTerminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [FakeTerminal, io.StringIO])
def test_text_on_a_terminal_and_into_a_pipe(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    configure("info", environ={"JOURNAL_STREAM": "8:15"})
    log.info("connected to %s", "10.0.0.7", extra={"stream": "gate"})
    log.debug("not shown")
    log.info("ready")
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO gate: connected to 10\.0\.0\.7", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO ready", lines[1])


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "json")
    log.debug('said "%s"\nand went', "hello", extra={"stream": "gate"})
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {
        "level": "debug",
        "logger": "centernetd.capture.test",
        "stream": "gate",
        "message": 'said "hello"\nand went',
    }


def test_a_wrapped_standard_error_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar puts its own in place of sys.stderr after logging was set up."""
    configure("info")
    bar = io.StringIO()
    monkeypatch.setattr(sys, "stderr", bar)
    log.info("ready")
    assert "ready" in bar.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_priorities_in_the_journal(
    form: LogFormat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setattr(sys, "stderr", journal)
        configure("debug", form, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        for level in ("debug", "info", "warning", "error", "critical"):
            log.log(getattr(logging, level.upper()), "one\ntwo")
        journal.seek(0)
        lines = journal.read().splitlines()
    each = 1 if form == "json" else 2
    assert [line[:3] for line in lines] == [f"<{n}>" for n in (7, 6, 4, 3, 2) for _ in range(each)]


def test_json_where_the_journal_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setattr(sys, "stderr", journal)
        configure("info", environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        log.info("ready")
        journal.seek(0)
        assert json.loads(journal.read().removeprefix("<6>"))["message"] == "ready"


def test_no_priorities_when_the_journal_is_another_stream(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure("info", environ={"JOURNAL_STREAM": "1:2"})
    log.info("ready")
    assert not capfd.readouterr().err.startswith("<")


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_masked_everywhere(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    secret = 'p@ss/"wörd" 1'
    configure("info", form, secrets=[secret])
    log.info(f"in the message: {secret}")
    log.info("in the arguments: %s %r", secret, {"password": secret})
    log.info("encoded: %s %s", quote(secret, safe=""), quote(secret, safe="").lower())
    log.info("in part: %s", secret.replace("@", "%40").replace(" ", "+"))
    log.error("opening failed", exc_info=ValueError(f"rtsp://admin:{secret}@10.0.0.7/"))
    shown = capsys.readouterr().err
    assert shown.count("***") >= 7
    for piece in ("ss/", "ss%2", "rd", "p@", "p%40"):
        assert piece not in shown.replace("password", ""), shown


def test_a_url_that_nobody_registered_is_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    log.info("moved to rtsp://root:hunter2@10.0.0.9/live")
    assert "rtsp://***@10.0.0.9/live" in capsys.readouterr().err


@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=3),
    encoded=st.lists(st.booleans()),
)
def test_no_encoding_hides_a_secret(secret: str, encoded: list[bool]) -> None:
    choices = [*encoded, *[False] * len(secret)]
    shown = "".join(
        quote(character, safe="") if choice else character
        for character, choice in zip(secret, choices, strict=False)
    )
    assert Redactor([secret])(f"<{shown}>") == "<***>"


def test_a_quoted_secret_is_masked() -> None:
    secret = "it's \\ \""
    assert repr(secret) != f"'{secret}'"
    assert Redactor([secret])(repr(secret)) == "'***'"


def test_no_secret_masks_nothing() -> None:
    assert Redactor([""])("frame 7 of gate") == "frame 7 of gate"


def test_a_broken_log_call_shows_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    handler = LogHandler(TextFormatter(Redactor()), journal=False)
    handler.handle(record("%d frames", "hunter2"))
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert re.search(r"the log call at .*test_logs\.py:\d+ failed", shown)


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    configure("warning", "text")
    log.info("not shown")
    log.warning("shown")
    assert capsys.readouterr().err.count("shown") == 1


def record(
    message: str, *args: object, level: int = logging.WARNING, stream: str = "gate"
) -> logging.LogRecord:
    made = logging.LogRecord("centernetd.sink", level, __file__, 1, message, args, None)
    made.stream = stream
    return made


def test_repeats_are_counted_and_logged_once_per_second() -> None:
    repeats = Repeats()
    assert repeats.admit(record("no room at %d", 0), now=0.0)
    assert not any(repeats.admit(record("no room at %d", n), now=n / 100) for n in range(1, 38))
    assert repeats.due(now=0.99) == []
    (counted,) = repeats.due(now=PERIOD)
    assert counted.getMessage() == "no room at 37 (37 times)"
    assert not repeats.admit(record("no room at %d", 99), now=1.5)
    assert repeats.due(now=1.99) == []
    (counted,) = repeats.due(now=2.0)
    assert counted.getMessage() == "no room at 99"


def test_a_quiet_second_ends_the_gathering() -> None:
    repeats = Repeats()
    assert repeats.admit(record("no room"), now=0.0)
    assert repeats.due(now=5.0) == []
    assert repeats.admit(record("no room"), now=5.0)


def test_other_causes_are_not_gathered() -> None:
    repeats = Repeats()
    assert repeats.admit(record("no room"), now=0.0)
    assert repeats.admit(record("no room", stream="yard"), now=0.0)
    assert repeats.admit(record("no room", level=logging.ERROR), now=0.0)
    assert repeats.admit(record("no light"), now=0.0)
    dictionary = record("")
    dictionary.msg = {"any": "object"}
    assert repeats.admit(dictionary, now=0.0)
    assert all(repeats.admit(record("segment", level=logging.INFO), now=0.0) for _ in range(5))


def test_the_handler_writes_counts_when_ticked_and_when_closed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    handler = LogHandler(TextFormatter(Redactor()), journal=False, clock=lambda: now)
    for _ in range(4):
        handler.handle(record("no room"))
    handler.flush_repeats()
    assert capsys.readouterr().err.count("no room") == 1
    now = 1.0
    handler.flush_repeats()
    assert "gate: no room (3 times)\n" in capsys.readouterr().err
    for _ in range(2):
        handler.handle(record("no room"))
    assert capsys.readouterr().err == ""
    handler.close()
    assert "gate: no room (2 times)\n" in capsys.readouterr().err
