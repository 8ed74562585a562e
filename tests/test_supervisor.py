"""The supervisor: each start that can fail or be stopped, and everything that ends a run."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from centernetd.capture import open as opening
from centernetd.config import Config, StreamConfig, load
from centernetd.errors import CenternetdError, ConfigError, EngineError, ModelError, StartupError
from centernetd.flow import Reason
from centernetd.inference.detector import Detector
from centernetd.inference.stage import InferenceStage
from centernetd.run import models as loading_models
from centernetd.run import supervisor as supervising
from centernetd.run.reload import Reloader
from centernetd.run.stop import Deadlines
from centernetd.run.streams import Streams
from centernetd.run.supervisor import Supervisor
from centernetd.service.notify import Notifier
from centernetd.service.service import Service
from centernetd.sink import events, recorder
from centernetd.sink.muxer import FragmentedMp4
from centernetd.sink.recorder import Recorder
from centernetd.sink.registry import RECORD
from centernetd.sink.stage import Outcome, Released
from tests.fakes import WAIT_TIMEOUT, FakeEngine, FakeSource, picture, wait_until
from tests.integration.process import free_port, write_config
from tests.manifests import plain

CAMERA = {"source": "rtsp://127.0.0.1:1/cam", "events": {"frames": "always"}}
FILE = {"source": "clip.mp4", "events": {"frames": "always"}}
FRAMES = 5  # of a file


class Camera(FakeSource):
    """A camera that goes on until it is closed."""

    def __init__(self) -> None:
        super().__init__([])
        self._never = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        pts = 0
        while not self.closed:
            self._never.wait(0.005)
            yield picture(pts, 48, 64)
            pts += 40


class Rig:
    """A supervisor around a fake engine and fake sources, and what systemd hears of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self._said: list[str] = []
        self.engine = FakeEngine(max_batch=1)  # the first that is loaded
        self.loaded: list[FakeEngine] = []
        self.fail_at: int | None = None  # at which batch others fail
        self.before_loading: Callable[[], None] = lambda: None
        self.sources: list[FakeSource] = []
        self._before = set(threading.enumerate())
        monkeypatch.setattr(loading_models, "load_detector", self._load)
        monkeypatch.setattr(Notifier, "_send", lambda _, message: self._said.append(message))
        monkeypatch.setattr(opening, "open_video", self._open)
        self.supervise(cam=CAMERA)

    def supervise(self, models: dict[str, Any] | None = None, **streams: dict[str, Any]) -> None:
        self.configure(models, **streams)
        path = self.folder / "config.yaml"
        self.reread: Callable[[], Config] = lambda: load(path)
        self.supervisor = Supervisor(load(path), reread=lambda: self.reread())

    def configure(self, models: dict[str, Any] | None = None, **streams: dict[str, Any]) -> None:
        sections: dict[str, Any] = {} if models is None else {"models": models}
        write_config(self.folder, streams, **sections)

    def _load(
        self, _model: object, _choice: object, _sizes: object, pool: Executor, *_: object
    ) -> Detector:
        self.before_loading()
        if self.loaded:
            self.engine = FakeEngine(max_batch=1, fail_at=self.fail_at)
        self.loaded.append(self.engine)
        return Detector(self.engine, plain(), pool)

    def _open(self, stream: StreamConfig, _decoding: object) -> FakeSource:
        made = FakeSource([picture(40 * n, 48, 64) for n in range(FRAMES)])
        self.sources.append(made if stream.from_file else Camera())
        return self.sources[-1]

    def when_running(self, act: Callable[[], object]) -> Callable[[], None]:
        """Return what does ``act`` once, as soon as frames have come through."""
        acted: list[bool] = []

        def on_tick() -> None:
            if not acted and all(lane.ledger.read().inferred for lane in self.supervisor.lanes):
                acted.append(True)
                act()

        return on_tick

    def run_and_stop(self) -> int:
        return self.supervisor.run(self.when_running(self.supervisor.stop))

    @property
    def notified(self) -> list[str]:
        """What was sent to systemd, without the lines about the status."""
        return [line for line in self._said if not line.startswith(("STATUS", "WATCHDOG"))]

    def threads(self) -> list[threading.Thread]:
        """The daemon's threads that began since this rig was made: others' may hang."""
        kinds = ("feed", "harvest", "smaller", "capture:", "record:", "events", "storage")
        began = set(threading.enumerate()) - self._before
        return [thread for thread in began if thread.name.startswith(kinds)]

    def assert_in_order(self) -> None:
        """What ran has ended, what was open is closed, every frame is accounted for."""
        assert self.supervisor.left_behind == []
        assert all(source.closed for source in self.sources)
        assert not list(self.folder.rglob("*.part"))
        for lane in self.supervisor.lanes:
            book = lane.ledger.read()
            assert book.balanced
            assert not any(book.in_flight.values())
        # One that was cancelled before it began isn't waited for.
        wait_until(lambda: not self.threads())

    def assert_never_ready(self) -> None:
        """No camera was asked for anything, and systemd doesn't believe that this runs."""
        assert self.sources == []
        assert "READY=1" not in self.notified
        self.assert_in_order()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return Rig(tmp_path, monkeypatch)


@pytest.mark.parametrize("follows", [True, False])
def test_a_run_that_writes_nothing_claims_no_folder(rig: Rig, *, follows: bool) -> None:
    """A daemon that follows a configuration publishes there how its reloads went."""
    rig.configure(cam={**FILE, "record": {"when": "never"}, "events": {"frames": "never"}})
    config = load(rig.folder / "config.yaml")
    rig.supervisor = Supervisor(config, reread=rig.reread if follows else None)
    assert rig.supervisor.run(lambda: None) == 0
    assert (rig.folder / "state").exists() == follows
    rig.assert_in_order()


def without_threads(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the system give no thread of these names any more."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", refuse)


def fail(*_: object) -> None:
    raise ZeroDivisionError("a fault")


def test_a_run_over_files_ends_by_itself(rig: Rig) -> None:
    rig.supervise(one=FILE, two=FILE)
    assert rig.supervisor.run(lambda: None) == 0
    assert rig.notified == ["EXTEND_TIMEOUT_USEC=300000000", "READY=1", "STOPPING=1"]
    for lane in rig.supervisor.lanes:
        assert set(lane.ledger.read().written.values()) == {FRAMES}
    assert rig.engine.closed
    rig.assert_in_order()


def test_a_stop_while_it_runs(rig: Rig) -> None:
    assert rig.run_and_stop() == 0
    assert rig.notified[-1] == "STOPPING=1"
    (lane,) = rig.supervisor.lanes
    assert all(lane.ledger.read().written.values())
    rig.assert_in_order()


def test_collections_skip_what_exists_at_the_start_until_the_end(rig: Rig) -> None:
    frozen: list[int] = []
    act = rig.when_running(rig.supervisor.stop)

    def on_tick() -> None:
        frozen.append(gc.get_freeze_count())
        act()

    assert rig.supervisor.run(on_tick) == 0
    assert min(frozen) > len(gc.get_objects()) / 2
    assert gc.get_freeze_count() == 0


def test_tracks_are_published_from_the_start(rig: Rig) -> None:
    port = free_port()
    lines = {"door": {"from": [0.5, 0.0], "to": [0.5, 1.0]}}
    write_config(rig.folder, {"cam": {**CAMERA, "lines": lines}}, port=port)
    rig.supervisor = Supervisor(load(rig.folder / "config.yaml"))
    seen: list[str] = []

    def scrape() -> None:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_TIMEOUT) as page:
            seen.append(page.read().decode())
        rig.supervisor.stop()

    assert rig.supervisor.run(rig.when_running(scrape)) == 0
    assert 'centernetd_tracks_live{stream="cam"}' in seen[0]
    assert 'centernetd_line_crossings_total{direction="in",label="all",line="door"' in seen[0]


def test_nothing_is_made_before_the_run(rig: Rig) -> None:
    threads = set(threading.enumerate())
    Supervisor(load(rig.folder / "config.yaml"))
    assert set(threading.enumerate()) <= threads, "others' may end meanwhile"
    assert not (rig.folder / "state").exists()
    assert rig.notified == []


def test_a_stop_drops_what_an_encoder_is_behind_with(rig: Rig) -> None:
    rig.patch.setattr(supervising, "ORDERLY", Deadlines(0.5, 0.5, 0.6, WAIT_TIMEOUT))
    write, stopped = Recorder.write, threading.Event()

    def behind(recorder: Recorder, result: Released) -> Outcome:
        if stopped.is_set():
            (lane,) = rig.supervisor.lanes
            wait_until(lambda: lane.closed and not len(lane.outlets[RECORD]))
        return write(recorder, result)

    def stop() -> None:
        (lane,) = rig.supervisor.lanes
        stopped.set()
        wait_until(lambda: len(lane.outlets[RECORD]) > 1)
        rig.supervisor.stop()

    rig.patch.setattr(Recorder, "write", behind)
    assert rig.supervisor.run(rig.when_running(stop)) == 0
    (lane,) = rig.supervisor.lanes
    assert lane.ledger.read().dropped[RECORD, Reason.SHUTDOWN] > 0
    rig.assert_in_order()


@pytest.mark.parametrize("step", ["before", "loading", "warming", "warm"])
def test_a_stop_at_any_step_of_the_start_starts_nothing(rig: Rig, step: str) -> None:
    stop, steps = rig.supervisor.stop, {"before": lambda: rig.supervisor.stop()}
    steps["loading"] = lambda: setattr(rig, "before_loading", stop)
    steps["warming"] = lambda: rig.patch.setattr(rig.engine, "bucket", stopping(stop))
    steps["warm"] = lambda: rig.patch.setattr(InferenceStage, "warm_up", stopping(stop))
    steps[step]()
    assert rig.supervisor.run(lambda: pytest.fail("it never ran")) == 0
    assert rig.engine.closed
    rig.assert_never_ready()


def stopping(stop: Callable[[], None]) -> Callable[..., int]:
    def call(*_: object) -> int:
        stop()
        return 1

    return call


def test_a_warm_up_is_cut_short(rig: Rig) -> None:
    def wait(_: object) -> None:
        rig.supervisor.stop()
        wait_until(lambda: all(lane.closed for lane in rig.supervisor.lanes))

    rig.patch.setattr(rig.engine, "wait", wait)
    assert rig.supervisor.run(lambda: None) == 0
    assert len(rig.engine.sizes) == 1, "of at least three slots"
    rig.assert_never_ready()


def test_frames_are_inferred_while_smaller_batches_are_prepared(rig: Rig) -> None:
    release, over = threading.Event(), threading.Event()

    def prepare(must_stop: Callable[[], bool]) -> None:
        assert release.wait(WAIT_TIMEOUT)
        wait_until(must_stop)
        over.set()

    rig.patch.setattr(rig.engine, "prepare_smaller", prepare)

    def stop() -> None:
        assert not rig.supervisor.complete
        release.set()
        rig.supervisor.stop()

    assert rig.supervisor.run(rig.when_running(stop)) == 0
    assert over.is_set()
    assert rig.supervisor.complete
    assert rig.engine.closed
    rig.assert_in_order()


@pytest.mark.parametrize("error", [EngineError, ModelError])
def test_smaller_batches_that_can_not_be_prepared_cost_a_warning(
    rig: Rig, error: type[CenternetdError], caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(_: object) -> None:
        raise error("memory is short")

    rig.patch.setattr(rig.engine, "prepare_smaller", prepare)
    assert rig.run_and_stop() == 0
    (warning,) = (text for text in caplog.messages if "smaller" in text)
    assert warning == (
        "model default: not all sizes of batches can be prepared; smaller ones are padded, which "
        "takes longer: memory is short"
    )
    rig.assert_in_order()


def test_an_engine_that_hangs_preparing_is_not_closed(rig: Rig) -> None:
    """Freeing what a thread uses would crash the process."""
    never = threading.Event()
    rig.patch.setattr(rig.engine, "prepare_smaller", lambda _: never.wait(WAIT_TIMEOUT))
    assert rig.run_and_stop() == 0
    assert rig.supervisor.left_behind == ["smaller:default"]
    assert not rig.engine.closed
    never.set()


def broken_root(rig: Rig) -> None:
    (rig.folder / "state").touch()


def taken_port(rig: Rig) -> None:
    def refuse(*_: object) -> None:
        raise StartupError("metrics.listen can't be bound")

    rig.patch.setattr(supervising, "Service", refuse)


def refused_model(rig: Rig) -> None:
    def refuse() -> None:
        raise ModelError("the model is refused")

    rig.before_loading = refuse


def unknown_label(rig: Rig) -> None:
    rig.supervise(cam={**CAMERA, "detect": {"labels": ["purple"]}})


def failing_engine(rig: Rig) -> None:
    rig.engine = FakeEngine(max_batch=1, fail_at=1)


def faulty_engine(rig: Rig) -> None:
    rig.patch.setattr(rig.engine, "enqueue", fail)


@pytest.mark.parametrize(
    ("arrange", "error"),
    [
        (taken_port, StartupError),
        (broken_root, StartupError),
        (refused_model, ModelError),
        (unknown_label, ConfigError),
        (failing_engine, EngineError),
        (faulty_engine, CenternetdError),
    ],
)
def test_a_start_that_fails_starts_nothing(
    rig: Rig, arrange: Callable[[Rig], None], error: type[CenternetdError]
) -> None:
    arrange(rig)
    with pytest.raises(error):
        rig.supervisor.run(lambda: pytest.fail("it never ran"))
    assert rig.supervisor.engine_failed == (error is EngineError)
    rig.assert_never_ready()


@pytest.mark.parametrize(
    "name", ["storage", "feed:default", "harvest:default", "record:cam", "events", "capture:cam"]
)
def test_a_start_without_enough_threads_starts_nothing(rig: Rig, name: str) -> None:
    without_threads(rig.patch, name)
    with pytest.raises(StartupError, match=f"no thread for {name}: can't start new thread"):
        rig.supervisor.run(lambda: pytest.fail("it never ran"))
    assert rig.engine.closed or name == "storage", "it was never opened"
    rig.assert_never_ready()


def test_an_engine_that_fails_while_it_runs(rig: Rig) -> None:
    rig.engine = FakeEngine(max_batch=1, fail_at=20)
    with pytest.raises(EngineError):
        rig.supervisor.run(lambda: None)
    assert rig.supervisor.engine_failed
    rig.assert_in_order()


def break_encoder(rig: Rig) -> None:
    rig.patch.setattr(recorder, "choose_encoder", fail)


def break_muxer(rig: Rig) -> None:
    mux = FragmentedMp4.write
    bad = lambda file, packet: fail() if file.path.name == "bad.mp4" else mux(file, packet)  # noqa: E731
    rig.patch.setattr(FragmentedMp4, "write", bad)


def break_events(rig: Rig) -> None:
    rig.patch.setattr(events, "to_json", fail)


def loop_of_links(rig: Rig) -> None:
    (rig.folder / "state").mkdir()
    (rig.folder / "state/loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("arrange", "stream"),
    [
        (break_muxer, {}),
        (break_encoder, {"events": {"frames": "never"}}),
        (break_events, {"record": {"when": "never"}}),
        (loop_of_links, {"record": {"path": "loop/{stream}.mp4"}}),
        (loop_of_links, {"events": {"frames": "always", "path": "loop/{stream}.jsonl"}}),
    ],
)
def test_a_fault_in_a_sink_stays_in_its_stream(
    rig: Rig,
    caplog: pytest.LogCaptureFixture,
    arrange: Callable[[Rig], None],
    stream: dict[str, Any],
) -> None:
    arrange(rig)
    neither = {"record": {"when": "never"}, "events": {"frames": "never"}}
    other = FILE if arrange in (break_muxer, loop_of_links) else {**FILE, **neither}
    rig.supervise(bad={**FILE, **stream}, other=other)
    assert rig.supervisor.run(lambda: None) == 1
    bad, well = (lane.ledger.read() for lane in rig.supervisor.lanes)
    assert (bad.inferred, well.inferred) == (FRAMES, FRAMES)
    assert [n for (_, why), n in bad.dropped.items() if why is Reason.FAILED and n] == [FRAMES]
    assert all(count == FRAMES for count in well.written.values())
    assert caplog.text.count("frames are dropped until it works again") == 1
    rig.assert_in_order()


@pytest.mark.parametrize(
    ("where", "what"),
    [(Streams, "check"), (Reloader, "check"), (Service, "tick"), (Streams, "start")],
)
def test_a_fault_anywhere_is_raised_after_the_stop(rig: Rig, where: type, what: str) -> None:
    def break_it() -> None:
        rig.patch.setattr(where, what, fail)

    if what == "start":
        break_it()
    with pytest.raises(ZeroDivisionError):
        rig.supervisor.run(rig.when_running(break_it))
    assert rig.notified[-1] == "STOPPING=1"
    rig.assert_in_order()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, StartupError])
def test_what_the_tick_raises_is_raised_after_the_stop(
    rig: Rig, error: type[BaseException]
) -> None:
    def raise_it() -> None:
        raise error

    with pytest.raises(error):
        rig.supervisor.run(rig.when_running(raise_it))
    (lane,) = rig.supervisor.lanes
    assert all(lane.ledger.read().written.values())
    rig.assert_in_order()


def test_a_reload_that_finds_too_few_threads_changes_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.supervise(cam=CAMERA, door=CAMERA)
    kept: list[object] = []

    def reload() -> None:
        kept.extend(rig.supervisor.lanes)
        changed = {**CAMERA, "stall_timeout": "7s"}
        rig.configure(cam=changed, new=CAMERA, last=CAMERA)
        without_threads(rig.patch, "record:last")
        rig.supervisor.reload()

    def on_tick() -> None:
        running()
        if "nothing has changed: no thread for record:last" in caplog.text:
            rig.supervisor.stop()

    running = rig.when_running(reload)
    assert rig.supervisor.run(on_tick) == 0
    assert rig.supervisor.lanes == kept
    assert len(rig.sources) == 2, "no camera was opened for it, and none again"
    rig.assert_in_order()


def test_a_reload_after_the_last_frame_loads_the_model_again(rig: Rig) -> None:
    """The model has ended with its last stream, of which a file is still being written."""
    rig.supervise(clip=FILE)
    let_go = threading.Event()
    close = Recorder.close

    def hold(recorder: Recorder) -> Any:
        assert let_go.wait(WAIT_TIMEOUT)
        return close(recorder)

    rig.patch.setattr(Recorder, "close", hold)

    def on_tick() -> None:
        if rig.engine.closed and len(rig.loaded) == 1:
            rig.configure(clip=FILE, more=FILE)
            rig.supervisor.reload()
        if len(rig.supervisor.lanes) == 2:
            let_go.set()

    assert rig.supervisor.run(on_tick) == 0
    assert [lane.name for lane in rig.supervisor.lanes] == ["clip", "more"]
    assert all(lane.ledger.read().inferred == FRAMES for lane in rig.supervisor.lanes)
    assert [engine.closed for engine in rig.loaded] == [True, True]
    rig.assert_in_order()


MODELS = {"first": {"path": "first.onnx"}, "other": {"path": "other.onnx"}}
FIRST, BOTH = {**CAMERA, "models": "first"}, {**CAMERA, "models": ["first", "other"]}


def test_a_reload_loads_a_model_and_another_releases_it(rig: Rig) -> None:
    """The stream that has nothing to do with either continues undisturbed."""
    rig.supervise(MODELS, cam=FIRST)
    steps = ["add", "remove", "stop"]

    def on_tick() -> None:
        lanes = rig.supervisor.lanes
        if not all(lane.ledger.read().inferred for lane in lanes):
            return
        if steps[0] == "add":
            rig.configure(MODELS, cam=FIRST, new=BOTH)
        elif steps[0] == "remove" and len(lanes) == 2:
            rig.configure(MODELS, cam=FIRST)
        elif steps[0] == "stop" and len(lanes) == 1 and rig.loaded[1].closed:
            rig.supervisor.stop()
            return
        else:
            return
        steps.pop(0)
        rig.supervisor.reload()

    assert rig.supervisor.run(on_tick) == 0
    assert steps == ["stop"]
    assert [engine.closed for engine in rig.loaded] == [True, True]
    assert len(rig.sources) == 2, "a stream was restarted"
    rig.assert_in_order()


@pytest.mark.parametrize("fails", ["loading", "warming up"])
def test_a_model_that_fails_at_a_reload_refuses_it(
    rig: Rig, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    rig.supervise(MODELS, cam=FIRST)

    def reload() -> None:
        rig.configure(MODELS, cam=BOTH)
        if fails == "loading":
            rig.before_loading = fail_to_load
        rig.fail_at = 0
        rig.supervisor.reload()

    def fail_to_load() -> None:
        raise EngineError("GPU memory is short")

    def on_tick() -> None:
        running()
        if "nothing has changed: model other: " in caplog.text:
            rig.supervisor.stop()

    running = rig.when_running(reload)
    assert rig.supervisor.run(on_tick) == 0
    assert len(rig.sources) == 1, "the stream was restarted"
    assert all(engine.closed for engine in rig.loaded)
    rig.assert_in_order()
