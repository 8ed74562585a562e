"""Signals: which of them stop, which insist, and what was ignored before."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from centernetd.run import signals
from centernetd.run.signals import handle_signals

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class Ear:
    """Hears what signals come to; ``left`` are the codes with which the process was ended."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.left: list[int] = []

    def stop(self) -> None:
        self.heard.append("stop")

    def reload(self) -> None:
        self.heard.append("reload")


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    before = {number: signal.getsignal(number) for number in (TERM, INT, HUP)}
    ear = Ear()
    monkeypatch.setattr(os, "_exit", ear.left.append)
    yield ear
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.raise_signal(number)


@pytest.mark.parametrize("pair", [(TERM, TERM), (INT, TERM), (TERM, INT)])
def test_two_at_once_are_one(ear: Ear, pair: tuple[signal.Signals, ...]) -> None:
    """As `timeout` sends them: to its child, and to the group that it is in."""
    with handle_signals(ear.stop, ear.reload):
        send(*pair)
    assert (ear.heard, ear.left) == (["stop"], [])


def test_a_second_one_after_a_while_insists(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "FORCE_AFTER", 0.0)
    with handle_signals(ear.stop, ear.reload):
        send(TERM, INT)
    assert (ear.heard, ear.left) == (["stop"], [1])


def test_a_third_one_insists(ear: Ear) -> None:
    with handle_signals(ear.stop, ear.reload):
        send(INT, INT, INT)
    assert (ear.heard, ear.left) == (["stop"], [1])


def test_hangups_never_insist(ear: Ear) -> None:
    """A terminal that closes sends one, its shell another, and a wrapper may pass both on."""
    with handle_signals(ear.stop, None):
        send(HUP, HUP, HUP, TERM)
    assert set(ear.heard) == {"stop"}
    assert ear.left == []
    ear.heard.clear()
    with handle_signals(ear.stop, ear.reload):
        send(HUP, TERM, HUP)
    assert (ear.heard, ear.left) == (["reload", "stop", "reload"], [])


@pytest.mark.parametrize("number", [INT, HUP])
def test_what_was_ignored_stays_so(ear: Ear, number: signal.Signals) -> None:
    """As with `nohup`, and for what a shell runs in the background."""
    signal.signal(number, signal.SIG_IGN)
    signals.handle_early_signals()
    with handle_signals(ear.stop, None):
        send(number)
    assert (ear.heard, ear.left) == ([], [])
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_reload_works_under_nohup(ear: Ear) -> None:
    signal.signal(HUP, signal.SIG_IGN)
    with handle_signals(ear.stop, ear.reload):
        send(HUP)
    assert ear.heard == ["reload"]


def test_the_former_handlers_are_put_back(ear: Ear) -> None:
    before = [signal.getsignal(number) for number in (TERM, INT, HUP)]
    with handle_signals(ear.stop, ear.reload):
        assert signal.getsignal(TERM) is not before[0]
    assert [signal.getsignal(number) for number in (TERM, INT, HUP)] == before


def test_a_daemon_that_has_stopped_ends_whatever_else_is_sent(ear: Ear) -> None:
    """Its exit code counts, and Python's own handlers would be replaced before it has ended."""
    signals.handle_early_signals()
    with handle_signals(ear.stop, ear.reload):
        send(TERM)
    send(TERM, INT, HUP)
    assert (ear.heard, ear.left) == (["stop"], [])
    assert {signal.getsignal(number) for number in (TERM, INT, HUP)} == {signal.SIG_IGN}


DURING_THE_IMPORTS = """
import signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "centernetd.cli":
            assert not {"numpy", "cv2", "av", "typer"} & set(sys.modules), "too late"
            try:
                signal.raise_signal(signal.Signals[sys.argv.pop()])
            except KeyboardInterrupt as error:
                raise ImportError("a library failed") from error  # as onnxruntime's does
            sys.exit(7)
sys.meta_path.insert(0, Finder())
from centernetd.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        ("run video.mp4", "SIGTERM", 0),
        ("run -c config.yaml", "SIGTERM", 0),
        ("--debug run", "SIGHUP", 7),
        ("run video.mp4", "SIGINT", 130),
        ("bench", "SIGTERM", -TERM),
        ("detect picture.png", "SIGHUP", -HUP),
    ],
)
def test_a_signal_while_the_program_is_loaded(arguments: str, number: str, code: int) -> None:
    """The daemon is not ended by a signal, which systemd would take for what it asked for."""

    def by_default() -> None:
        for each in (TERM, INT, HUP):
            signal.signal(each, signal.SIG_DFL)

    command = [sys.executable, "-c", DURING_THE_IMPORTS, *arguments.split(), number]
    done = subprocess.run(
        command, check=False, timeout=60, capture_output=True, text=True, preexec_fn=by_default
    )
    assert done.returncode == code, done.stderr
