"""Sources that are well but odd: other codecs, no rate, 8K, sizes and clocks that change."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import pytest

from centernetd.capture.source import Picture
from centernetd.capture.video import VideoSource
from centernetd.config.sections import Policy
from tests import clips, http_servers, tls
from tests.capture_rig import Rig, video_source
from tests.fakes import FakeSource, picture
from tests.rtsp import RtspServer, Video, moving_square, serving

TIMEOUT = 20.0


@contextmanager
def opened(url: str) -> Iterator[VideoSource]:
    source = video_source(url, TIMEOUT)
    try:
        yield source
    finally:
        source.close()


def some(url: str, count: int) -> list[Picture]:
    with opened(url) as source:
        return list(islice(source, count))


@pytest.fixture(scope="module")
def video() -> Video:
    return moving_square(count=20, rate=50)


def test_h265_over_a_network(tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "clip.ts", 12, size=(96, 128), codec="libx265")
    with http_servers.serving({"/live": clip}) as url, opened(f"{url}/live") as source:
        assert source.info.codec == "hevc"
        assert [clips.number_of(picture.image.pixels()) for picture in source] == list(range(12))
        assert source.damaged == 0


def test_a_camera_that_encrypts_and_vouches_for_itself(video: Video, tmp_path: Path) -> None:
    with serving(video) as camera, tls.relay(camera.port, tmp_path) as port:
        assert len(some(f"rtsps://127.0.0.1:{port}/play", 12)) == 12


def test_a_camera_that_reports_no_rate(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = RtspServer._description
    monkeypatch.setattr(
        RtspServer,
        "_description",
        lambda server, shown, **what: describe(server, shown, **what).replace(
            f"a=framerate:{video.rate}", "a=framerate:0"
        ),
    )
    with serving(video) as camera:
        pts = [picture.pts for picture in some(camera.url("play"), 12)]
    known = [at for at in pts if at is not None]
    assert {b - a for a, b in pairwise(known)} == {90_000 // video.rate}


def test_the_size_may_change_while_it_runs(video: Video) -> None:
    with serving(video) as camera:
        shapes = [picture.image.pixels().shape for picture in some(camera.url("resize/10"), 35)]
    assert set(shapes) == {(128, 160, 3), (96, 224, 3)}


def test_a_clock_that_jumps_is_passed_on_for_the_timeline_to_correct(video: Video) -> None:
    with serving(video) as camera:
        pts = [picture.pts or 0 for picture in some(camera.url("jump/10"), 35)]
    steps = [b - a for a, b in pairwise(pts)]
    assert max(steps) > 3000 * 90_000
    assert min(steps) < -3000 * 90_000


def test_8k_is_read(tmp_path: Path) -> None:
    clip = clips.jpeg(tmp_path / "8k.jpg", 7680, 4320)
    with opened(str(clip)) as source:
        (found,) = source
    assert found.image.pixels().shape == (4320, 7680, 3)


@pytest.mark.parametrize("policy", ["live", "lossless"])
def test_a_live_source_that_comes_in_bursts_is_paced(
    monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    source = FakeSource([picture(n * 1000) for n in range(4)], in_bursts=True)
    rig = Rig("http://server/live.m3u8", policy=policy)
    rig.openings._steps += [source]
    waits: list[float] = []

    def wait(timeout: float) -> bool:
        waits.append(timeout)
        if len(waits) == 3:
            rig.stop.set()
        return rig.stop.is_set()

    monkeypatch.setattr(rig.stop, "wait", wait)
    rig.run()
    assert waits == pytest.approx([1, 2, 3], abs=0.5), "the first frame is due immediately"
