import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from centernetd.config import (
    Address,
    BlurConfig,
    Config,
    StreamConfig,
    cache_dir,
    from_sources,
    load,
    state_dir,
)
from centernetd.config.config import difference
from centernetd.errors import ConfigError

Loader = Callable[[str], Config]


@pytest.fixture
def read(tmp_path: Path) -> Loader:
    """Return a loader of a text behind the version line."""

    def read(text: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(f"version: 1\n{text}")
        return load(path)

    return read


def test_a_camera_in_three_lines(read: Loader) -> None:
    config = read("streams:\n  gate:\n    source: rtsp://u:pw@h/x\n")
    assert list(config.streams) == ["gate"]
    stream = config.streams["gate"]
    assert (stream.name, stream.policy, stream.models) == ("gate", "live", ("default",))
    assert stream.source.reveal() == "rtsp://u:pw@h/x"
    assert stream.record.segment == 300.0
    assert config.secrets() == {"pw", "dTpwdw=="}, "as it is and as HTTP sends it"
    assert config.notices() == ()


def test_an_omitted_key_has_the_default_of_the_class(read: Loader) -> None:
    stream = read("streams: {gate: {source: 'rtsp://h/x'}}").streams["gate"]
    assert stream == StreamConfig(name="gate", source=stream.source)


def test_a_stream_overrides_the_defaults_key_by_key(read: Loader) -> None:
    config = read("""
defaults:
  max_frame_age: 250ms
  detect: {confidence: 0.5, labels: [person, face]}
  record: {draw: []}
streams:
  a: {source: 'rtsp://h/a', detect: {confidence: 0.7}, record: {segment: 1h}}
  b: {source: 'rtsp://h/b', detect: {labels: []}}
""")
    a, b = config.streams["a"], config.streams["b"]
    assert a.max_frame_age == b.max_frame_age == 0.25
    assert (a.detect.confidence, a.detect.labels) == (0.7, ("person", "face"))
    assert (b.detect.confidence, b.detect.labels) == (0.5, ())
    assert (a.record.draw, a.record.segment) == ((), 3600.0)
    assert (b.record.draw, b.record.segment) == ((), 300.0)


def test_what_is_blurred(read: Loader) -> None:
    config = read("""
defaults: {privacy: {blur: {labels: [face], hold: 0s}}}
streams:
  a: {source: a.mp4}
  b: {source: b.mp4, privacy: {blur: {confidence: 0.1, hold: 40ms, model: default}}}
  c: {source: c.mp4, privacy: {blur: null}}
  d: {source: d.mp4, privacy: {blur: {model: faces}}}
models: {default: {}, faces: {}}
""")
    assert {name: stream.privacy.blur for name, stream in config.streams.items()} == {
        "a": BlurConfig(labels=("face",), hold=0.0),
        "b": BlurConfig(confidence=0.1, labels=("face",), hold=0.04, model="default"),
        "c": None,
        "d": BlurConfig(labels=("face",), hold=0.0, model="faces"),
    }
    models = {name: (stream.models, stream.blur_only) for name, stream in config.streams.items()}
    assert models["b"] == (("default",), None)
    assert models["d"] == (("default", "faces"), "faces"), "it runs there too"
    assert config.notices() == ()


def test_blur_in_the_keys_of_before(read: Loader) -> None:
    config = read("""
defaults: {blur: {labels: [face], hold: 0s}}
streams:
  a: {source: a.mp4}
  b: {source: b.mp4, record: {draw: none}, blur: {confidence: 0.1, hold: 40ms}}
  c: {source: c.mp4, record: {draw: boxes}, blur: null}
  d: {source: d.mp4, record: {draw: blur}, blur: null}
  e: {source: e.mp4, record: {draw: blur}}
""")
    assert {
        name: (stream.privacy.blur, stream.record.draw) for name, stream in config.streams.items()
    } == {
        "a": (BlurConfig(labels=("face",), hold=0.0), ("boxes", "ids", "zones")),
        "b": (BlurConfig(confidence=0.1, labels=("face",), hold=0.04), ()),
        "c": (None, ("boxes",)),
        "d": (BlurConfig(), ()),
        "e": (BlurConfig(labels=("face",), hold=0.0), ()),
    }
    assert all(stream.privacy.shows_keypoints for stream in config.streams.values()), "as before"
    later = "; a later version will refuse its old name"
    blur = "blur is now called privacy.blur"
    draw = "draw: blur is now `draw: []` with `privacy: {blur: {}}`"
    assert [re.sub(r"^.*/", "", notice) for notice in config.notices()] == [
        f"config.yaml:3: {blur}{later}",
        f"config.yaml:6: {blur}{later}",
        f"config.yaml:6: draw: none is now `draw: []`{later}",
        f"config.yaml:7: {blur}{later}",
        f"config.yaml:7: draw: boxes is now `draw: [boxes]`{later}",
        f"config.yaml:8: {blur}{later}",
        f"config.yaml:8: {draw}{later}",
        f"config.yaml:9: {draw}{later}",
    ]


def test_what_is_drawn(read: Loader) -> None:
    config = read("""
timezone: Europe/Berlin
streams:
  a: {source: a.mp4, record: {draw: [clock, boxes]}}
  b: {source: b.mp4}
""")
    a, b = config.streams["a"], config.streams["b"]
    assert (a.record.draw, a.timezone) == (("clock", "boxes"), "Europe/Berlin")
    assert b.record.draw == ("boxes", "ids", "zones")
    assert config.notices() == ()


@pytest.mark.parametrize(
    ("privacy", "shown"),
    [
        ("", True),
        ("privacy: {}", True),
        ("privacy: {keypoints: false}", False),
        ("privacy: {blur: {}}", False),
        ("privacy: {masks: {a: [[0, 0], [1, 0], [0, 1]]}}", False),
        ("privacy: {blur: {}, keypoints: true}", True),
        ("blur: {}", True),
        ("blur: {}, privacy: {keypoints: false}", False),
        ("blur: {}, privacy: {}", False),
    ],
)
def test_which_landmarks_are_given_out(read: Loader, privacy: str, shown: bool) -> None:
    (stream,) = read(f"streams: {{a: {{source: x, {privacy}}}}}").streams.values()
    assert stream.privacy.shows_keypoints == shown


def test_masks(read: Loader) -> None:
    config = read("""
defaults: {privacy: {masks: {clock: [[0, 0], [0.2, 0], [0, 0.1]]}}}
streams:
  a: {source: a.mp4, privacy: {masks: {neighbour: [[0.7, 0.0], [1, 0.0], [1, 0.3]]}}}
  b: {source: b.mp4, privacy: {masks: {clock: [[0, 0], [1, 0], [1, 0.1]]}}}
""")
    assert {name: stream.privacy.masks for name, stream in config.streams.items()} == {
        "a": {
            "clock": ((0, 0), (0.2, 0), (0, 0.1)),
            "neighbour": ((0.7, 0), (1, 0), (1, 0.3)),
        },
        "b": {"clock": ((0, 0), (1, 0), (1, 0.1))},
    }


@pytest.mark.parametrize(
    ("source", "policy"),
    [
        ("clip.mp4", "lossless"),
        ("rtsp://h/x", "live"),
        ("http://h/clip.mp4", "lossless"),
        ("v4l2:0", "live"),
    ],
)
def test_the_policy_follows_the_source(read: Loader, source: str, policy: str) -> None:
    config = read(f"streams: {{a: {{source: '{source}'}}, b: {{source: x, policy: live}}}}")
    assert (config.streams["a"].policy, config.streams["b"].policy) == (policy, "live")


def test_a_file_is_recorded_in_one_piece_unless_configured_otherwise(read: Loader) -> None:
    plain = read("streams: {a: {source: x.mp4}}").streams["a"]
    assert (plain.record.path, plain.record.segment) == ("{stream}.mp4", None)
    assert plain.events.path == "{stream}.jsonl"
    loaded = read("""
defaults: {record: {segment: 10s}, events: {path: "%Y/{stream}.jsonl"}}
streams: {a: {source: x.mp4, record: {path: "%Y/{stream}.mp4"}}}
""").streams["a"]
    assert (loaded.record.path, loaded.record.segment) == ("%Y/{stream}.mp4", 10.0)
    assert loaded.events.path == "%Y/{stream}.jsonl"


def test_files_are_kept_as_long_as_the_storage_says_unless_the_stream_does(read: Loader) -> None:
    streams = read("""
storage: {keep_for: 30d}
defaults: {events: {keep_for: 90d}}
streams:
  gate: {source: 'rtsp://h/a'}
  yard: {source: 'rtsp://h/b', record: {keep_for: 72h}, events: {keep_for: null}}
  clip: {source: clip.mp4}
""").streams
    day = 86_400.0
    kept = {name: (each.record.keep_for, each.events.keep_for) for name, each in streams.items()}
    assert kept == {
        "gate": (30 * day, 90 * day),
        "yard": (3 * day, None),
        "clip": (None, 90 * day),
    }, "what is made from a file is kept, unless the configuration sets its time"


def test_input_paths_are_relative_to_the_file(read: Loader, tmp_path: Path) -> None:
    config = read("""
models: {default: {path: nets/mine.onnx, labels_file: labels.txt}}
streams: {a: {source: clips/x.mp4}, b: {source: /srv/y.mp4}}
""")
    model = config.models["default"]
    assert config.base_dir == tmp_path
    assert (model.path, model.labels_file) == (
        str(tmp_path / "nets/mine.onnx"),
        str(tmp_path / "labels.txt"),
    )
    assert not model.is_builtin
    assert config.streams["a"].source.reveal() == str(tmp_path / "clips/x.mp4")
    assert config.streams["b"].source.reveal() == "/srv/y.mp4"


def test_each_stream_names_its_models_or_runs_the_first(read: Loader) -> None:
    config = read(
        "models: {faces: {}, coco: {path: coco}}\n"
        "streams: {a: {source: x}, b: {source: x, models: coco},"
        " c: {source: x, models: [coco, faces]}, d: {source: x, models: []}}"
    )
    named = {name: stream.models for name, stream in config.streams.items()}
    first = ("faces",)
    assert named == {"a": first, "b": ("coco",), "c": ("coco", "faces"), "d": first}
    assert config.notices() == ()


def test_the_old_name_of_models_is_read_with_a_warning(read: Loader) -> None:
    config = read(
        "models: {faces: {}, coco: {path: coco}}\n"
        "defaults: {model: coco}\n"
        "streams: {a: {source: x}, b: {source: x}, c: {source: x, model: faces}}"
    )
    named = {name: stream.models for name, stream in config.streams.items()}
    assert named == {"a": ("coco",), "b": ("coco",), "c": ("faces",)}
    lines = [notice.partition("config.yaml:")[2] for notice in config.notices()]
    sentence = "model is now called models; a later version will refuse its old name"
    assert lines == [f"3: {sentence}", f"4: {sentence}"]


def test_the_old_name_of_frames_is_read_with_a_warning(read: Loader) -> None:
    old = read(
        "defaults: {events: {when: never}}\n"
        "streams: {a: {source: x}, b: {source: x, events: {when: always}}}"
    )
    new = read(
        "streams:\n  a: {source: x, events: {frames: never}}\n"
        "  b: {source: x, events: {frames: always}}"
    )
    assert {name: stream.events.frames for name, stream in old.streams.items()} == {
        "a": "never",
        "b": "always",
    }
    assert str(difference(old, new)) == "nothing has changed"
    lines = [notice.partition("config.yaml:")[2] for notice in old.notices()]
    sentence = "events.when is now called events.frames; a later version will refuse its old name"
    assert lines == [f"2: {sentence}", f"3: {sentence}"]
    assert new.notices() == ()


def test_a_stream_s_new_name_wins_over_the_old_one_in_the_defaults(read: Loader) -> None:
    config = read("""
models: {faces: {}, coco: {path: coco}}
defaults: {model: coco, blur: {hold: 0s}, events: {when: never}}
streams:
  old: {source: a}
  models: {source: b, models: faces}
  first: {source: c, models: []}
  blur: {source: d, privacy: {blur: null}}
  frames: {source: e, events: {frames: always}}
""")
    blur = BlurConfig(hold=0.0)
    assert {
        name: (stream.models, stream.privacy.blur, stream.events.frames)
        for name, stream in config.streams.items()
    } == {
        "old": (("coco",), blur, "never"),
        "models": (("faces",), blur, "never"),
        "first": (("faces",), blur, "never"),
        "blur": (("coco",), None, "never"),
        "frames": (("coco",), blur, "always"),
    }
    assert len(config.notices()) == 3


def test_an_old_name_in_the_defaults_is_warned_of_even_where_no_stream_takes_it(
    read: Loader,
) -> None:
    (notice,) = read("defaults: {model: x}\nstreams: {a: {source: x, models: default}}").notices()
    assert "config.yaml:2: model is now called models;" in notice


def test_a_node_is_named_or_gets_a_name_that_says_nothing(
    read: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = "streams: {a: {source: x}}"
    assert read(f"node: box-7\n{streams}").node == "box-7"
    machine = tmp_path / "machine-id"
    monkeypatch.setattr("centernetd.config.resolve._MACHINE_ID", machine)
    assert read(streams).node == "unnamed"
    nodes = set()
    for text in ("0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210\n"):
        machine.write_text(text)
        node = read(streams).node
        assert node == read(streams).node
        assert re.fullmatch("[0-9a-f]{12}", node)
        assert node not in text
        nodes.add(node)
    assert len(nodes) == 2


def test_a_bare_word_is_a_built_in_model(read: Loader) -> None:
    assert read("streams: {a: {source: x}}").models["default"].is_builtin


def test_outputs_and_caches_go_where_systemd_requires(
    read: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    config = read("storage: {root: out}\nstreams: {a: {source: x}}")
    assert config.storage_root == tmp_path / "out"
    assert config.cache_dir == Path("/caches/centernetd")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/one")
    config = read("storage: {root: out}\nstreams: {a: {source: x}}")
    assert config.storage_root == Path("/var/lib/one/out")
    assert config.cache_dir == cache_dir() == Path("/var/cache/one")
    assert state_dir() == Path("/var/lib/one")


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="set CACHE_DIRECTORY"):
        cache_dir()


def test_the_server_can_be_opened_moved_and_turned_off(read: Loader) -> None:
    streams = "\nstreams: {a: {source: x}}"
    assert read(f"metrics: {{listen: 0.0.0.0:80}}{streams}").metrics.listen == ("0.0.0.0", 80)
    six = read(f"metrics: {{listen: '[::1]:0'}}{streams}").metrics.listen
    assert six == Address("::1", 0)
    assert str(six) == "[::1]:0"
    assert read(f"metrics: {{listen: null}}{streams}").metrics.listen is None


def test_keys_of_ones_own_begin_with_x(read: Loader) -> None:
    config = read("x-a: [1, {b: 2}]\nstreams: {x-b: {source: x, x-note: east, detect: {x-c: }}}")
    assert list(config.streams) == ["x-b"]


def test_scalars_are_those_of_yaml_1_2(read: Loader) -> None:
    config = read("streams: {a: {source: x, detect: {confidence: 5e-1, labels: [no, 'yes', 1_0]}}}")
    assert config.streams["a"].detect.confidence == 0.5
    assert config.streams["a"].detect.labels == ("no", "yes", "1_0")


def test_the_digest_is_that_of_the_file(read: Loader, tmp_path: Path) -> None:
    config = read("streams: {a: {source: x}}")
    assert config.sha256 == sha256((tmp_path / "config.yaml").read_bytes()).hexdigest()


def test_a_folder_adds_a_stream_for_each_file(read: Loader, tmp_path: Path) -> None:
    folder = tmp_path / "streams.d"
    folder.mkdir()
    (folder / "gate.yaml").write_text("source: gate.mp4\ndetect: {confidence: 0.9}\n")
    (folder / "yard.yaml").write_text("source: rtsp://h/yard\n")
    (folder / ".gate.yaml").write_text("an editor's leaving")
    (folder / "README").write_text("not read")
    before = read("streams: {a: {source: x}}")
    config = read("defaults: {policy: live}\nstreams:\n")
    assert list(config.streams) == ["gate", "yard"]
    assert config.streams["gate"].policy == "live"
    assert config.streams["gate"].detect.confidence == 0.9
    assert config.streams["gate"].source.reveal() == str(tmp_path / "gate.mp4")
    (folder / "yard.yaml").write_text("source: rtsp://h/yard2\n")
    assert read("streams: {a: {source: x}}").sha256 != before.sha256


def test_a_copy_is_read_as_if_it_stood_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "streams.d").mkdir(parents=True)
    (home / "streams.d" / "gate.yaml").write_text("source: gate.mp4\n")
    copy = tmp_path / "copy.yaml"
    copy.write_text("version: 1\nmodels: {default: {path: net.onnx}}\n")
    config = load(copy, base_dir=home)
    assert config.base_dir == home
    assert config.models["default"].path == str(home / "net.onnx")
    assert config.streams["gate"].source.reveal() == str(home / "gate.mp4")


def test_one_source_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", "/elsewhere")
    monkeypatch.setenv("GATE_PW", "hunter2")
    config = from_sources(["rtsp://u:${GATE_PW}@h/x"], Path("out/Gate 100%.mp4"))
    stream = config.streams["gate-100-"]
    assert (stream.policy, stream.events.frames) == ("live", "never")
    assert (stream.record.path, stream.record.segment) == ("Gate 100%%.mp4", None)
    assert config.storage_root == tmp_path / "out"
    assert config.metrics.listen is None
    assert "hunter2" in config.secrets()


def test_one_source_without_output_only_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stream = from_sources(["x.mp4"]).streams["x"]
    assert (stream.record.when, stream.events.frames) == ("never", "never")
    assert stream.source.reveal() == str(tmp_path / "x.mp4")


def test_several_sources_record_into_a_folder_under_their_names(tmp_path: Path) -> None:
    sources = ["a/Hall.mp4", "b/hall.mkv", "rtsp://h/1", "rtsp://h/2"]
    config = from_sources(sources, tmp_path / "out")
    assert list(config.streams) == ["hall", "hall-2", "stream", "stream-2"]
    assert {stream.record.path for stream in config.streams.values()} == {"{stream}.mp4"}
    assert config.storage_root == tmp_path / "out"
    for folder in (tmp_path, tmp_path / "new"):
        config = from_sources(["a.mp4"], folder)
        assert (config.storage_root, config.streams["a"].record.path) == (folder, "{stream}.mp4")
    with pytest.raises(ConfigError, match="must be a folder, as there are several sources"):
        from_sources(sources, tmp_path / "out.mp4")


def test_what_is_set_besides_holds_for_each_source() -> None:
    defaults = {
        "detect": {"confidence": 0.7, "labels": ("face",)},
        "record": {"draw": ()},
        "events": {"frames": "detections"},
    }
    config = from_sources(["a.mp4", "b.mp4"], Path("out"), "net.onnx", defaults)
    assert config.models["net"].path == str(Path.cwd() / "net.onnx")
    for stream in config.streams.values():
        assert (stream.detect.confidence, stream.detect.labels) == (0.7, ("face",))
        assert (stream.record.draw, stream.record.when) == ((), "always")
        assert (stream.events.frames, stream.events.path) == ("detections", "{stream}.jsonl")


@pytest.mark.parametrize(
    ("source", "output", "sentence"),
    [
        ("ftp://u:hunter2@h", "a.mp4", "source ftp://***@h: has a scheme that is not supported"),
        ("rtsp://u:${UNSET_PW}@h", "a.mp4", "${UNSET_PW} is neither in the environment"),
        ("x", "a.avi", "output a.avi: must end in .mp4 or .mkv, or be a folder"),
        ("x", "{a}.mp4", "output {a}.mp4: only {stream} is allowed in braces"),
        ("x", "\udcff.mp4", "output \udcff.mp4: "),
    ],
)
def test_a_wrong_source_or_output_is_reported(source: str, output: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_sources([source], Path(output))
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)
