"""How faults are measured: the fixtures of the suite, and its report."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests import exports, models
from tests.faults.promises import PROMISES
from tests.faults.report import table
from tests.faults.results import Notebook, save
from tests.integration.conftest import SQUARES_SIZE
from tests.rtsp import RtspServer, Video, moving_square, serving

Measure = Callable[[str, float], None]

RATE = 10  # frames a second of a scripted camera: the machine is not what is tested

_notebook = pytest.StashKey[Notebook]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_notebook] = Notebook()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    results = terminalreporter.config.stash[_notebook].results
    if results.measured:
        terminalreporter.section("promises")
        terminalreporter.write_line(table(results))
    if path := os.environ.get("FAULTS_RESULTS"):
        save(results, Path(path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and "measure" in item.fixturenames:
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        item.config.stash[_notebook].skip(_told(item), reason)
    return report


def _told(item: pytest.Function) -> str:
    """Return the first line of a test's docstring, and what it was given."""
    told = (item.function.__doc__ or "").strip().splitlines()[0].rstrip(".")
    given = getattr(item, "callspec", None)
    return f"{told}: {given.id}" if given else told


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """What notes a figure for a promise, and fails where it breaks it."""
    notebook = request.config.stash[_notebook]

    def note(promise: str, figure: float) -> None:
        notebook.note(promise, _told(request.node), figure)
        assert figure <= PROMISES[promise].bound, PROMISES[promise].words

    return note


@pytest.fixture(scope="session")
def rounds() -> int:
    """How many times each fault is tried."""
    return int(os.environ.get("FAULTS_ROUNDS", "1"))


@pytest.fixture(scope="session")
def soak() -> float:
    """How many seconds the long runs take."""
    return 60 * float(os.environ.get("FAULTS_SOAK", "0.1"))


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a network that marks coloured squares and costs next to nothing."""
    folder = tmp_path_factory.mktemp("squares")
    return exports.write(models.squares(SQUARES_SIZE), folder / "squares.onnx")


@pytest.fixture(scope="session")
def video() -> Video:
    return moving_square(rate=RATE)


@pytest.fixture
def camera(video: Video) -> Iterator[RtspServer]:
    with serving(video) as server:
        yield server
