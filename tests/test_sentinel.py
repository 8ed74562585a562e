"""No command shows a password, wherever it comes from and whatever is wrong with it."""

from pathlib import Path

import pytest

from tests.commandline import CommandLine
from tests.integration.process import free_port
from tests.integration.sentinel import ENCODED, PASSWORD, USER, VARIABLE, found_in

STREAM = (
    "version: 1\nmetrics: {{listen: 127.0.0.1:0}}\n"  # no port that another process can have taken
    "streams: {{cam: {{source: '{}', stall_timeout: 1s}}}}\n"
)
BAD = [
    STREAM + "colour: red\n",
    STREAM.replace("1s", "soon"),
    STREAM.replace("source", "sauce"),
    STREAM.replace("'{}'", "'{} '"),
    STREAM.replace("version: 1", "version: ["),
]


@pytest.fixture(params=["plain", "encoded", "environment", "credential"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A camera's URL whose password is written or taken in one of four ways."""
    written = {"plain": "Sentinel7@:+x", "encoded": ENCODED}.get(request.param)
    if request.param == "environment":
        monkeypatch.setenv(VARIABLE, ENCODED)
    elif request.param == "credential":
        folder = tmp_path / "credentials"
        folder.mkdir()
        (folder / VARIABLE).write_text(f"{ENCODED}\n")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return f"rtsp://{USER}:{written or f'${{{VARIABLE}}}'}@127.0.0.1:{free_port()}/play"


def leaks(cli: CommandLine, *arguments: str | Path) -> tuple[int, list[str]]:
    outcome = cli(*arguments)
    return outcome.code, found_in("stdout", outcome.out) + found_in("stderr", outcome.err)


@pytest.mark.parametrize("option", [(), ("--json",), ("--probe",), ("--probe", "--json")])
def test_check(
    cli: CommandLine,
    url: str,
    tmp_path: Path,
    option: tuple[str, ...],
    centerface: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(centerface.parents[1]))
    config = tmp_path / "config.yaml"
    config.write_text(STREAM.format(url))
    code, found = leaks(cli, "check", "-c", config, *option)
    assert found == []
    assert code in (0, 1)


@pytest.mark.parametrize("text", BAD)
def test_a_configuration_that_is_refused(
    cli: CommandLine, url: str, tmp_path: Path, text: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text.format(url))
    for arguments in (("check", "-c", config), ("--debug", "run", "-c", config)):
        assert leaks(cli, *arguments) == (78, [])


def test_the_needle_is_found(cli: CommandLine) -> None:
    assert found_in("text", f"x{PASSWORD}")
    assert found_in("text", f"x{ENCODED.lower().replace('sentinel', 'Sentinel')}")
    assert not found_in("text", "rtsp://***@127.0.0.1/play")
