from pathlib import Path

import pytest

from centernetd.config import load
from centernetd.config.variables import expand


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("GATE_PW", raising=False)
    return tmp_path


def test_takes_a_value_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PW", "one")
    assert expand("a ${GATE_PW} b ${GATE_PW}") == "a one b one"


def test_takes_a_value_from_a_credential(credentials: Path) -> None:
    (credentials / "gate-pw.txt").write_text("two\n")
    assert expand("${gate-pw.txt}") == "two"


def test_the_environment_goes_before_a_credential(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (credentials / "GATE_PW").write_text("two")
    monkeypatch.setenv("GATE_PW", "one")
    assert expand("${GATE_PW}") == "one"


def test_what_is_put_in_is_not_expanded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PW", "${HOME}")
    assert expand("${GATE_PW}") == "${HOME}"


@pytest.mark.parametrize("text", ["", "$", "$HOME", "{HOME}", "a $$ b"])
def test_what_is_no_reference_stays(text: str) -> None:
    assert expand(text) == text


def test_a_doubled_dollar_sign_stands_for_the_characters() -> None:
    assert expand("$${HOME}") == "${HOME}"


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${../passwd}", "${/etc/passwd}"])
def test_refuses_what_is_no_name(text: str, credentials: Path) -> None:
    with pytest.raises(ValueError, match="must continue as in"):
        expand(text)


def test_names_what_is_unset_or_empty(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"\$\{GATE_PW\} is neither"):
        expand("${GATE_PW}")
    monkeypatch.setenv("GATE_PW", "")
    (credentials / "GATE_PW").write_text("\n")
    with pytest.raises(ValueError, match=r"\$\{GATE_PW\} is neither"):
        expand("${GATE_PW}")


def test_names_a_credential_that_can_not_be_read(credentials: Path) -> None:
    (credentials / "GATE_PW").mkdir()
    with pytest.raises(ValueError, match="credential GATE_PW can't be read: Is a directory"):
        expand("${GATE_PW}")
    (credentials / "YARD_PW").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="credential YARD_PW can't be read: it is not UTF-8"):
        expand("${YARD_PW}")


def test_a_plain_value_means_what_it_would_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURE", "0.75")
    monkeypatch.setenv("LABEL", "7")
    path = tmp_path / "config.yaml"
    path.write_text(
        "version: 1\n"
        "defaults:\n  detect:\n    confidence: ${SURE}\n    labels: ['${LABEL}']\n"
        "streams: {a: {source: 'rtsp://h/${LABEL}'}}\n"
    )
    stream = load(path).streams["a"]
    assert (stream.detect.confidence, stream.detect.labels) == (0.75, ("7",))
    assert (stream.source.reveal(), str(stream.source)) == ("rtsp://h/7", "rtsp://h/***")
