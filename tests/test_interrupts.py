"""Ctrl-C in commands: no thread of theirs waits for ever, and nobody waits for a source."""

import _thread
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from centernetd import __main__
from centernetd.bench import pipeline
from centernetd.bench.gpu import SLOTS, measure
from centernetd.bench.overhead import overhead
from centernetd.cli import app as app_module
from centernetd.commands import probe
from centernetd.config import SourceUri, StreamConfig, load
from centernetd.flow import Lane
from centernetd.inference.detector import Detector
from tests.commandline import CommandLine, clip, configuration
from tests.fakes import WAIT_TIMEOUT, FakeEngine, wait_until
from tests.manifests import plain


def on_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what is ``real``, but for an interrupt in place of the call of that number."""
    calls = iter(range(number, -1, -1))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls, 1) == 0:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("number", [0, 1, 30, 119])
def test_the_pipeline_with_nothing_to_do(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    threads = set(threading.enumerate())
    monkeypatch.setattr(Lane, "offer", on_call(number, Lane.offer))
    with pytest.raises(KeyboardInterrupt):
        overhead(2, 8)
    wait_until(lambda: set(threading.enumerate()) <= threads)


def test_a_thread_of_it_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Detector, "read", fail)
    with pytest.raises(ZeroDivisionError):
        overhead(1, 1)


def test_the_engine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may wait in an engine that is closed next."""
    threads = set(threading.enumerate())
    engine = FakeEngine()
    slots = engine.make_slots(SLOTS)
    monkeypatch.setattr(engine, "enqueue", on_call(40, engine.enqueue))
    with pytest.raises(KeyboardInterrupt):
        measure(engine, slots, 4, 60.0)
    assert set(threading.enumerate()) <= threads


def test_a_look_at_sources_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, looked = threading.Event(), list[str]()

    def hang(stream: StreamConfig) -> probe.SourceProbe:
        looked.append(stream.name)
        if len(looked) == 1:
            _thread.interrupt_main()
        assert let_go.wait(WAIT_TIMEOUT)
        return probe.SourceProbe(stream.name)

    monkeypatch.setattr(probe, "_probe", hang)
    streams = [StreamConfig(str(n), SourceUri("rtsp://192.0.2.1/s")) for n in range(40)]
    with pytest.raises(KeyboardInterrupt):
        probe.probe_sources(streams)
    let_go.set()
    assert len(looked) < len(streams), "those that it had not begun with are left out"


def test_the_process_waits_for_no_thread(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left: list[int] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module, "leave", left.append)
    monkeypatch.setattr("centernetd.cli.check.probe_all", interrupt)
    path = configuration(tmp_path, "centerface", gate={"source": "gate.mp4"})
    assert cli("check", "--probe", "-c", path).code == 130
    assert left == [130]


HANGING = """
import sys, tempfile, time
from unittest import mock
from centernetd import __main__

def hang(_):
    with tempfile.TemporaryDirectory() as folder:
        print(folder, flush=True)
        time.sleep(600)

with mock.patch("centernetd.cli.check.probe_all", hang):
    __main__.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_temporary_files(tmp_path: Path, number: int) -> None:
    config = configuration(tmp_path, "centerface", gate={"source": "gate.mp4"})
    command = [sys.executable, "-c", HANGING, "check", "--probe", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.send_signal(number)
        assert process.wait(WAIT_TIMEOUT) == 130
    assert not folder.exists()


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr("sys.argv", ["centernetd", "doctor"])
    monkeypatch.setattr("centernetd.cli.main", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        __main__.main()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, former)
        signal.signal(signal.SIGTERM, before)


def test_an_interrupt_before_a_command_begins_is_no_fault(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module, "leave", left.append)
    monkeypatch.setattr(app_module, "app", interrupt)
    assert cli("check").code == 130
    assert left == [130]


def test_bench_fills_before_it_enqueues(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU would copy rows while they are written, which the fake engine refuses."""
    clip(tmp_path / "gate.mp4")
    config = load(configuration(tmp_path, "centerface", gate={"source": "gate.mp4"}))
    (stream,) = config.streams.values()

    def detector(_config: object, _stream: object, pool: ThreadPoolExecutor) -> Detector:
        return Detector(FakeEngine(), plain(), pool)

    monkeypatch.setattr(pipeline, "_detector", detector)
    costs, frames = pipeline._stage_costs(config, stream, tmp_path)
    assert frames == 10
    assert set(costs) == {"decode", "preprocess", "infer", "annotate", "encode"}
