"""`centernetd status` against pages served as the daemon serves them, and against nothing."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from centernetd.commands.status import USUAL, find_daemon
from centernetd.config import Address, storage_root_of
from centernetd.errors import CenternetdError, ConfigError, StartupError
from centernetd.flow import CAPTURE, Reason, StorageStatus, StreamState
from centernetd.service.http import HttpServer
from tests.commandline import CommandLine
from tests.test_pages import Site, stream

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(StorageStatus())
    site.server.start()
    yield site
    site.server.close()


def config(folder: Path, listen: str) -> Path:
    path = folder / "config.yaml"
    camera = 'gate: {source: "rtsp://u:${NOT_AT_HAND}@192.0.2.1/"}'
    path.write_text(f"version: 1\nstreams: {{{camera}}}\nmetrics: {{listen: {listen}}}\n")
    return path


def test_a_table(cli: CommandLine, site: Site, tmp_path: Path) -> None:
    yard = stream("yard", age=200, state=StreamState.RECONNECTING)
    yard.lane.status.last_error = "can't be opened: connection refused"
    yard.lane.status.lost_connections, yard.lane.status.reconnects["unreachable"] = 4, 900
    yard.lane.skip()
    yard.lane.ledger.capture()
    yard.lane.ledger.drop(CAPTURE, Reason.OVERFLOW)
    site.streams += [yard, stream("hall", age=60)]
    outcome = cli("status", "-c", config(tmp_path, f"127.0.0.1:{site.server.port}"))
    assert outcome.code == 0
    first, heading, *rows = outcome.out.splitlines()
    assert first.startswith("centernetd 1.2.3, started ")
    assert " healthy; onnxruntime-cpu in float32 on CPU, because there is no NVIDIA" in first
    assert heading.split()[:2] == ["stream", "state"]
    gate, yards, hall = (row.split() for row in rows)
    assert gate[:3] == ["gate", "running", "0.0"]
    assert yards[:6] == ["yard", "reconnecting", "0.0", "3", "min", "ago"]
    assert yards[6:10] == ["2", "1", "capture/overflow", "4"]
    assert rows[1].endswith("can't be opened: connection refused")
    assert hall[:4] == ["hall", "silent", "0.0", "never"]


def test_one_that_is_not_well(cli: CommandLine, site: Site) -> None:
    site.status.heartbeats.tick({"faces": 3})
    site.clock.now += 11
    site.status.heartbeats.tick({"faces": 3})
    for form in ([], ["--json"]):
        outcome = cli("status", *form, "--url", f"http://127.0.0.1:{site.server.port}")
        assert outcome.code == 1
        assert "inference has made no progress" in outcome.out
    site.status.models = ()
    printed = cli("status", "--url", f"http://127.0.0.1:{site.server.port}").out
    assert "NOT HEALTHY: the engine is not loaded yet" in printed


def test_json_is_what_the_daemon_answered(cli: CommandLine, site: Site) -> None:
    outcome = cli("status", "--json", "--url", f"127.0.0.1:{site.server.port}")
    assert outcome.json["streams"]["gate"]["state"] == "running"


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"streams": {"gate": 1}}', "not JSON"])
def test_another_server(cli: CommandLine, body: str) -> None:
    def app(_environ: object, start: object) -> list[bytes]:
        start("200 OK", [])  # type: ignore[operator]
        return [body.encode()]

    server = HttpServer(ANY_PORT, app)
    server.start()
    try:
        outcome = cli("status", "--url", f"http://127.0.0.1:{server.port}")
    finally:
        server.close()
    assert outcome.code == 1
    assert outcome.err == (
        "centernetd: the server there is not centernetd, or another version of it\n"
    )


def test_nobody_there(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = cli("status", "--url", f"http://127.0.0.1:{port}")
    assert outcome.code == 1
    assert f"no centernetd answers at 127.0.0.1:{port}: connection refused" in outcome.err


def test_what_speaks_something_else() -> None:
    def greet() -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(StartupError, match="does not speak HTTP"):
            find_daemon(None, f"127.0.0.1:{listener.getsockname()[1]}").page("/status")
        greeter.join()


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("192.0.2.7:1234", "192.0.2.7:1234"),
        ("0.0.0.0:1234", "127.0.0.1:1234"),
        ('"[::]:1234"', "[::1]:1234"),
    ],
)
def test_the_configuration_contains_the_address(tmp_path: Path, listen: str, address: str) -> None:
    assert str(find_daemon(config(tmp_path, listen), None).address) == address


def test_the_variables_of_these_keys_alone_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, '"127.0.0.1:${PORT}"')
    path.write_text(path.read_text() + 'storage: {root: "${ROOT}/videos", min_free: "${OTHER}"}\n')
    for ask, key in ((lambda: find_daemon(path, None), "metrics.listen"),
                     (lambda: storage_root_of(path), "storage.root")):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"{key}: \$\{{(PORT|ROOT)\}} is neither in the"):
            ask()
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("ROOT", str(tmp_path))
    assert find_daemon(path, None).address.port == 1234
    assert storage_root_of(path) == tmp_path / "videos"


def test_without_any_word_of_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "installed.yaml"
    assert find_daemon(None, None, installed).address == USUAL
    config(tmp_path, "127.0.0.1:1").rename(installed)
    assert find_daemon(None, None, installed).address.port == 1
    config(tmp_path, "127.0.0.1:2")
    assert find_daemon(None, None, installed).address.port == 2


@pytest.mark.parametrize("url", ["https://box:1", "http://", "http://box:x", "file:///etc/passwd"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(StartupError, match="is not the address of a daemon"):
        find_daemon(None, url)


@pytest.mark.parametrize(
    ("listen", "error", "sentence"),
    [
        ("null", StartupError, "metrics.listen is null"),
        ("here", ConfigError, "metrics.listen can't be read; `centernetd check"),
        ("[", ConfigError, "is not YAML"),
    ],
)
def test_a_configuration_that_contains_no_address(
    tmp_path: Path, listen: str, error: type[CenternetdError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        find_daemon(config(tmp_path, listen), None)
