"""Reloads: the status that is published, and requests that come close together."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from centernetd.config import BlurConfig, Config, PrivacyConfig, SourceUri, StreamConfig
from centernetd.config.config import Difference
from centernetd.errors import ConfigError
from centernetd.run import reload as reloading
from centernetd.run.reload import ModelLoader, Reloader, ReloadStatus
from centernetd.run.streams import Streams
from centernetd.service.service import Service
from centernetd.sink.housekeeping import Housekeeping
from centernetd.sink.lockfile import LockFile, published_in


class FakeConfig:
    """A configuration of these streams."""

    sha256 = "c0ffee"

    def __init__(self, *streams: StreamConfig) -> None:
        self.streams = {stream.name: stream for stream in streams}


NOTHING = FakeConfig()


class FakeLoader:
    """Loads nothing, or what it is given."""

    def __init__(self) -> None:
        self.done = True
        self.loading: list[str] = []

    def begin(self, *_: object) -> None: ...
    def accept(self) -> None: ...
    def reject(self) -> None: ...


class FakeRun:
    """Streams, housekeeping and service around a reloader, and what it does to them."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        before: FakeConfig = NOTHING,
        after: FakeConfig = NOTHING,
    ) -> None:
        self.now, self.asked, self.settled = 0.0, False, True
        self.changes: list[Difference | ConfigError] = []
        self.published = ""
        self.loader = FakeLoader()
        monkeypatch.setattr(reloading, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(reloading, "difference", self._difference)
        self.reloader = Reloader(
            cast(Config, before),
            lambda: cast(Config, after),
            self._take,
            cast(Streams, self),
            cast(ModelLoader, self.loader),
            cast(Housekeeping, self),
            cast(Service, self),
        )

    @property
    def status(self) -> ReloadStatus:
        return ReloadStatus.from_text(self.published)

    def _take(self) -> bool:
        asked, self.asked = self.asked, False
        return asked

    def _difference(self, *_: object) -> Difference:
        change = self.changes.pop(0)
        if isinstance(change, ConfigError):
            raise change
        return change

    def publish(self, text: str) -> None:
        self.published = text

    def apply(self, *_: object) -> None: ...
    def manage(self, *_: object) -> None: ...
    def reloading(self) -> None: ...
    def reloaded(self, *_: object) -> None: ...


def change(*added: str) -> Difference:
    return Difference(added, (), ())


@pytest.mark.parametrize("first", [change("door"), ConfigError("streams is empty")])
def test_the_result_of_a_reload_is_readable_before_another_begins(
    monkeypatch: pytest.MonkeyPatch, first: Difference | ConfigError
) -> None:
    run = FakeRun(monkeypatch)
    run.changes, run.asked, run.settled = [first, change()], True, False
    run.reloader.check()
    run.asked = run.settled = True  # requested again meanwhile
    for _ in range(3):
        run.reloader.check()
        assert (run.status.begun, run.status.ended) == (1, 1)
        assert str(first) in (run.status.outcome, run.status.refusal)
    run.now += reloading.READABLE_FOR
    for _ in range(2):
        run.reloader.check()
    assert (run.status.begun, run.status.ended) == (2, 2)
    assert run.status.outcome == "nothing has changed"


def test_requests_that_come_before_a_reload_begins_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch)
    run.changes, run.asked = [change("door")], True
    for _ in range(3):
        run.now += 10
        run.reloader.check()
    assert (run.status.begun, run.status.ended, run.status.outcome) == (1, 1, "added door")


def test_what_is_loading_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch)
    run.changes, run.asked = [change("door")], True
    run.loader.done, run.loader.loading = False, ["faces", "coco"]
    for _ in range(3):
        run.reloader.check()
        assert (run.status.begun, run.status.ended) == (1, 0)
        assert run.status.loading == "faces, coco"
    run.loader.done, run.settled = True, False
    run.reloader.check()
    assert (run.status.ended, run.status.loading) == (0, "")
    run.settled = True
    run.reloader.check()
    assert (run.status.ended, run.status.outcome) == (1, "added door")


LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TOP = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))
MOST = ((0.0, 0.0), (0.9, 0.0), (0.9, 1.0), (0.0, 1.0))
LESS = "its masks are smaller: {} % of the picture was masked and no longer is"


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        (PrivacyConfig(masks={"a": LEFT}), PrivacyConfig(), [LESS.format("50.0")]),
        (PrivacyConfig(masks={"a": LEFT}), PrivacyConfig(masks={"a": TOP}), [LESS.format("25.0")]),
        (PrivacyConfig(masks={"a": MOST}), PrivacyConfig(masks={"b": LEFT}), [LESS.format("40.0")]),
        (
            PrivacyConfig(masks={"a": LEFT, "b": TOP}),
            PrivacyConfig(masks={"a": LEFT}),
            [LESS.format("25.0")],
        ),
        (PrivacyConfig(masks={"a": LEFT}), PrivacyConfig(masks={"b": MOST}), []),
        (PrivacyConfig(), PrivacyConfig(masks={"a": LEFT}), []),
        (PrivacyConfig(blur=BlurConfig()), PrivacyConfig(), ["it is no longer blurred"]),
        (PrivacyConfig(), PrivacyConfig(blur=BlurConfig()), []),
    ],
)
def test_less_privacy_is_logged(
    before: PrivacyConfig,
    after: PrivacyConfig,
    sentences: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old, new = (
        FakeConfig(StreamConfig("gate", SourceUri("x.mp4"), privacy=privacy))
        for privacy in (before, after)
    )
    run = FakeRun(monkeypatch, old, new)
    run.changes, run.asked, run.now = [Difference((), (), ("gate",))], True, 10
    run.reloader.check()
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == sentences


def test_what_a_daemon_publishes_is_read_back() -> None:
    status = ReloadStatus(pid=7, begun=3, ended=2, outcome="added gate", refusal="")
    assert ReloadStatus.from_text(status.to_text()) == status
    torn = ["", "{", '{"pid": 1, "more": 2}', status.to_text()[:-3]]
    forged = ["7", "[7]", "[" * 4000, "{}", '{"pid": "7"}', '{"pid": -1}', '{"pid": 0}']
    forged += [f'{{"pid": {2**31}}}', '{"pid": 7, "begun": null}', '{"pid": 7, "outcome": 1}']
    for text in torn + forged:
        with pytest.raises(ValueError):  # noqa: PT011
            ReloadStatus.from_text(text)


@pytest.mark.parametrize("letter", ["a", "\N{SNOWMAN}", "\N{GRINNING FACE}", "\n", "\0"])
def test_a_result_of_any_length_is_read_back(tmp_path: Path, letter: str) -> None:
    status = ReloadStatus(pid=7, begun=3, ended=2, refusal=letter * 5000)
    holder = LockFile(tmp_path / "lock")
    holder.publish(status.to_text())
    read = ReloadStatus.from_text(published_in(tmp_path / "lock") or "")
    assert read.ended == 2
    assert read.refusal.startswith(letter * 500)
    assert read.refusal.endswith("(the daemon's log has it all)")
    holder.close()
