"""The progress bar of a run over files."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from centernetd.commands.progress import FileProgress, PhasesBar
from centernetd.flow import Reason, Result
from centernetd.sink.registry import EVENTS, RECORD
from tests.sinks import open_lane, result


def screen(*, terminal: bool) -> tuple[io.StringIO, Console]:
    shown = io.StringIO()
    return shown, Console(file=shown, force_terminal=terminal, width=100, color_system=None)


def test_shows_what_is_done_with_by_the_slowest_sink() -> None:
    """Of 4 frames inferred on, one isn't recorded yet; a fifth was skipped."""
    lane = open_lane(RECORD, EVENTS)
    lane.status.total_frames = 10
    for number in range(4):
        lane.offer(result(number).frame)
        frame = lane.take()
        assert frame is not None
        lane.deliver(Result(frame, result(number).detections))
    lane.ledger.write(RECORD, 3)
    lane.ledger.write(EVENTS, 1)
    lane.ledger.drop(EVENTS, Reason.UNWANTED, 3)
    lane.skip()
    shown, console = screen(terminal=True)
    with FileProgress(lambda: [lane], console):
        pass
    lines = [line for line in shown.getvalue().splitlines() if "fps" in line]
    assert re.search(r"gate .* 4/10 .* fps", lines[-1]), lines[-1]


def test_nothing_is_drawn_off_a_terminal() -> None:
    shown, console = screen(terminal=False)
    with FileProgress(lambda: [open_lane()], console) as progress:
        progress.update()
    assert shown.getvalue() == ""


@pytest.mark.parametrize("bar", [lambda console: FileProgress(list, console), PhasesBar])
def test_what_is_printed_meanwhile_stays_on_stdout(
    bar: Callable[[Console], FileProgress | PhasesBar], capsys: pytest.CaptureFixture[str]
) -> None:
    shown, console = screen(terminal=True)
    with bar(console):
        print("the result")
    assert capsys.readouterr().out == "the result\n"
    assert "the result" not in shown.getvalue()
