"""The supervisor: each start that can fail or be stopped, and everything that ends a run."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from centernetd.capture import open as opening
from centernetd.config import Config, StreamConfig, load
from centernetd.errors import CenternetdError, ConfigError, EngineError, ModelError, StartupError
from centernetd.flow import Reason, Result
from centernetd.inference.detector import Detector
from centernetd.inference.stage import InferenceStage
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
from centernetd.sink.stage import Outcome
from tests.fakes import PATIENCE, FakeEngine, FakeSource, picture, wait_until
from tests.integration.process import write_config
from tests.manifests import plain

CAMERA = {"source": "rtsp://127.0.0.1:1/cam", "events": {"when": "always"}}
FILE = {"source": "clip.mp4", "events": {"when": "always"}}
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


class House:
    """A supervisor around a fake engine and fake sources, and what systemd hears of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self._said: list[str] = []
        self.engine = FakeEngine(max_batch=1)
        self.before_loading: Callable[[], None] = lambda: None
        self.sources: list[FakeSource] = []
        self._before = set(threading.enumerate())
        monkeypatch.setattr(supervising, "load_detector", self._load)
        monkeypatch.setattr(Notifier, "_send", lambda _, message: self._said.append(message))
        monkeypatch.setattr(opening, "open_video", self._open)
        self.supervise(cam=CAMERA)

    def supervise(self, **streams: dict[str, Any]) -> None:
        self.configure(**streams)
        path = self.folder / "config.yaml"
        self.reread: Callable[[], Config] = lambda: load(path)
        self.supervisor = Supervisor(load(path), reread=lambda: self.reread())

    def configure(self, **streams: dict[str, Any]) -> None:
        write_config(self.folder, streams)

    def _load(
        self, _model: object, _choice: object, _sizes: object, pool: Executor, *_: object
    ) -> Detector:
        self.before_loading()
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
        """The daemon's threads that began since this house was made: others' may hang."""
        kinds = ("feed", "harvest", "capture:", "record:", "events:", "storage")
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
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return House(tmp_path, monkeypatch)


@pytest.mark.parametrize("follows", [True, False])
def test_a_run_that_writes_nothing_claims_no_folder(house: House, *, follows: bool) -> None:
    """A daemon that follows a configuration publishes there how its reloads went."""
    house.configure(cam={**FILE, "record": {"when": "never"}, "events": {"when": "never"}})
    config = load(house.folder / "config.yaml")
    house.supervisor = Supervisor(config, reread=house.reread if follows else None)
    assert house.supervisor.run(lambda: None) == 0
    assert (house.folder / "state").exists() == follows
    house.assert_in_order()


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


def test_a_run_over_files_ends_by_itself(house: House) -> None:
    house.supervise(one=FILE, two=FILE)
    assert house.supervisor.run(lambda: None) == 0
    assert house.notified == ["EXTEND_TIMEOUT_USEC=300000000", "READY=1", "STOPPING=1"]
    for lane in house.supervisor.lanes:
        assert set(lane.ledger.read().written.values()) == {FRAMES}
    assert house.engine.closed
    house.assert_in_order()


def test_a_stop_while_it_runs(house: House) -> None:
    assert house.run_and_stop() == 0
    assert house.notified[-1] == "STOPPING=1"
    (lane,) = house.supervisor.lanes
    assert all(lane.ledger.read().written.values())
    house.assert_in_order()


def test_nothing_is_made_before_the_run(house: House) -> None:
    threads = threading.active_count()
    Supervisor(load(house.folder / "config.yaml"))
    assert threading.active_count() == threads
    assert not (house.folder / "state").exists()
    assert house.notified == []


def test_a_stop_drops_what_an_encoder_is_behind_with(house: House) -> None:
    house.patch.setattr(supervising, "ORDERLY", Deadlines(0.5, 0.5, 0.6, PATIENCE))
    write, stopped = Recorder.write, threading.Event()

    def behind(recorder: Recorder, result: Result) -> Outcome:
        if stopped.is_set():
            (lane,) = house.supervisor.lanes
            wait_until(lambda: lane.closed and not len(lane.outlets[RECORD]))
        return write(recorder, result)

    def stop() -> None:
        (lane,) = house.supervisor.lanes
        stopped.set()
        wait_until(lambda: len(lane.outlets[RECORD]) > 1)
        house.supervisor.stop()

    house.patch.setattr(Recorder, "write", behind)
    assert house.supervisor.run(house.when_running(stop)) == 0
    (lane,) = house.supervisor.lanes
    assert lane.ledger.read().dropped[RECORD, Reason.SHUTDOWN] > 0
    house.assert_in_order()


@pytest.mark.parametrize("step", ["before", "loading", "warming", "warm"])
def test_a_stop_at_any_step_of_the_start_starts_nothing(house: House, step: str) -> None:
    stop, steps = house.supervisor.stop, {"before": lambda: house.supervisor.stop()}
    steps["loading"] = lambda: setattr(house, "before_loading", stop)
    steps["warming"] = lambda: house.patch.setattr(house.engine, "bucket", stopping(stop))
    steps["warm"] = lambda: house.patch.setattr(InferenceStage, "warm_up", stopping(stop))
    steps[step]()
    assert house.supervisor.run(lambda: pytest.fail("it never ran")) == 0
    assert house.engine.closed
    house.assert_never_ready()


def stopping(stop: Callable[[], None]) -> Callable[..., int]:
    def call(*_: object) -> int:
        stop()
        return 1

    return call


def test_a_warm_up_is_cut_short(house: House) -> None:
    def wait(_: object) -> None:
        house.supervisor.stop()
        wait_until(lambda: all(lane.closed for lane in house.supervisor.lanes))

    house.patch.setattr(house.engine, "wait", wait)
    assert house.supervisor.run(lambda: None) == 0
    assert len(house.engine.sizes) == 1, "of at least three slots"
    house.assert_never_ready()


def broken_root(house: House) -> None:
    (house.folder / "state").touch()


def taken_port(house: House) -> None:
    def refuse(*_: object) -> None:
        raise StartupError("metrics.listen can't be bound")

    house.patch.setattr(supervising, "Service", refuse)


def refused_model(house: House) -> None:
    def refuse() -> None:
        raise ModelError("the model is refused")

    house.before_loading = refuse


def unknown_label(house: House) -> None:
    house.supervise(cam={**CAMERA, "detect": {"labels": ["purple"]}})


def failing_engine(house: House) -> None:
    house.engine = FakeEngine(max_batch=1, fail_at=1)


def faulty_engine(house: House) -> None:
    house.patch.setattr(house.engine, "enqueue", fail)


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
    house: House, arrange: Callable[[House], None], error: type[CenternetdError]
) -> None:
    arrange(house)
    with pytest.raises(error):
        house.supervisor.run(lambda: pytest.fail("it never ran"))
    assert house.supervisor.engine_failed == (error is EngineError)
    house.assert_never_ready()


@pytest.mark.parametrize(
    "name", ["storage", "feed", "harvest", "record:cam", "events:cam", "capture:cam"]
)
def test_a_start_without_enough_threads_starts_nothing(house: House, name: str) -> None:
    without_threads(house.patch, name)
    with pytest.raises(StartupError, match=f"no thread for {name}: can't start new thread"):
        house.supervisor.run(lambda: pytest.fail("it never ran"))
    assert house.engine.closed or name == "storage", "it was never opened"
    house.assert_never_ready()


def test_an_engine_that_fails_while_it_runs(house: House) -> None:
    house.engine = FakeEngine(max_batch=1, fail_at=20)
    with pytest.raises(EngineError):
        house.supervisor.run(lambda: None)
    assert house.supervisor.engine_failed
    house.assert_in_order()


def break_encoder(house: House) -> None:
    house.patch.setattr(recorder, "choose_encoder", fail)


def break_muxer(house: House) -> None:
    mux = FragmentedMp4.write
    bad = lambda file, packet: fail() if file.path.name == "bad.mp4" else mux(file, packet)  # noqa: E731
    house.patch.setattr(FragmentedMp4, "write", bad)


def break_events(house: House) -> None:
    house.patch.setattr(events, "event", fail)


def loop_of_links(house: House) -> None:
    (house.folder / "state").mkdir()
    (house.folder / "state/loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("arrange", "stream"),
    [
        (break_muxer, {}),
        (break_encoder, {"events": {"when": "never"}}),
        (break_events, {"record": {"when": "never"}}),
        (loop_of_links, {"record": {"path": "loop/{stream}.mp4"}}),
        (loop_of_links, {"events": {"when": "always", "path": "loop/{stream}.jsonl"}}),
    ],
)
def test_a_fault_in_a_sink_stays_in_its_stream(
    house: House,
    caplog: pytest.LogCaptureFixture,
    arrange: Callable[[House], None],
    stream: dict[str, Any],
) -> None:
    arrange(house)
    neither = {"record": {"when": "never"}, "events": {"when": "never"}}
    other = FILE if arrange in (break_muxer, loop_of_links) else {**FILE, **neither}
    house.supervise(bad={**FILE, **stream}, other=other)
    assert house.supervisor.run(lambda: None) == 1
    bad, well = (lane.ledger.read() for lane in house.supervisor.lanes)
    assert (bad.inferred, well.inferred) == (FRAMES, FRAMES)
    assert [n for (_, why), n in bad.dropped.items() if why is Reason.FAILED and n] == [FRAMES]
    assert all(count == FRAMES for count in well.written.values())
    assert caplog.text.count("frames are dropped until it works again") == 1
    house.assert_in_order()


@pytest.mark.parametrize(
    ("where", "what"),
    [(Streams, "check"), (Reloader, "check"), (Service, "tick"), (Streams, "start")],
)
def test_a_fault_anywhere_is_raised_after_the_stop(house: House, where: type, what: str) -> None:
    def break_it() -> None:
        house.patch.setattr(where, what, fail)

    if what == "start":
        break_it()
    with pytest.raises(ZeroDivisionError):
        house.supervisor.run(house.when_running(break_it))
    assert house.notified[-1] == "STOPPING=1"
    house.assert_in_order()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, StartupError])
def test_what_the_tick_raises_is_raised_after_the_stop(
    house: House, error: type[BaseException]
) -> None:
    def raise_it() -> None:
        raise error

    with pytest.raises(error):
        house.supervisor.run(house.when_running(raise_it))
    (lane,) = house.supervisor.lanes
    assert all(lane.ledger.read().written.values())
    house.assert_in_order()


def test_a_reload_that_finds_too_few_threads_changes_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.supervise(cam=CAMERA, door=CAMERA)
    kept: list[object] = []

    def reload() -> None:
        kept.extend(house.supervisor.lanes)
        changed = {**CAMERA, "stall_timeout": "7s"}
        house.configure(cam=changed, new=CAMERA, last=CAMERA)
        without_threads(house.patch, "events:last")
        house.supervisor.reload()

    def on_tick() -> None:
        running()
        if "nothing has changed: no thread for events:last" in caplog.text:
            house.supervisor.stop()

    running = house.when_running(reload)
    assert house.supervisor.run(on_tick) == 0
    assert house.supervisor.lanes == kept
    assert len(house.sources) == 2, "no camera was opened for it, and none again"
    house.assert_in_order()


def test_a_reload_after_the_last_frame_is_refused(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Inference has ended, and a stream that is added would wait for it for ever."""
    house.supervise(clip=FILE)
    let_go = threading.Event()
    close = Recorder.close

    def hold(recorder: Recorder) -> Any:
        assert let_go.wait(PATIENCE)
        return close(recorder)

    house.patch.setattr(Recorder, "close", hold)

    def on_tick() -> None:
        if not any(thread.name == "feed" for thread in house.threads()):
            house.configure(clip=FILE, more=FILE)
            house.supervisor.reload()
        if "nothing has changed: every stream has ended" in caplog.text:
            let_go.set()

    assert house.supervisor.run(on_tick) == 0
    assert [lane.name for lane in house.supervisor.lanes] == ["clip"]
    house.assert_in_order()
