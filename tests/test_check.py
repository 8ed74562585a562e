"""`check`: what it reports about a configuration, and about the machine."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from centernetd.commands import capacity, probe
from centernetd.commands.capacity import Costs, measure, most_memory
from centernetd.commands.probe import SourceProbe, disk_of, probe_sources
from centernetd.config import StorageConfig, StreamConfig, load
from centernetd.config.template import LOCK_NAME
from centernetd.errors import SourceError
from centernetd.inference.engines import Backend
from centernetd.model import zoo
from centernetd.run.loading import sizes_for
from centernetd.sink import encoder
from centernetd.sink.lockfile import LockFile
from tests import clips, damages, permissions
from tests.commandline import CommandLine, clip, configuration, squares_model
from tests.damages import Damage
from tests.fakes import FakeSource, picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def fetched(centerface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CenterFace in a cache that has nothing else."""
    path = zoo.location("centerface", tmp_path / "cache")
    path.parent.mkdir(parents=True)
    shutil.copy(centerface, path)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return path


@pytest.mark.usefixtures("fetched")
def test_a_valid_file_shows_its_streams(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "yard.mp4").touch()
    gate = {"source": "rtsp://viewer:hunter2@192.0.2.1/s", "events": {"frames": "never"}}
    yard = {"source": "yard.mp4", "privacy": {"blur": {}}, "record": {"draw": []}}
    copied = {"source": "yard.mp4", "record": {"video": "source"}}
    path = configuration(tmp_path, "centerface", gate=gate, yard=yard, copied=copied)
    outcome = cli("check", "-c", path)
    assert outcome.code == 0
    assert "hunter2" not in outcome.out + outcome.err
    heading, first, second, third, *_ = (line.split() for line in outcome.out.splitlines())
    assert heading == ["stream", "source", "policy", "record", "events"]
    recording = "gate/%Y-%m-%d/%H-%M-%S.mp4"
    assert first == ["gate", "rtsp://***@192.0.2.1/s", "live", recording, "(boxes)", "never"]
    assert second == ["yard", "yard.mp4", "lossless", "yard.mp4", "(blur)", "yard.jsonl"]
    assert third[:6] == ["copied", "yard.mp4", "lossless", "copied.mp4", "(as", "received)"]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("fetched")
def test_a_blur_that_leaves_much_open_is_warned_of(cli: CommandLine, tmp_path: Path) -> None:
    streams = {
        "bold": {"source": "a.mp4", "privacy": {"blur": {"confidence": 0.26}}},
        "careful": {"source": "a.mp4", "privacy": {"blur": {"confidence": 0.25}}},
        "short": {"source": "a.mp4", "record": {"draw": "blur"}, "detect": {"confidence": 0.5}},
        "bare": {"source": "a.mp4", "record": {"draw": []}, "privacy": {"blur": {}}},
        "shown": {"source": "a.mp4", "detect": {"confidence": 0.9}},
    }
    (tmp_path / "a.mp4").touch()
    path = configuration(tmp_path, "centerface", **streams)
    outcome = cli("check", "-c", path)
    note, old, _ = [line for line in outcome.out.splitlines() if line.startswith("note:")]
    assert "draw: blur is now `draw: []` with" in note
    assert old.startswith("note: streams.bold.privacy.blur.confidence is 0.26; above 0.25")
    assert outcome.code == 0
    draws = [stream["draw"] for stream in cli("check", "-c", path, "--json").json["streams"]]
    assert draws == ["blur, boxes", "blur, boxes", "blur", "blur", "boxes"]


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({"detect": {"max_fps": 0.4}, "track": {"max_gap": "2400ms"}}, True),
        ({"detect": {"max_fps": 0.4}, "track": {"max_gap": "2500ms"}}, False),
        ({"detect": {"max_fps": 0.4}, "events": {"tracks": "auto"}}, False),
        ({"track": {"max_gap": "1ms"}}, False),
    ],
)
def test_a_gap_that_ends_between_two_frames_is_warned_of(
    cli: CommandLine, tmp_path: Path, keys: dict[str, Any], warned: bool
) -> None:
    gate = {"source": "rtsp://192.0.2.1/s", "events": {"tracks": "always"}, **keys}
    path = configuration(tmp_path, "centerface", gate=gate)
    notices = cli("check", "-c", path, "--json").json["notices"]
    sentence = (
        "streams.gate.track.max_gap is 2400ms, less than the time between two frames at a "
        "detect.max_fps of 0.4, so nobody is followed from one frame to the next"
    )
    assert (sentence in notices) is warned
    assert any("max_gap" in notice for notice in notices) is warned


@pytest.mark.usefixtures("fetched")
def test_the_same_as_json(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "yard.mp4").touch()
    yard = {"source": "yard.mp4", "privacy": {"blur": {"confidence": 0.5}}}
    path = configuration(tmp_path, "centerface", yard=yard)
    outcome = cli("check", "-c", path, "--json")
    assert outcome.code == 0
    assert outcome.json["valid"] is True
    notice, unsure = outcome.json["notices"]
    assert notice.startswith("streams.yard.privacy.blur.confidence is 0.5")
    assert unsure.startswith("model default and its labels are not checked, because it is")
    assert outcome.json["problems"] == []
    assert outcome.json["streams"] == [
        {
            "name": "yard",
            "source": "yard.mp4",
            "policy": "lossless",
            "record": "yard.mp4",
            "draw": "blur, boxes",
            "events": "yard.jsonl",
            "leaves": {
                "video": "stored all the time, in one file",
                "video_kept": None,
                "events": "for each frame with a detection, when it was, and what model default "
                "detected where",
                "events_kept": None,
                "for_good": True,
                "blur": "detections of model default",
                "masks": [],
            },
        }
    ]
    assert outcome.json["pages"] == "pages: none, nobody can connect"
    assert f"note: {notice}" in cli("check", "-c", path).out


MASK = {"neighbour": [[0.7, 0.0], [1.0, 0.0], [1.0, 0.3]]}
FRAME = "for each frame with a detection, when it was, and what model default detected where"
KEPT = "each file is deleted {} after its end, or sooner to make room"


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (
            {},
            [
                f"video: stored all the time, in files of 5min; {KEPT.format('14d')}",
                f"events: {FRAME}, with landmarks; {KEPT.format('14d')}",
                "privacy: nothing is covered, so people can be recognised",
            ],
        ),
        (
            {
                "record": {"when": "detection", "video": "source", "after": "1min"},
                "events": {"frames": "never", "tracks": "always", "keep_for": "90d"},
            },
            [
                "video: stored from 5s before to 1min after each detection, as the camera sends "
                f"it, in files of 5min; {KEPT.format('14d')}",
                "events: for each object that is followed, when it came and went; "
                f"{KEPT.format('90d')}",
                "privacy: nothing is covered, so people can be recognised",
            ],
        ),
        (
            {
                "record": {"keep_for": None},
                "events": {"frames": "always", "keep_for": "36h"},
                "privacy": {"blur": {"labels": ["face"]}, "masks": MASK},
                "zones": {"door": {"polygon": MASK["neighbour"]}},
            },
            [
                "video: stored all the time, in files of 5min; kept until there is no room for "
                "more",
                "events: for every frame, when it was, and what model default detected where; for "
                "each object that is followed, when it came and went and which zones and lines it "
                f"passed; {KEPT.format('36h')}",
                "privacy: in every picture, masks cover neighbour; detections of model default "
                "labelled face are covered, and what is missed is visible",
            ],
        ),
        (
            {"record": {"when": "never"}},
            [
                "video: not stored",
                f"events: {FRAME}, with landmarks; {KEPT.format('14d')}",
                "privacy: no picture is stored",
            ],
        ),
        (
            {"record": {"when": "never"}, "events": {"frames": "never"}, "privacy": {"blur": {}}},
            ["it only counts: neither video nor events are stored"],
        ),
        (
            {"source": "a.mp4", "events": {"keep_for": "1h"}, "privacy": {"keypoints": False}},
            [
                "video: stored all the time, in one file; kept forever",
                f"events: {FRAME}; each file is deleted 1h after its end",
                "privacy: nothing is covered, so people can be recognised",
            ],
        ),
    ],
)
def test_what_leaves_a_stream_is_said_in_plain_words(
    cli: CommandLine, tmp_path: Path, keys: dict[str, Any], lines: list[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    path = configuration(tmp_path, "centerface", gate={"source": "rtsp://192.0.2.1/s", **keys})
    shown = cli("check", "-c", path).out.splitlines()
    begin = shown.index("what leaves this machine's memory:")
    assert shown[begin + 1] == "- gate"
    assert [line.strip() for line in shown[begin + 2 : begin + 2 + len(lines)]] == lines
    assert shown[begin + 2 + len(lines)] == "- pages: none, nobody can connect"


def test_streams_of_which_the_same_is_true_are_shown_together(
    cli: CommandLine, tmp_path: Path
) -> None:
    streams: dict[str, Any] = {f"cam{n}": {"source": f"rtsp://192.0.2.{n}/s"} for n in range(64)}
    streams["cam7"]["record"] = {"keep_for": "1h"}
    path = configuration(tmp_path, "centerface", **streams)
    shown = cli("check", "-c", path).out.splitlines()
    groups = [line for line in shown if line.startswith("- cam")]
    others = ", ".join(name for name in streams if name != "cam7")
    assert groups == [f"- {others}", "- cam7"]


@pytest.mark.parametrize(
    ("listen", "who"), [("127.0.0.1:1", "this machine only"), ("0.0.0.0:1", "whoever can reach it")]
)
def test_who_may_see_the_pages(cli: CommandLine, tmp_path: Path, listen: str, who: str) -> None:
    path = configuration(tmp_path, "centerface", gate={"source": "rtsp://192.0.2.1/s"})
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "metrics": {"listen": listen}}))
    assert f"- pages: at {listen}, for {who}, without a password" in cli("check", "-c", path).out


def test_what_leaves_a_stream_names_the_models(cli: CommandLine, tmp_path: Path) -> None:
    models = {name: {"path": "centerface"} for name in ("coco", "plates", "faces")}
    blur = {"model": "faces", "labels": ["face", "mask"]}
    streams = {
        "gate": {"models": ["coco", "plates"], "privacy": {"blur": blur}},
        "yard": {"models": ["faces", "plates"], "privacy": {"blur": {}}},
    }
    path = configuration(tmp_path, "centerface", **streams)
    settings = json.loads(path.read_text()) | {"models": models}
    for stream in settings["streams"].values():
        stream["source"] = "rtsp://192.0.2.1/s"
    path.write_text(json.dumps(settings))
    gate, yard = cli("check", "-c", path, "--json").json["streams"]
    detected = "for each frame with a detection, when it was, and what models {} detected where"
    assert gate["leaves"]["events"] == detected.format("coco, plates")
    assert gate["leaves"]["blur"] == "detections of model faces labelled face, mask"
    assert yard["leaves"]["events"] == detected.format("faces, plates")
    assert yard["leaves"]["blur"] == "detections of models faces, plates"


@pytest.mark.usefixtures("fetched")
def test_no_sentence_has_two_colons(cli: CommandLine, tmp_path: Path) -> None:
    every: list[dict[str, Any]] = [
        {},
        {"record": {"when": "never"}, "events": {"frames": "never"}},
        {"privacy": {"blur": {"confidence": 0.5, "labels": ["face"]}, "masks": MASK}},
        {"record": {"when": "detection"}, "events": {"tracks": "always"}},
    ]
    named = {f"cam{n}": {"source": "rtsp://192.0.2.1/s", **keys} for n, keys in enumerate(every)}
    shown = cli("check", "-c", configuration(tmp_path, "centerface", **named)).out
    told = shown.partition("what leaves this machine's memory:\n")[2].splitlines()
    assert any(line.startswith("- logs: names of streams") for line in told)
    assert [line for line in told if line.count(": ") > 1] == []


def test_an_invalid_file(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("version: 1\nstreems: {}\n")
    outcome = cli("check", "-c", path, "--json")
    assert outcome.code == 78
    assert outcome.json["valid"] is False
    assert outcome.err == f"centernetd: {outcome.json['error']}\n"
    assert f"{path}:2: streems" in outcome.err
    assert cli("check", "-c", path).out == ""


def test_a_copy_is_judged_in_its_place(cli: CommandLine, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / "streams.d").mkdir(parents=True)
    (home / "streams.d" / "gate.yaml").write_text("source: gate.mp4\n")
    copy = elsewhere / "draft.yaml"
    copy.write_text("version: 1\n")
    assert cli("check", "-c", copy).code == 78
    outcome = cli("check", "-c", copy, "--base-dir", home, "--json")
    assert [stream["name"] for stream in outcome.json["streams"]] == ["gate"]
    assert cli("check", "-c", copy, "--base-dir", tmp_path / "nowhere").code == 2


def test_a_probe_tries_everything(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    clip(tmp_path / "gate.mp4", 30)
    path = configuration(tmp_path, model, gate={"source": "gate.mp4"})
    outcome = cli("check", "-c", path, "--probe", "--json")
    assert outcome.code == 0, outcome.err
    probe = outcome.json["probe"]
    (seen,) = probe["looks"]
    assert (seen["codec"], seen["width"], seen["height"]) == ("h264", 128, 128)
    assert seen["fps"] == pytest.approx(25)
    assert (probe["models"]["default"]["layout"], probe["models"]["default"]["labels"]) == (
        "ctdet",
        3,
    )
    assert outcome.json["problems"] == []
    measured = probe["capacity"]
    assert measured["stream"] == "gate"
    assert all(measured["costs"][part] > 0 for part in ("decode", "infer", "record", "bytes"))
    depth = sizes_for(Backend("onnxruntime-cpu", "a test asks for it"), "auto").lossless_depth
    assert probe["memory"] == (16 + 3 * depth + 28) * 128 * 128
    assert not (tmp_path / "out").exists()
    result = cli("check", "-c", path, "--probe").out
    for words in (
        "h264, 128x128, 25 frames/s",
        "runs on onnxruntime-cpu",
        "such streams",
        "memory:",
    ):
        assert words in result


@pytest.mark.parametrize("from_file", [True, False])
def test_a_probe_says_how_long_recordings_of_cameras_are_kept_and_not_those_of_files(
    cli: CommandLine,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    from_file: bool,
) -> None:
    clip(tmp_path / "gate.mp4", 30)
    monkeypatch.setattr(StreamConfig, "from_file", from_file)
    path = configuration(tmp_path, model, gate={"source": "gate.mp4"})
    measured = cli("check", "-c", path, "--probe", "--json").json["probe"]["capacity"]
    assert (measured["bytes_per_second"] == 0) is from_file
    assert (measured["days"] is None) is from_file
    assert (measured["limit"] is None) is from_file
    shown = cli("check", "-c", path, "--probe").out
    assert ("kept forever" in shown) is from_file
    assert ("recordings of cameras take" in shown) is not from_file
    assert ("days are kept, limited by" in shown) is not from_file


def test_a_probe_names_all_that_fails(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    clip(tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "out").touch()  # where the storage root would be made
    names = ("good", "missing", "text")
    streams: dict[str, dict[str, Any]] = {name: {"source": f"{name}.mp4"} for name in names}
    streams["good"]["detect"] = {"labels": ["purple"]}
    path = configuration(tmp_path, model, **streams)
    outcome = cli("check", "-c", path, "--probe", "--json")
    assert outcome.code == 78
    problems = outcome.json["problems"]
    starts = (
        "missing: can't be opened: no such file",
        "text: can't be opened: ",
        f"storage.root {tmp_path / 'out'} can't be written to",
        "streams.good.detect.labels: the model has no label 'purple'",
    )
    assert len(problems) == len(starts)
    assert all(map(str.startswith, problems, starts)), problems
    result = cli("check", "-c", path, "--probe")
    assert result.code == 78
    assert [line.removeprefix("problem: ") for line in result.out.splitlines()[-4:]] == problems


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (
            {"codec": "h264_nvenc"},
            "h264_nvenc can't encode: there is no NVIDIA GPU; set record.codec: auto",
        ),
        (
            {"video": "source"},
            "mpeg4 video can't be copied into MP4 (H.264 and H.265 can): "
            "set record.video: annotated",
        ),
    ],
)
def test_a_probe_names_the_stream_that_can_not_be_recorded(
    cli: CommandLine,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: dict[str, str],
    problem: str,
) -> None:
    monkeypatch.setattr(encoder, "has_nvidia_device", lambda: False)  # NVENC refuses so small ones
    clips.count(tmp_path / "gate.mp4", 30, (128, 128), codec="mpeg4")
    clips.count(tmp_path / "larger.mp4", 30, (256, 256))
    gate = {"source": "gate.mp4", "record": record}
    config = configuration(tmp_path, model, gate=gate, larger={"source": "larger.mp4"})
    outcome = cli("check", "-c", config, "--probe", "--json")
    assert outcome.code == 1
    assert outcome.json["problems"] == [f"gate: {problem}"]


def test_a_look_finds_what_a_start_would_stumble_over_with_the_same_exit_code(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "good.mp4")

    def judged(model: Path, **streams: dict[str, Any]) -> tuple[int, list[str]]:
        path = configuration(tmp_path, model, **streams)
        outcome = cli("check", "-c", path, "--json")
        assert outcome.code == cli("run", "-c", path).code, "one mistake, one exit code"
        lines = cli("check", "-c", path).out.splitlines()
        problems = outcome.json["problems"]
        assert [f"problem: {problem}" for problem in problems] == [
            line for line in lines if line.startswith("problem: ")
        ]
        assert lines[-1].startswith("OK; --probe also ") is not bool(problems)
        return outcome.code, problems

    good: dict[str, Any] = {"source": "good.mp4"}
    assert judged(model, good=good) == (0, [])
    missing = "lost: lost.mp4: there is no such file"
    assert judged(model, good=good, lost={"source": "lost.mp4"}) == (1, [missing])
    (tmp_path / "folder.mp4").mkdir()
    folder = "lost: folder.mp4: is a directory"
    assert judged(model, good=good, lost={"source": "folder.mp4"}) == (1, [folder])
    assert judged(tmp_path / "no.onnx", good=good) == (
        78, [f"{tmp_path / 'no.onnx'}: no such model file"]
    )  # fmt: skip
    wrong = {"source": "good.mp4", "detect": {"labels": ["purple"]}}
    code, problems = judged(model, good=good, one=wrong, two=wrong)
    assert code == 78
    assert [problem.split(":")[0] for problem in problems] == [
        "streams.one.detect.labels",
        "streams.two.detect.labels",
    ]


PART = {"polygon": [[0, 0], [1, 0], [1, 1]], "labels": ["purple"]}


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize(
    ("models", "keys", "unknown"),
    [
        ("known", {"detect": {"labels": ["purple", "red"]}}, ["detect.labels"]),
        ("known", {"zones": {"a": PART, "b": PART}}, ["zones.a.labels", "zones.b.labels"]),
        (
            ["known", "new"],
            {"privacy": {"blur": {"model": "known", "labels": ["purple"]}}},
            ["privacy.blur.labels"],
        ),
        (
            "known",
            {
                "detect": {"labels": ["purple"]},
                "privacy": {"blur": {"model": "new", "labels": ["purple"]}},
            },
            ["detect.labels"],
        ),
        (["known", "new"], {"detect": {"labels": ["purple"]}, "zones": {"a": PART}}, []),
        (["known", "new"], {"privacy": {"blur": {"labels": ["purple"]}}}, []),
    ],
)
def test_a_label_is_checked_if_all_models_that_may_have_it_are_prepared(
    cli: CommandLine,
    model: Path,
    tmp_path: Path,
    models: str | list[str],
    keys: dict[str, Any],
    unknown: list[str],
) -> None:
    clip(tmp_path / "a.mp4")
    one = {"source": "a.mp4", "models": models, **keys}
    path = configuration(tmp_path, model, one=one)
    settings = json.loads(path.read_text())
    settings["models"] = {"known": settings["models"]["default"], "new": {"path": "centerface"}}
    path.write_text(json.dumps(settings))
    outcome = cli("check", "-c", path, "--json")
    problems = outcome.json["problems"]
    assert [problem.split(":")[0] for problem in problems] == [
        f"streams.one.{key}" for key in unknown
    ]
    assert all("the model has no label 'purple'; it has red" in each for each in problems)
    assert outcome.code == (78 if unknown else 0)


@pytest.mark.parametrize(
    "damage", [damage for damage in damages.ANY if damage is not damages.unsealed]
)
def test_a_built_in_model_that_can_not_be_used_is_a_problem_of_each_command(
    cli: CommandLine, fetched: Path, tmp_path: Path, damage: Damage
) -> None:
    clip(tmp_path / "a.mp4")
    path = configuration(tmp_path, "centerface", one={"source": "a.mp4"})
    damage(fetched)
    for command in (["check"], ["check", "--probe"], ["run"]):
        outcome = cli(*command, "-c", path)
        assert outcome.code == 1
        assert "run `centernetd fetch centerface`" in outcome.out + outcome.err


def test_a_built_in_model_that_is_not_here_may_be_in_the_cache_of_the_service(
    cli: CommandLine, fetched: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "a.mp4")
    path = configuration(tmp_path, "centerface", one={"source": "a.mp4"})
    fetched.unlink()
    outcome = cli("check", "-c", path)
    assert outcome.code == 0
    assert f"not prepared in {tmp_path / 'cache'}; --probe prepares it, or says" in outcome.out
    for command in (["check", "--probe"], ["run"]):
        outcome = cli(*command, "-c", path)
        assert outcome.code == 78
        assert "run `centernetd fetch centerface`" in outcome.out + outcome.err


def test_a_cache_that_can_not_be_read_is_a_problem_of_each_command(
    cli: CommandLine, tmp_path: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(closed / "cache"))
    clip(tmp_path / "a.mp4")
    path = configuration(tmp_path, "centerface", one={"source": "a.mp4"})
    sentence = (
        "can't be read: Permission denied; let this user read it, or set CACHE_DIRECTORY to another"
    )
    for command in (["check"], ["check", "--probe"], ["run"]):
        outcome = cli(*command, "-c", path)
        assert outcome.code == 1
        (line,) = [line for line in (outcome.out + outcome.err).splitlines() if sentence in line]
        assert f": {closed}/cache/prepared: this cache folder " in line


@pytest.mark.parametrize("kind", ["record", "events"])
@pytest.mark.parametrize("rest", ["a", "%Y/a"])
@pytest.mark.parametrize("blocked", ["a file", "a folder of another user"])
def test_a_stream_whose_files_can_not_be_written_is_a_problem(
    cli: CommandLine, model: Path, tmp_path: Path, kind: str, rest: str, blocked: str
) -> None:
    clip(tmp_path / "gate.mp4")
    (tmp_path / "out").mkdir()
    folder = tmp_path / "out" / "gate"
    folder.touch() if blocked == "a file" else folder.mkdir(0o555)
    suffix = {"record": "mp4", "events": "jsonl"}[kind]
    gate = {"source": "gate.mp4", kind: {"path": f"{{stream}}/{rest}.{suffix}"}}
    path = configuration(tmp_path, model, gate=gate)
    with permissions.respected():
        for command in (["check"], ["check", "--probe"]):
            outcome = cli(*command, "-c", path, "--json")
            assert outcome.code == 1
            assert outcome.json["problems"] == [f"gate: {folder} can't be written to"]
        assert cli("run", "-c", path).code == 1


@pytest.mark.parametrize("target", ["good.mp4", "good.mp4/new", "out"])
def test_a_storage_root_that_cannot_be_a_folder_is_a_problem(
    cli: CommandLine, model: Path, tmp_path: Path, target: str
) -> None:
    clip(tmp_path / "good.mp4")
    (root := tmp_path / "out").symlink_to(target)
    path = configuration(tmp_path, model, good={"source": "good.mp4"})
    result = cli("check", "-c", path)
    assert result.out.endswith(f"problem: storage.root {root} can't be written to\n")
    assert result.code == cli("run", "-c", path).code == 1


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cuda"])
def test_an_engine_that_cannot_run_here_is_a_problem(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    model = squares_model(tmp_path)
    path = configuration(tmp_path, model, good={"source": str(clip(tmp_path / "good.mp4"))})
    settings = json.loads(path.read_text()) | {"engine": {"backend": backend}}
    path.write_text(json.dumps(settings))
    result = cli("check", "-c", path)
    assert "problem: cuda-python can't be used" in result.out
    assert result.code == cli("run", "-c", path).code == 70


def test_a_port_that_another_has_is_a_problem_and_the_daemon_s_own_is_none(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "good.mp4")
    path = configuration(tmp_path, model, good={"source": "good.mp4"})
    settings = json.loads(path.read_text())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings["metrics"] = {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}
        path.write_text(json.dumps(settings))
        outcome = cli("check", "-c", path, "--json")
        assert outcome.code == cli("run", "-c", path).code == 1
        (problem,) = outcome.json["problems"]
        assert problem.startswith("metrics.listen 127.0.0.1:")
        root = load(path).storage_root
        root.mkdir(exist_ok=True)
        lock = LockFile(root / LOCK_NAME)  # as a running daemon holds it
        assert cli("check", "-c", path, "--json").json["problems"] == []
        lock.close()


def test_a_probe_without_a_model(cli: CommandLine, tmp_path: Path) -> None:
    clip(tmp_path / "good.mp4")
    path = configuration(tmp_path, tmp_path / "no.onnx", good={"source": "good.mp4"})
    outcome = cli("check", "-c", path, "--probe", "--json")
    assert outcome.code == 78
    assert outcome.json["problems"] == [f"{tmp_path / 'no.onnx'}: no such model file"]
    assert outcome.json["probe"]["capacity"] is None


def test_a_named_pipe_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = load(configuration(tmp_path, "centerface", pipe={"source": "pipe"}))
    (seen,) = probe_sources(config.streams.values())
    assert seen.skipped
    assert seen.problem is None


@pytest.mark.parametrize(
    ("pts", "fps"), [([0, 40, 80, 120], 25), ([0, 1500, 3000, 4500, 6000], 1 / 1.5), ([7], None)]
)
def test_the_rate_is_reported_by_the_source_s_own_times(
    pts: list[int], fps: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FakeSource([picture(value) for value in pts])
    monkeypatch.setattr(probe, "open_stream", lambda *_, **__: source)
    config = load(configuration(tmp_path, "centerface", cam={"source": "v4l2:0"}))
    (seen,) = probe_sources(config.streams.values())
    assert seen.fps == (fps if fps is None else pytest.approx(fps))
    assert source.closed == 1


def test_pictures_without_times_are_timed_by_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GStreamer server's first pictures have no time: the two clocks are never mixed."""
    config = load(configuration(tmp_path, "centerface", cam={"source": "v4l2:0"}))
    for pts, fps in (([None, None, 0, 40, 80, 120], 25), ([None] * 4, 2), ([None, 7, None], 2)):
        now = iter(range(1000))
        monkeypatch.setattr("time.monotonic", lambda now=now: 0.5 * next(now))
        source = FakeSource([picture(value) for value in pts])
        monkeypatch.setattr(probe, "open_stream", lambda *_, source=source, **__: source)
        (seen,) = probe_sources(config.streams.values())
        assert seen.fps == pytest.approx(fps)


def test_a_source_that_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(configuration(tmp_path, "centerface", cam={"source": "v4l2:0"}))
    for script, problem in (
        ([], "contains no picture that can be decoded"),
        ([SourceError("nothing came for 10 s", "stalled")], "nothing came for 10 s"),
    ):
        source = FakeSource(script)
        monkeypatch.setattr(probe, "open_stream", lambda *_, source=source, **__: source)
        (seen,) = probe_sources(config.streams.values())
        assert seen.problem == problem
        assert source.closed == 1


def test_what_fits_follows_from_the_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores of which 1.8 count; 10 ms of decoding, 20 of detecting, 2 of recording."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(
        capacity, "_measure_costs", lambda *_: Costs(0.010, 0.020, 0.002, 4000, {"default": 0.020})
    )
    streams: dict[str, dict[str, Any]] = {
        "big": {"source": "v4l2:0"},
        "small": {"source": "v4l2:1", "detect": {"max_fps": 5}},
        "silent": {"source": "v4l2:2", "record": {"when": "never"}},
        "film": {"source": "film.mp4"},
        "dead": {"source": "v4l2:3"},
    }
    config = load(configuration(tmp_path, "centerface", **streams))
    looks = [
        SourceProbe("big", width=1000, height=500, fps=10),
        SourceProbe("small", width=500, height=500, fps=10),
        SourceProbe("silent", width=1000, height=500, fps=10),
        SourceProbe("film", width=500, height=500, fps=10),
        SourceProbe("dead", problem="can't be opened"),
    ]
    disk = StorageConfig(min_free=10**9)
    found = measure(config.streams, looks, None, disk, 2 * 10**9)  # type: ignore[arg-type]
    assert found is not None
    assert (found.stream, found.fps, found.cores) == ("big", 10, 2)
    assert found.fits == 5  # 1.8 / 0.32
    assert found.frames_per_second == pytest.approx(1.8 / 0.032)
    needs = 10 * 0.032 + (10 * 0.005 + 5 * 0.020 + 5 * 0.001) + 10 * 0.030 + 10 * 0.026
    assert found.load == pytest.approx(needs / 1.8)
    assert found.bytes_per_second == pytest.approx(10 * 4000 + 5 * 2000)
    assert found.days == pytest.approx(10**9 / 50_000 / 86400)
    assert found.limit == "the disk"
    assert measure(config.streams, looks[4:], None, disk, 0) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("storage", "periods", "days", "limit"),
    [
        ({"min_free": 0}, [None], 10.0, "the disk"),
        ({"min_free": 5 * 86400 * 1000}, [None], 5.0, "the disk"),
        ({"min_free": 11 * 86400 * 1000}, [None], 0.0, "the disk"),
        ({"min_free": 0, "max_bytes": 2 * 86400 * 1000}, [None], 2.0, "storage.max_bytes"),
        ({"min_free": 0}, [3 * 86400.0, 86400.0], 3.0, "keep_for"),
        ({"min_free": 0}, [3 * 86400.0, None], 10.0, "the disk"),
    ],
)
def test_recordings_are_kept_as_long_as_the_tightest_limit_allows(
    storage: dict[str, Any], periods: list[float | None], days: float, limit: str
) -> None:
    config = StorageConfig.model_validate({"max_bytes": None, **storage})
    kept, by = capacity._kept(1000.0, config, periods, 10 * 86400 * 1000)
    assert kept == pytest.approx(days)
    assert by == limit


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert disk_of(tmp_path / "a" / "b").writable
    assert not disk_of(tmp_path / "file" / "a").writable
    assert disk_of(tmp_path / "a").free > 0
    (tmp_path / "loop").symlink_to("loop")
    assert not disk_of(tmp_path / "loop").writable
    assert not disk_of(tmp_path / "loop" / "a").writable
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, (1920, 1080), 68 * 1920 * 1080),
        ({}, (8192, 4320), 44 * 8192 * 4320 + (256 << 20)),
        ({"record": {"when": "never"}}, (1920, 1080), 40 * 1920 * 1080),
        ({"record": {"video": "source"}}, (1920, 1080), 40 * 1920 * 1080),
        (
            {"record": {"when": "never"}, "events": {"frames": "never"}},
            (1920, 1080),
            16 * 1920 * 1080,
        ),
        ({"record": {"when": "detection"}}, (1920, 1080), 68 * 1920 * 1080 + (64 << 20)),
        ({"record": {"when": "detection"}}, (0, 0), 0),
        ({"policy": "lossless"}, (1920, 1080), 74 * 1920 * 1080),
        ({"policy": "lossless"}, (8192, 4320), 44 * 8192 * 4320 + 10 * 3 * 8192 * 4320),
    ],
)
def test_how_much_memory_a_stream_may_take(
    settings: dict[str, Any], size: tuple[int, int], expected: int, tmp_path: Path
) -> None:
    camera = {"source": "rtsp://camera/a"}
    path = configuration(tmp_path, "centerface", gate={**camera, **settings}, other=camera)
    looks = [
        SourceProbe("gate", width=size[0], height=size[1]),
        SourceProbe("other", problem="dead"),
    ]
    assert most_memory(load(path).streams, looks, 10) == expected
