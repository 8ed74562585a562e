"""What `doctor --bundle` packs: all that helps, no password, and in time whatever hangs."""

import json
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from centernetd.config import inline_secrets, shareable
from centernetd.doctor import bundle as module
from centernetd.doctor.bundle import bundle, gather
from centernetd.errors import StartupError
from centernetd.flow import StorageStatus, StreamState
from tests.test_pages import Site, stream

SENTINEL = "s3nt/inel#7"
ENCODED = "s3nt%2Finel%237"
CONFIG = """
version: 1
# the old one was s3nt/inel#7
streams:
  gate: {source: "rtsp://viewer:s3nt%2Finel%237@192.0.2.1/live"}
  yard: {source: "rtsp://viewer:${NOT_AT_HAND}@192.0.2.2/live"}
x-router: {password: "s3nt/inel#7 and more", note: "rtsp://a:s3nt%2Finel%237@h/"}
"""

SYSTEMCTL = """#!/bin/sh
# shows the properties that are asked for; without --property all there are
wanted=
for word; do case $word in --property=*) wanted=",${word#*=}," ;; esac; done
while read -r line; do
    case ${wanted:-,${line%%=*},} in *",${line%%=*},"*) echo "$line" ;; esac
done <<END
ActiveState=failed
Environment=NOT_AT_HAND=hunter2
ExecMainStatus=78
ExecStart={ path=/opt/centernetd/bin/centernetd ; argv[]=centernetd hunter2 ; }
SetCredential=NOT_AT_HAND:hunter2
END
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    cameras = tmp_path / "streams.d"
    cameras.mkdir()
    (cameras / "hall.yaml").write_text("source: http://192.0.2.3/?token=s3nt%2Finel%237\n")
    (cameras / "shed.yaml").write_text("source: [rtsp://a:s3nt%2Finel%237@h/\n")
    return path


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only programs are a journalctl that repeats the sentinel, and no systemctl."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "journalctl"
    line = f"gate: can't open rtsp://viewer:{ENCODED}@192.0.2.1/live; {SENTINEL} is wrong"
    program.write_text(f'#!/bin/sh\necho "{line}"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(programs))
    return program


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(StorageStatus())
    lost = stream("yard", state=StreamState.RECONNECTING)
    lost.lane.status.last_error = f"rtsp://viewer:{ENCODED}@192.0.2.2/ is wrong"
    site.streams.append(lost)
    site.server.start()
    yield site
    site.server.close()


def unpacked(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        return {
            member.name.removeprefix("centernetd-bundle/"): part.read().decode()
            for member in archive.getmembers()
            if (part := archive.extractfile(member)) is not None
        }


def test_it_holds_what_helps_and_no_password(config: Path, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    bundled = bundle(file, config, f"http://127.0.0.1:{site.server.port}")
    assert unpacked(file) == bundled
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in (SENTINEL, ENCODED, ENCODED.lower(), "s3nt", "and more"):
        assert not [name for name, text in bundled.items() if secret in text], secret
    assert "gate: can't open rtsp://***@192.0.2.1/live; *** is wrong" in bundled["journal.txt"]
    assert "centernetd_stream_up" in bundled["metrics.txt"]
    assert json.loads(bundled["status.txt"])["streams"].keys() == {"gate", "yard"}
    assert bundled["healthz.txt"] == "ok\n"
    assert "yard: reconnecting" in bundled["readyz.txt"]
    assert "numpy" in bundled["versions.txt"]
    assert any(finding["topic"] == "onnxruntime" for finding in json.loads(bundled["doctor.json"]))
    assert bundled["service.txt"] == "not collected: systemctl is not on this machine\n"
    files = json.loads(bundled["config.json"])
    assert files["config.yaml"]["streams"]["gate"] == {"source": "rtsp://***@192.0.2.1/live"}
    assert files["hall.yaml"] == {"source": "http://192.0.2.3/?token=***"}
    assert "is not YAML" in files["shed.yaml"]


def test_a_value_from_outside_is_hidden_where_it_is_at_hand(
    tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text('version: 1\nstreams: {gate: {source: "rtsp://u:${GATE}@h/"}}\n')
    monkeypatch.setenv("GATE", "hunter2")
    journal.write_text("#!/bin/sh\necho hunter2 said\n")
    bundled = bundle(tmp_path / "bundle", path, "http://127.0.0.1:1")
    assert bundled["journal.txt"] == "*** said\n"


def test_of_the_unit_nothing_is_taken_that_may_hold_a_password(
    config: Path, tmp_path: Path, journal: Path
) -> None:
    """The configuration asks for ${NOT_AT_HAND}, so that nobody knows what else to hide."""
    journal.with_name("systemctl").write_text(SYSTEMCTL)
    journal.with_name("systemctl").chmod(0o700)
    bundled = bundle(tmp_path / "bundle", config, "http://127.0.0.1:1")
    assert bundled["service.txt"] == "ActiveState=failed\nExecMainStatus=78\n"


def test_without_daemon_configuration_or_programs(
    tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    journal.unlink()
    bundled = bundle(tmp_path / "bundle", None, "http://127.0.0.1:1")
    assert bundled["journal.txt"] == "not collected: journalctl is not on this machine\n"
    assert bundled["config.json"].startswith("not collected: there is no config.yaml here")
    assert bundled["metrics.txt"].startswith("not collected: no centernetd answers")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="bundle: can't be written: No such file"):
        bundle(tmp_path / "nowhere" / "bundle", None, "http://127.0.0.1:1")


def test_what_hangs_is_left_out(
    config: Path, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(module, "TIMEOUT", 2.0)
    monkeypatch.setattr(module, "examine", never.wait)
    journal.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    try:
        bundled = bundle(tmp_path / "bundle", config, "http://127.0.0.1:1")
    finally:
        never.set()
    assert bundled["doctor.json"] == "not collected: it took more than 2 s\n"
    assert bundled["journal.txt"].startswith("not collected: ")
    assert "numpy" in bundled["versions.txt"]


def test_what_fails_is_explained_and_harms_no_other() -> None:
    def refuse() -> str:
        raise StartupError("the port is closed")

    def fail() -> str:
        raise ZeroDivisionError

    found = gather({"a": refuse, "b": fail, "c": lambda: "yes"}, timeout=10)
    assert found == {
        "a": "not collected: the port is closed\n",
        "b": "not collected, a fault in centernetd: ZeroDivisionError()\n",
        "c": "yes",
    }


def test_nothing_of_a_file_that_is_no_yaml_is_shared(config: Path) -> None:
    assert SENTINEL not in str(shareable(config))
    assert {SENTINEL, ENCODED} <= inline_secrets(config)
    config.write_bytes(b"\xff\xfe")
    assert str(shareable(config)["config.yaml"]).endswith("is not UTF-8 text")
    config.unlink()
    assert "can't be read" in shareable(config)["config.yaml"]
    assert inline_secrets(config) == frozenset()
