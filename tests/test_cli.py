"""The command line: exit codes, one sentence an error, what `run` and `prepare` print."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import pytest

from centernetd.cli import app as app_module
from centernetd.cli import models as models_module
from centernetd.cli import run as run_module
from centernetd.config import Config
from centernetd.errors import EngineError
from centernetd.flow import Lane
from centernetd.model import manifest
from centernetd.service.logs import LogHandler
from centernetd.sink.registry import RECORD
from centernetd.track.counts import TrackLedger
from tests import exports, models
from tests.commandline import SIZE, CommandLine, clip, configuration, squares_model
from tests.sinks import open_lane


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return CommandLine(capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    "arguments",
    [
        "fly",
        "run --fast",
        "run video.mp4 -c config.yaml",
        "run -o out.mp4",
        "run --labels face",
        "run -m centerface -c config.yaml",
        "run --events",
        "run video.mp4 --draw blur",
        "run video.mp4 -o out.mp4 --draw mosaic",
        "run video.mp4 --confidence 2",
        "check video.mp4",
        "detect",
        "detect a.png --confidence 2",
        "detect a.png --input-size 512",
        "detect a.png --backend abacus",
        "prepare",
        "prepare in.onnx",
        "prepare in.onnx -o out.onnx --show",
        "prepare in.onnx -o out.onnx --mean 0.4",
        "fetch",
    ],
)
def test_wrong_usage(cli: CommandLine, arguments: str) -> None:
    outcome = cli(*arguments.split())
    assert outcome.code == 2
    assert "Error: " in outcome.err or "Usage: " in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "arguments", ["check URL", "URL", "status URL", "run --confidence URL a.mp4", "check --URL"]
)
def test_wrong_usage_repeats_no_password(cli: CommandLine, arguments: str) -> None:
    outcome = cli(*arguments.replace("URL", "rtsp://viewer:hunter2@h/x").split())
    assert outcome.code == 2
    assert "Error: " in outcome.err
    assert "hunter2" not in outcome.out + outcome.err


def test_version_and_help(cli: CommandLine) -> None:
    assert cli("--version").out.startswith("centernetd 0.")
    shown = cli("--help")
    assert shown.code == 0
    for command in ("run", "check", "detect", "prepare", "fetch", "bench", "status", "doctor"):
        assert f"\n  {command} " in shown.out
        assert cli(command, "--help").code == 0


BAD_CONFIGS: dict[str, tuple[str, str]] = {
    "empty": ("", "is empty"),
    "unknown key": ("version: 1\nstrems: {}\n", "config.yaml:2: strems"),
    "no unit": (
        "version: 1\nstreams: {a: {source: x, stall_timeout: 5}}\n",
        "config.yaml:2: streams.a.stall_timeout",
    ),
    "given twice": ("version: 1\nversion: 1\n", "config.yaml:2: version: is given twice"),
    "alias": ("version: 1\nx-a: &a [1]\nx-b: *a\n", "config.yaml:"),
    "10 MB": ("#" * 10_000_000, "config.yaml"),
    "3,000 levels": ("x-a: " + "[" * 3000 + "]" * 3000, "config.yaml:1"),
    "climbing name": ("version: 1\nstreams: {../a: {source: x}}\n", "config.yaml:2: streams"),
    "climbing path": (
        "version: 1\nstreams: {a: {source: x, record: {path: ../a.mp4}}}\n",
        "must stay under storage.root",
    ),
    "not text": ("\x00\x01", "config.yaml"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_bad_configuration(cli: CommandLine, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    for command in ("run", "check"):
        outcome = cli(command)
        assert outcome.code == 78
        assert outcome.err.count("\n") == 1
        assert outcome.err.startswith("centernetd: config.yaml")
        assert message in outcome.err
        assert outcome.out == ""


def test_no_configuration(cli: CommandLine) -> None:
    outcome = cli("run")
    assert outcome.code == 78
    assert outcome.err.startswith("centernetd: config.yaml: there is no such file: give ")
    assert outcome.err.count("\n") == 1


CLOSED = {
    "configuration": ("check", "-c", "config.yaml"),
    "to reload": ("reload", "-c", "config.yaml"),
    "source": ("run", "a.mp4"),
    "output": ("run", "rtsp://h/x", "-o", "a.mp4"),
    "image": ("detect", "a.jpg"),
}


@pytest.mark.parametrize("words", CLOSED.values(), ids=CLOSED)
def test_a_path_in_a_closed_folder(cli: CommandLine, closed: Path, words: Sequence[str]) -> None:
    *command, name = words
    outcome = cli(*command, str(closed / name))
    assert outcome.code in (1, 78)
    assert outcome.err.startswith(f"centernetd: {closed / name}: ")
    assert outcome.err.count("\n") == 1
    if sys.version_info < (3, 14):  # which takes it for missing
        assert "permission denied: run it as a user who may" in outcome.err


def test_a_source_in_a_closed_folder(
    cli: CommandLine, model: Path, tmp_path: Path, closed: Path
) -> None:
    configuration(tmp_path, model, a={"source": str(closed / "a.mp4")})
    checked, ran = cli("check"), cli("run")
    assert f"a: {closed}/a.mp4: permission denied" in checked.out
    assert "can't be opened: permission denied" in ran.err
    assert "fault" not in ran.err


def test_debug_keeps_code_and_secrets(cli: CommandLine, tmp_path: Path) -> None:
    outcome = cli("--debug", "run", "rtsp://u:hunter2@h:port/x")
    assert outcome.code == 78
    assert "Traceback" in outcome.err
    assert "hunter2" not in outcome.err


def test_a_fault_of_ours_is_one_sentence_too(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("slip at rtsp://u:hunter2@h/x")

    monkeypatch.setattr(models_module, "fetch_model", fail)
    outcome = cli("fetch", "centerface")
    assert outcome.code == 1
    assert outcome.err.startswith("centernetd: a fault in centernetd: RuntimeError('slip at ")
    assert outcome.err.count("\n") == 1
    assert "hunter2" not in outcome.err
    assert "Traceback" in cli("--debug", "fetch", "centerface").err


def test_fetch_prints_the_path_and_on_stderr_the_origin(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fetched(*call: object) -> Path:
        calls.append(call)
        return tmp_path / "coco.onnx"

    monkeypatch.setattr(models_module, "fetch_model", fetched)
    outcome = cli("fetch", "coco", "--from", "brought.tgz")
    assert calls == [("coco", tmp_path / "cache", Path("brought.tgz"))]
    assert outcome.out == f"{tmp_path / 'coco.onnx'}\n"
    assert "on COCO; licence of these weights: none found" in outcome.err
    assert "under the MIT licence" in cli("fetch", "centerface").err


def test_an_unknown_builtin_model(cli: CommandLine) -> None:
    outcome = cli("fetch", "nosuch")
    assert outcome.code == 78
    assert outcome.err == "centernetd: nosuch: no such built-in model; there are centerface, coco\n"


def _text(path: Path) -> None:
    path.write_text("hello")


def _empty(path: Path) -> None:
    path.touch()


def _two_outputs(path: Path) -> None:
    exports.write(
        exports.export(lambda x: {"a": x.then("Relu"), "b": x.then("Abs")}, (64, 64)), path
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such model file"),
        (_text, "not an ONNX file"),
        (_empty, "not an ONNX file"),
        (_two_outputs, "fit no layout"),
    ],
    ids=["missing", "text", "empty", "layout"],
)
def test_a_bad_model(
    cli: CommandLine, tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "net.onnx"
    make(path)
    clip(tmp_path / "gate.mp4", 2)
    config = configuration(tmp_path, path, gate={"source": "gate.mp4"})
    commands: list[list[str | Path]] = [
        ["run", "-c", config],
        ["prepare", path, "-o", tmp_path / "out.onnx"],
    ]
    for arguments in commands:
        outcome = cli(*arguments)
        assert outcome.code == 78
        assert outcome.err.startswith(f"centernetd: {path}: ")
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
        assert outcome.out == ""
    assert not list(tmp_path.glob("**/*.mp4.part"))


def test_bad_sources_leave_the_others_unharmed(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "good.mp4", 5)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello")
    names = ("good", "missing", "empty", "text")
    streams: dict[str, Any] = {name: {"source": f"{name}.mp4"} for name in names}
    outcome = cli("run", "-c", configuration(tmp_path, model, **streams))
    assert outcome.code == 1
    assert outcome.out.splitlines()[-4:] == [
        "good: 5 captured = 5 written + 0 dropped",
        "missing: 0 captured = 0 written + 0 dropped",
        "empty: 0 captured = 0 written + 0 dropped",
        "text: 0 captured = 0 written + 0 dropped",
    ]
    assert f"good: recorded in {tmp_path / 'out' / 'good.mp4'}\n" in outcome.out
    errors = [line.partition(" ERROR ")[2] for line in outcome.err.splitlines() if "ERROR" in line]
    assert sorted(line.partition(": can't be opened: ")[0] for line in errors) == [
        "empty: empty.mp4",
        "missing: missing.mp4",
        "text: text.mp4",
    ]
    assert "Traceback" not in outcome.err


def test_a_folder_that_cannot_be_written(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    clip(tmp_path / "gate.mp4", 2)
    (tmp_path / "out").touch()
    outcome = cli("run", "-c", configuration(tmp_path, model, gate={"source": "gate.mp4"}))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith(
        f"centernetd: storage.root {tmp_path / 'out'} can't be written to"
    )
    assert outcome.out == ""


def test_a_port_in_use(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    path = configuration(tmp_path, model, gate={"source": "gate.mp4"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = json.loads(path.read_text())
        settings["metrics"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        path.write_text(json.dumps(settings))
        outcome = cli("run", "-c", path)
    assert outcome.code == 1
    assert "metrics.listen" in outcome.err
    assert outcome.err.count("\n") == 1


class FakeSupervisor:
    """Ticks three times over two lanes, then returns a code or raises."""

    result: int | Exception = 0
    left_behind: tuple[str, ...] = ()
    engine_failed = False

    def __init__(self, config: Config, *, reread: Callable[[], Config] | None) -> None:
        assert config.streams
        assert (reread is None) == (config.metrics.listen is None)  # as for one source
        self.lanes: list[Lane] = [open_lane(RECORD), open_lane()]
        self.lanes[1].name = "yard"
        self.tracks = {self.lanes[1]: TrackLedger({}, {}, {})}

    def stop(self) -> None:
        raise AssertionError("no signal came")

    reload = stop

    def run(self, on_tick: Callable[[], None]) -> int:
        self.lanes[0].ledger.capture()
        self.lanes[0].ledger.close()
        for lane in self.lanes:
            lane.status.output = f"/out/{lane.name}.mp4"
        for _ in range(3):
            on_tick()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> type[FakeSupervisor]:
    made = type("OneFakeSupervisor", (FakeSupervisor,), {})
    monkeypatch.setattr(run_module, "Supervisor", made)
    return made


def test_receipts_come_last(cli: CommandLine, supervisor: type[FakeSupervisor]) -> None:
    supervisor.result = 1
    outcome = cli("run", "video.mp4")
    assert outcome.code == 1
    assert outcome.out.splitlines() == [
        "gate: recorded in /out/gate.mp4",
        "yard: recorded in /out/yard.mp4",
        "gate: 1 captured = 0 written + 1 dropped",
        "yard: 0 tracks = 0 ended + 0 live",
        "yard: 0 captured = 0 inferred + 0 dropped",
    ]


@pytest.mark.parametrize("reason", ["unauthorized", "not_found"])
@pytest.mark.parametrize(
    ("terminal", "captured", "code"), [(True, 0, 1), (False, 0, 0), (True, 1, 0)]
)
def test_a_wrong_password_or_path_ends_a_run_at_a_terminal(
    cli: CommandLine,
    supervisor: type[FakeSupervisor],
    monkeypatch: pytest.MonkeyPatch,
    *,
    terminal: bool,
    captured: int,
    code: int,
    reason: str,
) -> None:
    """A service goes on trying, and so does a run that had pictures: it may be fixed there."""

    class Refused(supervisor):  # type: ignore[misc, valid-type]
        def run(self, on_tick: Callable[[], None]) -> int:
            (lane,) = self.lanes = [open_lane()]
            lane.status.reconnects[reason] = 1
            lane.status.last_error = "it is wrong"
            for _ in range(captured):
                lane.ledger.capture()
            on_tick()
            return 0

    monkeypatch.setattr(run_module, "Supervisor", Refused)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    outcome = cli("run", "rtsp://127.0.0.1:1/cam")
    assert outcome.code == code
    sentence = "centernetd: gate: it is wrong\n"
    assert outcome.err == (sentence if code else "")


def test_a_failure_gives_receipts_of_what_was_captured(
    cli: CommandLine, supervisor: type[FakeSupervisor]
) -> None:
    supervisor.result = EngineError("the GPU is lost")
    outcome = cli("run", "video.mp4")
    assert outcome.code == 70
    assert outcome.err == "centernetd: the GPU is lost\n"
    assert [line.partition(":")[0] for line in outcome.out.splitlines()] == ["gate", "gate"]


def test_a_process_whose_engine_failed_is_not_ended_in_order(
    cli: CommandLine, supervisor: type[FakeSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter's own ending would touch the GPU, and may never come back from it."""
    left: list[int] = []
    monkeypatch.setattr(app_module, "leave", left.append)
    supervisor.result = EngineError("the GPU is lost")
    supervisor.engine_failed = True
    assert cli("run", "video.mp4").err == "centernetd: the GPU is lost\n"
    assert left == [70]


def test_sources_without_an_output_print_what_was_found(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("gate", "yard"):
        clip(tmp_path / "clips" / f"{name}.mp4", 5)
    asked = ("-m", model, "--confidence", "0.5")
    outcome = cli("run", "clips", *asked)
    assert outcome.code == 0, outcome.err
    found = ["gate: found red 5 times", "yard: found red 5 times"]
    assert outcome.out.splitlines()[:2] == found
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["clips"], "nothing is written"
    assert "found nothing" in cli("run", "clips/gate.mp4", *asked, "--labels", "green").out


def test_a_model_s_own_threshold_holds_unless_another_is_set(
    cli: CommandLine, tmp_path: Path
) -> None:
    exports.write(models.squares(SIZE, reach=2), tmp_path / "raw.onnx")
    clip(tmp_path / "gate.mp4", 5)
    prepared = cli("prepare", "raw.onnx", "-o", "strict.onnx", "--confidence", "1")
    assert prepared.code == 0, prepared.err
    assert "gate: found nothing" in cli("run", "gate.mp4", "-m", "./strict.onnx").out
    found = cli("run", "gate.mp4", "-m", "./strict.onnx", "--confidence", "0.5").out
    assert found.startswith("gate: found class_0 "), found


def test_sources_record_as_they_are_asked_to(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    clip(tmp_path / "gate.mp4", 5)
    outcome = cli("run", "gate.mp4", "-m", model, "-o", "out/a.mp4", "--draw", "blur", "--events")
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a.jsonl", "a.mp4"]
    assert len((tmp_path / "out" / "a.jsonl").read_text().splitlines()) == 5
    assert "found" not in outcome.out


def test_a_recording_may_be_matroska(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    clip(tmp_path / "gate.mp4", 5)
    for name in ("a.mkv", "a-1.mkv"):
        outcome = cli("run", "gate.mp4", "-m", model, "-o", "out/a.mkv")
        assert outcome.code == 0, outcome.err
        recording = tmp_path / "out" / name
        assert outcome.out.startswith(f"a: recorded in {recording}\n"), outcome.out
        with av.open(recording) as video:
            assert video.format.name.startswith("matroska")
            assert len(list(video.decode(video=0))) == 5
    assert list((tmp_path / "out").glob("*.mp4*")) == []


@pytest.mark.usefixtures("supervisor")
def test_gathered_log_lines_are_written_at_every_tick(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    message: list[LogHandler] = []
    monkeypatch.setattr(LogHandler, "flush_repeats", lambda handler: message.append(handler))
    assert cli("run", "video.mp4").code == 0
    assert len(message) == 3


@pytest.mark.usefixtures("supervisor")
def test_notices_are_logged(cli: CommandLine, tmp_path: Path) -> None:
    gate = {"source": "gate.mp4", "privacy": {"blur": {"confidence": 0.5}}}
    path = configuration(tmp_path, "centerface", gate=gate)
    outcome = cli("run", "-c", path)
    assert "WARNING streams.gate.privacy.blur.confidence is 0.5; above" in outcome.err


def test_prepare_prints_what_it_understood(cli: CommandLine, tmp_path: Path) -> None:
    raw = exports.write(models.squares(SIZE), tmp_path / "raw.onnx")
    (tmp_path / "labels.txt").write_text("\ufeffred\n\ngreen\nblue\n")  # as Windows writes it
    out = tmp_path / "out.onnx"
    options = "--layout ctdet --input-size 96x160 --resize stretch --order rgb --confidence 0.25"
    more = "--nms-iou 0.6 --top-k 7 --mean 0.1 0.2 0.3 --std 1 2 3 --labels"
    done = cli("prepare", raw, "-o", out, *options.split(), *more.split(), tmp_path / "labels.txt")
    assert done.code == 0, done.err
    assert done.out == (
        f"{out}: ctdet, input 96x160, stretch, 3 classes, up to 7 detections, float32\n"
    )
    shown = cli("prepare", "--show", out)
    assert shown.json == json.loads(manifest.read(out).to_json())
    expected = {
        "layout": "ctdet",
        "input_size": [96, 160],
        "order": "rgb",
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 2, 3],
        "resize": "stretch",
        "labels": ["red", "green", "blue"],
        "confidence": 0.25,
        "nms_iou": 0.6,
        "top_k": 7,
    }
    assert {key: shown.json[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the labels can't be read: No such file or directory"),
        (b"\xff\xfe", "the labels are not UTF-8 text"),
        (b"\n \n", "contains no labels"),
        (b"red\n", "3 classes, but 1 labels"),
    ],
)
def test_bad_labels(cli: CommandLine, tmp_path: Path, content: bytes | None, message: str) -> None:
    raw = exports.write(models.squares(SIZE), tmp_path / "raw.onnx")
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_bytes(content)
    outcome = cli("prepare", raw, "-o", tmp_path / "out.onnx", "--labels", labels)
    assert outcome.code == 78
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_the_real_command(model: Path, tmp_path: Path) -> None:
    """In a process of its own: the receipt is the last line, and the log is text in a pipe."""
    clip(tmp_path / "gate.mp4", 5)
    path = configuration(tmp_path, model, gate={"source": "gate.mp4"})
    command = [sys.executable, "-m", "centernetd"]
    done = subprocess.run([*command, "run", "-c", path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "gate: 5 captured = 5 written + 0 dropped"
    assert " INFO gate: running: h264, 128x128\n" in done.stderr
    refused = subprocess.run(
        [*command, "run", "-c", tmp_path / "no.yaml"], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stdout) == (78, "")
    assert refused.stderr.count("\n") == 1
