"""Every way in which a configuration can be wrong: one sentence, with file, line and key."""

from pathlib import Path

import pytest

from centernetd.config import load
from centernetd.errors import ConfigError

STREAM = "\nstreams: {a: {source: x.mp4}}"
EMPTY = "config.yaml:{}: must be a mapping of keys ({{}} for the defaults), not nothing"


def refusal(path: Path, text: str | bytes) -> str:
    """Return the sentence with which a file is refused, the path cut down to its name."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert caught.value.exit_code == 78
    return sentence.replace(f"{path.parent}/", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "config.yaml: is empty"),
        ("# nothing\n---\n", "config.yaml: is empty"),
        ("centernet", "config.yaml:1: must be a mapping of keys"),
        ("- a", "config.yaml:1: must be a mapping of keys"),
        (b"a: 1\nb: \xff", "config.yaml:2: is not UTF-8 text"),
        ("a: 1\nb: \x07", "config.yaml: contains characters that YAML doesn't allow"),
        ('a: "\\U0011ffff"', "config.yaml: contains characters that YAML doesn't allow"),
        ('a:\n  "\\0"', "config.yaml:2: a value contains a control character"),
        ('"\\0": 1', "config.yaml:1: a key contains a control character"),
        ('"\\ud800": 1', "config.yaml:1: a key contains a control character"),
        ("a:\n\t- 1", "config.yaml:2: is not YAML: a tab can't indent; use spaces"),
        ("a: [", "config.yaml:1: is not YAML: expected the node content, but found '<stream end>'"),
        ("a: 1\nb: 2\na: 3", "config.yaml:3: a: is given twice, first on line 1; keep one"),
        ("b: {a: 1,\n a: 2}", "config.yaml:2: b.a: is given twice, first on line 1; keep one"),
        ("a: &b 1", "config.yaml:1: anchors and aliases (& and *) are not supported; write it out"),
        ("a: *b", "config.yaml:1: anchors and aliases (& and *) are not supported; write it out"),
        ("a: !!python/name:os.system", "config.yaml:1: tags (!) are not supported"),
        ("{a: 1}: 2", "config.yaml:1: a key must be plain text"),
        ("a: 1\n---\nb: 2", "config.yaml:2: a second document begins here; only one is allowed"),
        ("a: ${", "config.yaml:1: a: a ${ must continue as in ${NAME}; write $${ for a literal ${"),
        (
            "a: [1,\n '${b c}']",
            "config.yaml:2: a[1]: a ${ must continue as in ${NAME}; write $${ for a lit",
        ),
    ],
)
def test_what_is_no_plain_yaml(path: Path, text: str | bytes, sentence: str) -> None:
    assert refusal(path, text).startswith(sentence)


@pytest.mark.parametrize("opening", ["[", "{b: ", "- "])
def test_what_is_too_deep(path: Path, opening: str) -> None:
    sentence = refusal(path, "# deep\n" + opening * 3000)
    assert sentence == "config.yaml:2: is nested more than 16 levels deep"


def test_what_is_too_large(path: Path) -> None:
    sentence = refusal(path, "a: " + "b" * 10_000_000)
    assert sentence == "config.yaml: can't be read: it is larger than 256 KiB"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("metrics: {}", "config.yaml:1: version: is missing"),
        ("version: 2", "config.yaml:1: version: must be 1: no other version of the format exists"),
        ("version: true", "config.yaml:1: version: must be 1: no other version"),
        ("version: 1\n", "config.yaml:1: streams: no streams: give at least one"),
        ("version: 1\nstreams:\n", "config.yaml:2: streams: no streams: give at least one"),
        ("version: 1\nmetrics:" + STREAM, EMPTY.format("2: metrics")),
        (
            "version: 1\nstreams:\n  a:\n    source: x\n    record:",
            EMPTY.format("5: streams.a.record"),
        ),
        (
            "version: 1\ndefaults:\n  privacy: {blur: }" + STREAM,
            EMPTY.format("3: defaults.privacy.blur"),
        ),
        ("version: 1\nstorage: {keep_for: }" + STREAM, "config.yaml:2: storage.keep_for: "),
        ("version: 1\nmetrics: {listen: }" + STREAM, "config.yaml:2: metrics.listen: "),
        ("version: 1\nstreams: []", "config.yaml:2: streams: must be a mapping of names, not a li"),
        ("version: 1\nstreams:\n  a: {}", "config.yaml:3: streams.a.source: is missing"),
        (
            "version: 1\nstreams:\n  gate:\n    source: x\n    recrod: {}",
            "config.yaml:5: streams.gate.recrod: no such key; did you mean 'record'?",
        ),
        (
            "version: 1\ndefaults:\n  detect: {q: 1}" + STREAM,
            "config.yaml:3: defaults.detect.q: no such key; there are confidence, labels, max_fps",
        ),
        (
            "version: 1\nengines: {}" + STREAM,
            "config.yaml:2: engines: no such key; did you mean 'e",
        ),
        ("version: 1\ndefaults: {source: x}" + STREAM, "config.yaml:2: defaults.source: no such k"),
        (
            "version: 1\nstreams:\n  gate:\n    sorce: x",
            "config.yaml:4: streams.gate.sorce: no such key; did you mean 'source'?",
        ),
        (
            "version: 1\nmodels:\n  default:\n    pth: x" + STREAM,
            "config.yaml:4: models.default.pth: no such key; did you mean 'path'?",
        ),
        ("version: 1\nmodels: {}" + STREAM, "config.yaml:2: models: has too few entries"),
    ],
)
def test_what_is_missing_or_unknown(path: Path, text: str, sentence: str) -> None:
    assert refusal(path, text).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "defaults:\n  max_frame_age: 500",
            "3: defaults.max_frame_age: '500' needs a unit, as in 500ms, 10s, 5min, 14d",
        ),
        ("defaults:\n  stall_timeout: 5m", "3: defaults.stall_timeout: 'm' is not a known unit"),
        (
            "defaults:\n  stall_timeout: 0s",
            "3: defaults.stall_timeout: must be greater than or equal to 0.1s, is '0s'",
        ),
        (
            "defaults: {privacy: {blur: {hold: 2s}}}",
            "2: defaults.privacy.blur.hold: must be less than or equal to 1s, is '2s'",
        ),
        ("defaults: {record: {keep_for: 0s}}", "2: defaults.record.keep_for: must be greater than"),
        ("storage: {min_free: 2}", "2: storage.min_free: '2' needs a unit, as in 500MB, 2GB, 1GiB"),
        ("storage: {max_bytes: 2Gb}", "2: storage.max_bytes: 'Gb' is not a known unit"),
        ("storage: {require_mount: yes}", "2: storage.require_mount: must be true or false, not '"),
        (
            "defaults: {policy: lossles}",
            "2: defaults.policy: 'lossles' is not one of 'auto', 'live' ",
        ),
        ("defaults: {detect: {confidence: true}}", "2: defaults.detect.confidence: must be a numb"),
        ("defaults: {detect: {confidence: 1.1}}", "2: defaults.detect.confidence: must be less th"),
        ("defaults: {detect: {confidence: .nan}}", "2: defaults.detect.confidence: must be a numb"),
        ("defaults: {detect: {max_fps: 1e999}}", "2: defaults.detect.max_fps: must be a finite n"),
        ("defaults: {detect: {labels: face}}", "2: defaults.detect.labels: must be a list, as in"),
        ("defaults:\n detect: {labels: [a,\n 2]}", "4: defaults.detect.labels[1]: must be text"),
        ("defaults: {record: {path: /a.mp4}}", "2: defaults.record.path: must be relative"),
        ("defaults: {record: {path: ../a.mp4}}", "2: defaults.record.path: must stay under stora"),
        ("defaults: {record: {path: a.mkv}}", "2: defaults.record.path: must end in .mp4"),
        ("defaults: {events: {path: '{a}'}}", "2: defaults.events.path: only {stream} is allowed"),
        ("defaults: {record: {segment: 1ms}}", "2: defaults.record.segment: must be greater than"),
        (
            "defaults:\n  record: {video: source, draw: blur}",
            "3: streams.a.record.video: source is a copy, which can't be blurred",
        ),
        (
            "defaults:\n  privacy: {blur: {}}\n  record: {video: source}",
            "4: streams.a.record.video: source is a copy, which can't be blurred",
        ),
        (
            "defaults:\n  privacy: {masks: {a: [[0, 0], [1, 0], [1, 1]]}}\n"
            "  record: {when: never, video: source}",
            "4: streams.a.record.video: source is a copy, which can't be masked",
        ),
        (
            "defaults:\n  privacy: {blur: {confidance: 0.1}}",
            "3: defaults.privacy.blur.confidance: no such key; did you mean 'confidence'?",
        ),
        (
            "defaults: {privacy: {blur: {hold: 2s}}}",
            "2: defaults.privacy.blur.hold: must be less than or equal to 1",
        ),
        (
            "defaults: {privacy: {blur: {style: pixels}}}",
            "2: defaults.privacy.blur.style: 'pixels' is not one of",
        ),
        ("defaults: {privacy: {blur: true}}", "2: defaults.privacy.blur: must be a mapping of k"),
        ("defaults: {privacy: null}", "2: defaults.privacy: must be a mapping of keys"),
        (
            "defaults: {privacy: {blur: {model: faces}}}",
            "2: streams.a.privacy.blur.model: no model 'faces' under models; there are default",
        ),
        (
            "defaults:\n  privacy: {blur: null}\n  blur: {}",
            "4: streams.a.blur: is the old name of privacy.blur, which is set too: keep that one",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 0], [0.9, 1.2]]}}}",
            "2: defaults.privacy.masks.a[2][1]: must be less than or equal to 1, is 1.2",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, -0.1], [1, 1]]}}}",
            "2: defaults.privacy.masks.a[1][1]: must be greater than or equal to 0, is -0.1",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 1]]}}}",
            "2: defaults.privacy.masks.a: has 2 points: a polygon has 3 to 100",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 1], [1, 0], [0, 1]]}}}",
            "2: defaults.privacy.masks.a: crosses itself: the side from [0.0, 0.0] to [1.0, 1.0]",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [0.5, 0.5], [1, 1]]}}}",
            "2: defaults.privacy.masks.a: turns back on itself at ",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 0], [1, 0], [1, 1]]}}}",
            "2: defaults.privacy.masks.a: repeats the point [1.0, 0.0]",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1], [1, 1]]}}}",
            "2: defaults.privacy.masks.a[1]: has too few entries",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0, 0], [1, 0, 0], [1, 1, 0]]}}}",
            "2: defaults.privacy.masks.a[0]: has too many entries: at most 2",
        ),
        (
            "defaults: {privacy: {masks: {a: null}}}",
            "2: defaults.privacy.masks.a: must be a list, as in [a, b], not nothing",
        ),
        (
            "defaults: {privacy: {masks: {A: [[0, 0], [1, 0], [1, 1]]}}}",
            "2: defaults.privacy.masks.A: a mask's name is 1 to 63 of a-z, 0-9, _ and -",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 0], [1, 1], [0, 1]]}}}",
            "2: streams.a.privacy.masks: cover the whole picture, which leaves nothing to detect",
        ),
        (
            "defaults: {privacy: {masks: {a: [[0, 0], [1, 0], [1, 1]],\n"
            " b: [[0, 0], [0, 1], [1, 1]]}}}",
            "2: streams.a.privacy.masks: cover the whole picture, which leaves nothing to detect",
        ),
        (
            "batching: {max_size: 65}",
            "2: batching.max_size: must be auto or a whole number from 1 ",
        ),
        ("batching: {max_size: true}", "2: batching.max_size: must be auto or a whole number"),
        ("engine: {devices: []}", "2: engine.devices: has too few entries"),
        ("engine: {devices: [0.5]}", "2: engine.devices[0]: must be a whole number, not 0.5"),
        ("models: {default: {input_size: [512]}}", "2: models.default.input_size: has too few en"),
        (
            "models: {default: {input_size: [512, 512, 3]}}",
            "2: models.default.input_size: has too many entries: at most 2",
        ),
        (
            "models: {default: {input_size: [8, 512]}}",
            "2: models.default.input_size[0]: must be gr",
        ),
        ("models: {default: {path: ''}}", "2: models.default.path: is empty or contains control"),
        ("metrics: {listen: 10864}", "2: metrics.listen: write HOST:PORT, as in 127.0.0.1:10864"),
        ("metrics: {listen: ':80'}", "2: metrics.listen: ':80' is not HOST:PORT: write it as in"),
        ("metrics: {listen: 'h:65536'}", "2: metrics.listen: 'h:65536' is not HOST:PORT"),
        ("metrics: {listen: '[1::2::3]:80'}", "2: metrics.listen: "),
        ("metrics: {listen: '::1:80'}", "2: metrics.listen: '::1:80' is not HOST:PORT"),
    ],
)
def test_what_has_a_wrong_value(path: Path, text: str, sentence: str) -> None:
    sentence = sentence.replace("7: streams", "3: streams")
    assert refusal(path, f"version: 1\n{text}{STREAM}").startswith(f"config.yaml:{sentence}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine: {devices: %s}", "[0, 1]"),
    ],
)
def test_what_can_not_be_obeyed_yet(path: Path, key: str, value: str) -> None:
    sentence = refusal(path, f"version: 1\n{key % value}{STREAM}")
    assert sentence.startswith("config.yaml:2: ")
    assert "is not supported yet" in sentence


def test_a_model_name_that_is_no_name(path: Path) -> None:
    sentence = refusal(path, f"version: 1\nmodels:\n  Faces: {{}}{STREAM}")
    assert sentence.startswith("config.yaml:3: models.Faces: a model's name is 1 to 63 of a-z")


def test_a_node_that_is_no_name(path: Path) -> None:
    sentence = refusal(path, f"version: 1\nnode: Box 7{STREAM}")
    assert sentence.startswith("config.yaml:2: node: 'Box 7' is not a name of 1 to 63 of a-z")


def test_both_names_of_frames(path: Path) -> None:
    events = "{frames: always, when: always}"
    sentence = refusal(path, f"version: 1\nstreams:\n  x:\n    source: x.mp4\n    events: {events}")
    assert sentence == (
        "config.yaml:5: streams.x.events.when: is the old name of events.frames, which is set too: "
        "keep that one"
    )


def test_both_names_of_one_key(path: Path) -> None:
    sentence = refusal(
        path,
        "version: 1\nmodels: {a: {}, b: {}}\nstreams:\n  x: {source: x.mp4, models: a, model: b}",
    )
    assert sentence == (
        "config.yaml:4: streams.x.model: is the old name of models, which is set too: keep that one"
    )


@pytest.mark.parametrize(
    ("defaults", "own", "old", "new"),
    [
        ("privacy: {blur: {}}", "blur: null", "blur", "privacy.blur"),
        ("privacy: {blur: {}}", "blur: {hold: 0s}", "blur", "privacy.blur"),
        ("models: default", "model: null", "model", "models"),
        ("events: {frames: never}", "events: {when: null}", "events.when", "events.frames"),
    ],
)
def test_an_old_name_in_a_stream_under_the_new_one_in_the_defaults(
    path: Path, defaults: str, own: str, old: str, new: str
) -> None:
    text = f"version: 1\ndefaults: {{{defaults}}}\nstreams:\n  x: {{source: x.mp4, {own}}}"
    sentence = f"is the old name of {new}, which is set too: keep that one"
    assert refusal(path, text) == f"config.yaml:4: streams.x.{old}: {sentence}"


@pytest.mark.parametrize(
    "keys",
    [
        "defaults: {record: {draw: blur}}\nstreams: {x: {source: x.mp4, privacy: {blur: null}}}",
        "defaults: {privacy: {blur: null}}\nstreams: {x: {source: x.mp4, record: {draw: blur}}}",
    ],
)
def test_a_blur_that_is_drawn_and_denied(path: Path, keys: str) -> None:
    assert "streams.x.record.draw: blur is an old name of privacy.blur, which is null" in refusal(
        path, f"version: 1\n{keys}"
    )


@pytest.mark.parametrize("name", ["../up", "Gate", "a b", "", "a/b", "é", "a" * 64, "a.b"])
def test_a_stream_name_that_is_no_name(path: Path, name: str) -> None:
    sentence = refusal(path, f"version: 1\nstreams:\n  '{name}': {{source: x}}")
    assert sentence.startswith("config.yaml:3: streams.")
    assert sentence.endswith("a stream's name is 1 to 63 of a-z, 0-9, _ and -")


@pytest.mark.parametrize(
    "streams",
    [
        "gate: rtsp://u:hunter2@h/x",
        "rtsp://u:hunter2@h/x: {}",
        "gate: {source: 'ftp://u:hunter2@h/x'}",
        "gate: {source: 'rtsp://u:hunter2/3@h/x'}",
        "gate: {source: ['rtsp://u:hunter2@h/x']}",
        "gate: {source: x, model: 'rtsp://u:hunter2@h/x'}",
        "gate: {source: x, models: 'rtsp://u:hunter2@h/x'}",
        "gate: {source: x, policy: 'rtsp://u:hunter2@h/x'}",
        "gate: {source: x, 'rtsp://u:hunter2@h/x': 1}",
        "gate: {source: x, stall_timeout: 'rtsp://u:hunter2@h/x'}",
        "gate: {source: x, stall_timeout: '${CAMERA_PW}'}",
        "gate: {source: x, models: ['${CAMERA_PW}']}",
        "gate: {source: x, detect: {confidence: '${CAMERA_PW}'}}",
    ],
)
def test_no_refusal_repeats_a_password(
    path: Path, streams: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_PW", "hunter2")
    sentence = refusal(path, f"version: 1\nstreams:\n  {streams}")
    assert sentence.startswith("config.yaml:3: streams.")
    assert "hunter2" not in sentence


def test_a_long_key_or_value_is_cut(path: Path) -> None:
    assert len(refusal(path, f"version: 1\n{'k' * 900}: 1{STREAM}")) < 250
    assert len(refusal(path, f"version: 1\ndefaults: {{policy: {'v' * 9000}}}{STREAM}")) < 250


def test_two_outputs_of_one_name(path: Path) -> None:
    text = (
        "version: 1\ndefaults:\n  record: {path: all.mp4}\n"
        "streams: {a: {source: x}, b: {source: y}}"
    )
    assert refusal(path, text) == (
        "config.yaml:3: streams.b.record.path: would write to the same file as a.record"
    )


def test_waiting_for_company_must_not_take_a_frames_whole_time(path: Path) -> None:
    text = "version: 1\nbatching: {max_delay: 300ms}\nstreams:\n  door: {source: v4l2:0}"
    assert refusal(path, text) == (
        "config.yaml:4: streams.door.max_frame_age: is less than twice batching.max_delay: "
        "frames would become too old while waiting"
    )


def test_only_rtsp_is_sent_over_udp(path: Path) -> None:
    text = "version: 1\nstreams:\n  door:\n    source: rtsps://192.0.2.1/s\n    transport: udp"
    assert refusal(path, text) == (
        "config.yaml:5: streams.door.transport: only rtsp:// can be sent over udp: set it to tcp"
    )
    text = text.replace("rtsps", "rtsp")
    path.write_text(text)
    assert load(path).streams["door"].transport == "udp"


def test_a_camera_is_not_decoded_by_the_gpu(path: Path) -> None:
    text = "version: 1\nstreams:\n  door:\n    source: v4l2:0\n    decode: cuda"
    assert refusal(path, text) == (
        "config.yaml:5: streams.door.decode: cameras are decoded on the CPU: set it to auto"
    )


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.yaml", "source: y", "streams.d/a.yaml:1: a stream 'a' is already in config.yaml:2"),
        ("b.yaml", "source: y\nfoo: 1", "streams.d/b.yaml:2: streams.b.foo: no such key; "),
        ("b.yaml", "", "streams.d/b.yaml: is empty"),
        ("b.yaml", "- y", "streams.d/b.yaml:1: must be a mapping of keys"),
        (
            "b.yaml",
            "a: 1\n" * 2,
            "streams.d/b.yaml:2: streams.b.a: is given twice, first on line 1",
        ),
        ("b.yaml", "source: y\nmodels: z", "streams.d/b.yaml:2: streams.b.models: no model 'z'"),
        ("B.yaml", "source: y", "streams.d/B.yaml:1: streams.B: a stream's name is 1 to 63 of"),
        ("b.yml", "source: y", "streams.d/b.yml: must end in .yaml to be read"),
    ],
)
def test_what_is_wrong_in_the_folder(path: Path, name: str, text: str, sentence: str) -> None:
    folder = path.parent / "streams.d"
    folder.mkdir()
    (folder / name).write_text(text)
    assert refusal(path, f"version: 1{STREAM}").startswith(sentence)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "it is not a file name"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: can't be read: {reason}"


def test_a_folder_that_is_none_adds_nothing(path: Path) -> None:
    (path.parent / "streams.d").write_text("")
    path.write_text(f"version: 1{STREAM}")
    assert list(load(path).streams) == ["a"]


def test_every_mistake_is_named_in_the_order_of_the_file(path: Path) -> None:
    """Of the file and of streams.d; a file that can't be read at all hides no other's mistakes."""
    folder = path.parent / "streams.d"
    folder.mkdir()
    (folder / "gate.yaml").write_text("a: [")
    (folder / "yard.yaml").write_text("source: yard.mp4\npolicy: fast\n")
    path.write_text(
        "version: 2\nmetrics: {listen: here}\nbatching: {max_sise: 3, max_delay: 4}\n"
        "streams: {a: {detect: {confidence: 7}}}"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    keys = [
        "config.yaml:1: version: ",
        "config.yaml:2: metrics.listen: ",
        "config.yaml:3: batching.max_delay: ",
        "config.yaml:3: batching.max_sise: ",
        "config.yaml:4: streams.a.detect.confidence: ",
        "streams.d/yard.yaml:2: streams.yard.policy: ",
        "config.yaml:4: streams.a.source: is missing",
        "streams.d/gate.yaml:1: is not YAML: ",
    ]
    sentences = (str(caught.value), *caught.value.others)
    found = [sentence.removeprefix(f"{path.parent}/") for sentence in sentences]
    assert len(found) == len(keys), found
    assert all(map(str.startswith, found, keys)), found


@pytest.mark.parametrize(
    ("devices", "wrong"), [("[-1]", ["[0]"]), ("[a, 99]", ["[0]", "[1]"]), ("[[]]", ["[0]"])]
)
def test_a_list_of_invalid_entries_is_not_called_too_short(
    path: Path, devices: str, wrong: list[str]
) -> None:
    path.write_text(f"version: 1\nengine: {{devices: {devices}}}{STREAM}")
    with pytest.raises(ConfigError) as caught:
        load(path)
    sentences = (str(caught.value), *caught.value.others)
    keys = [f"{path}:2: engine.devices{entry}: " for entry in wrong]
    assert len(sentences) == len(keys), sentences
    assert all(map(str.startswith, sentences, keys)), sentences


def test_every_contradiction_is_named(path: Path) -> None:
    path.write_text(
        "version: 1\nmodels: {a: {}, b: {}}\nstreams:\n"
        "  x: {source: x.mp4, models: [a, c]}\n  y: {source: y.mp4, models: a, transport: udp}\n"
        "  z: {source: z.mp4, models: [b, b]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    sentences = (str(caught.value), *caught.value.others)
    keys = ("streams.x.models: ", "streams.y.transport: ", "streams.z.models: ")
    assert len(sentences) == len(keys)
    assert all(key in sentence for key, sentence in zip(keys, sentences, strict=True)), sentences
